"""Runs many commands of ours at once, in the order of their schedule: by a crew, which this machine has one of."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from xbuild.base.events import emit
from xbuild.graph.children import Files, Part
from xbuild.graph.crew import Crew, Order, Own, Running
from xbuild.graph.scheduler import Schedule, State, Task


@dataclass
class Ended:
    """What came of an order. began, seconds: from the beginning of the whole; value: its object; memory: at most.

    held: (seconds since the beginning of the whole, jobs that it held), whenever that changed. where: the machine that
    it ran on last, "" for this one. because: the title of what it needs, and was not built; for_want: what became of
    that.
    """

    order: Order
    state: State = State.WAITING
    began: float | None = None
    seconds: float = 0.0
    code: int = 0
    value: dict[str, Any] = field(default_factory=dict)
    reason: str = ""
    because: str = ""
    log: Path | None = None
    parts: list[Part] = field(default_factory=list)
    memory: int = 0
    held: list[tuple[float, int]] = field(default_factory=list)
    where: str = ""
    for_want: str = "failed"

    @property
    def name(self) -> str:
        """Of its task."""
        return self.order.task.name

    @property
    def status(self) -> str:
        """`built`, `up-to-date` and so on, as its object has it; `failed`, `skipped`, `interrupted`, `waiting`."""
        if self.state in (State.SKIPPED, State.WAITING):
            return str(self.state)
        return str(self.value.get("status") or ("ok" if self.state is State.DONE else "failed"))


class Watcher(Protocol):
    """Who shows what happens."""

    def began(self, ended: Ended, running: Running) -> None:
        """It runs now; again, if the machine was lost on which it ran."""

    def finished(self, ended: Ended) -> None:
        """It has ended, or was there, or is skipped."""

    def looked(self) -> None:
        """What children told is up to date."""


class Run:
    """A run of orders. jobs: of all together. at_once: so many commands at most. place: a closed directory of ours.

    crew: who carries them out; None: this machine, with `jobs` and `at_once`.
    started: when, in seconds since 1970. took: seconds, when it is over.
    """

    def __init__(
        self, orders: Sequence[Order], place: Path, watcher: Watcher, *, jobs: int, at_once: int = 0,
        keep_going: bool = False, crew: Crew | None = None,
    ) -> None:  # fmt: skip
        self.schedule = Schedule([order.task for order in orders], keep_going=keep_going)
        self.ended = {order.task.name: Ended(order) for order in orders}
        self.crew: Crew = crew or Own(place, jobs, at_once)
        self._place = place
        self._watcher = watcher
        self._running: dict[str, Running] = {}
        self._begun: dict[str, int] = {}
        self._asked: set[str] = set()
        self._start = time.monotonic()
        self.started = time.time()
        self.took = 0.0

    @property
    def jobs(self) -> int:
        """Of all together."""
        return self.crew.jobs

    def run(self) -> list[Ended]:
        """Run all, and give `all`. Whatever ends this ends what runs, in order; `all` tells how far it had come."""
        self.crew.open()
        try:
            while True:
                self._begin()
                if not self._running:
                    break
                look = self.crew.wait(len(self.schedule.ready()))
                self._note()
                if look:
                    self._look()
                self._reap()
        finally:
            self._stop()
        return self.all

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._start

    @property
    def all(self) -> list[Ended]:
        """What came of each so far, in the order in which they could be done one after the other."""
        return [self.ended[name] for name in self.schedule.order]

    def _begin(self) -> None:
        """Begin what can begin; what is there ends at once, and what needs only that can begin too."""
        while found := [task for task in self.schedule.ready() if task.name not in self._asked]:
            for task in found:
                self._ask(task)
        for task in self.schedule.ready():
            if not self.crew.takes(self.ended[task.name].order):
                break
            self._start_one(task)

    def _ask(self, task: Task) -> None:
        self._asked.add(task.name)
        ended = self.ended[task.name]
        if value := ended.order.there():
            self.schedule.begin(task.name)
            ended.began, ended.value = self.seconds, value
            self._finish(task.name, 0)
            return
        ended.reason = ended.order.reason()

    def _start_one(self, task: Task) -> None:
        name, ended = task.name, self.ended[task.name]
        files = Files(self._place, name)
        self._running[name] = self.crew.begin(ended.order, files, self.schedule.priorities[name])
        self.schedule.begin(name)
        ended.log = files.log
        self._note()

    def _note(self) -> None:
        """Take note of what has begun, and of how many jobs each holds."""
        for name, running in self._running.items():
            ended = self.ended[name]
            if running.begun != self._begun.get(name, 0):
                self._begun[name] = running.begun
                ended.state, ended.began, ended.where = State.RUNNING, self.seconds, running.where
                ended.parts, ended.held = running.told.parts, [(self.seconds, 1)]
                emit("build-began", build=ended.order.title, reason=ended.reason, log=str(ended.log))
                self._watcher.began(ended, running)
            elif running.begun and running.held != ended.held[-1][1]:
                ended.held.append((self.seconds, running.held))

    def _look(self) -> None:
        for name, running in self._running.items():
            self._pass_on(name, running.look())
            self.ended[name].memory = running.memory
        self._watcher.looked()

    def _pass_on(self, name: str, events: Sequence[Mapping[str, Any]]) -> None:
        title = self.ended[name].order.title
        for event in events:
            if event["event"] != "finished":
                emit(**{key: value for key, value in event.items() if key not in ("schema", "time")}, build=title)

    def _reap(self) -> None:
        for name, running in list(self._running.items()):
            if (result := running.result()) is not None:
                self._take(name, *result)

    def _take(self, name: str, code: int, value: dict[str, Any]) -> None:
        # It may have begun and ended since the last look.
        self._note()
        running = self._running.pop(name)
        while events := running.look():
            self._pass_on(name, events)
        self.ended[name].value, self.ended[name].memory = value, running.memory
        self.crew.end(name)
        self._finish(name, code)

    def _finish(self, name: str, code: int) -> None:
        ended = self.ended[name]
        ended.code, ended.seconds = code, 0.0 if ended.began is None else self.seconds - ended.began
        skipped = self.schedule.end(name, well=code == 0)
        ended.state = self.schedule.states[name]
        emit("build-ended", build=ended.order.title, status=ended.status, seconds=round(ended.seconds, 3))
        self._watcher.finished(ended)
        for other in skipped:
            lost = self.ended[other]
            lost.state, lost.because = State.SKIPPED, ended.order.title
            lost.for_want = "was interrupted" if ended.status == "interrupted" else "failed"
            emit("build-skipped", build=lost.order.title, because=lost.because)
            self._watcher.finished(lost)

    def _stop(self) -> None:
        """End what still runs, in order; at once, if that is interrupted too."""
        try:
            self.crew.stop()
        finally:
            for name, running in list(self._running.items()):
                # Taking it kills it if it has not ended.
                code, value = running.result() or (-signal.SIGKILL, {"error": None})
                self._take(name, code, {**value, "status": "interrupted"})
            self.crew.close()
            self.took = self.seconds
