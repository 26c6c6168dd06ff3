"""What a build on a worker says, on its way to who has ordered it: events and the growth of its logs."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xbuild.graph.children import Files
from xbuild.graph.crew import Running

if TYPE_CHECKING:
    from distributed.worker import Worker

_PIECE = 64 << 10
"""Bytes of a log that are sent at a look: 128 kB a second for each log; what a build says faster comes later."""
_LAST = 1 << 20
"""Bytes of a log that are sent at the end, if so much is left: the end of it."""


class Talk:
    """What one task says. topic: the client's. name, attempt: which of its tasks. count: messages so far."""

    def __init__(self, worker: Worker, topic: str, name: str, attempt: int) -> None:
        self._worker = worker
        self._topic = topic
        self._task = {"name": name, "attempt": attempt}
        self._logs: dict[str, tuple[Path, int]] = {}
        self._known: tuple[int, int] = (0, 1)
        self.count = 0

    def say(self, kind: str, **facts: Any) -> None:
        """Send one message; what cannot be sent is lost, and the client asks for no more than `count`."""
        self.count += 1
        message = {**self._task, "number": self.count, "kind": kind, "time": time.time(), **facts}
        with contextlib.suppress(Exception):
            self._worker.log_event(self._topic, message)

    def look(self, running: Running, files: Files) -> None:
        """Send what is new."""
        self._logs.setdefault("", (files.log, 0))
        while events := running.look():
            for event in events:
                if log := event.get("log"):
                    self._logs.setdefault(str(log), (Path(log), 0))
            self.say("events", events=events)
        for name in self._logs:
            self._grown(name)
        if (now := (running.memory, running.held)) != self._known:
            self._known = now
            self.say("state", memory=now[0], held=now[1])

    def finish(self) -> None:
        """Send the rest of each log, or its end."""
        for name, (file, place) in list(self._logs.items()):
            with contextlib.suppress(OSError):
                size = file.stat().st_size
                if size - place > _LAST:
                    left = size - _LAST - place
                    self.say("log", log=name, data=f"\n[... {left} bytes more on the worker ...]\n".encode())
                    self._logs[name] = (file, size - _LAST)
            while self._grown(name):
                pass

    def _grown(self, name: str) -> bool:
        file, place = self._logs[name]
        with contextlib.suppress(OSError), file.open("rb") as stream:
            stream.seek(place)
            if data := stream.read(_PIECE):
                self._logs[name] = (file, place + len(data))
                self.say("log", log=name, data=data)
                return True
        return False
