"""One of our own commands as a process of its own, with its talk, its result and what happens in it in files."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xbuild.base import process
from xbuild.base.errors import EXIT_BUG, EXIT_INTERRUPTED
from xbuild.build.jobs import VARIABLE

PROGRAM = (sys.executable, "-m", "xbuild")
"""What our commands are words of."""
_PIECE = 1 << 20


@dataclass
class Part:
    """A step of a command, by its events. log: its file. began, ended: seconds since 1970; ended None: it runs."""

    name: str
    depth: int
    began: float
    log: Path | None = None
    ended: float | None = None
    failed: bool = False


@dataclass
class Told:
    """What the events of a command have told so far. parts: all steps, in the order in which they began."""

    parts: list[Part] = field(default_factory=list)
    running: list[Part] = field(default_factory=list)

    def take(self, event: Mapping[str, Any]) -> None:
        """Take note of one event."""
        match event.get("event"):
            case "began":
                log = event.get("log")
                part = Part(str(event["name"]), int(event["depth"]), float(event["time"]), Path(log) if log else None)
                self.parts.append(part)
                self.running.append(part)
            case "ended" | "failed" as kind:
                same = [part for part in self.running if part.name == event["name"] and part.depth == event["depth"]]
                for part in same[-1:]:
                    part.ended, part.failed = float(event["time"]), kind == "failed"
                    self.running.remove(part)


class Child:
    """A started command of ours, which writes --json and --events. told: by its events, as of the last `look`."""

    def __init__(self, child: process.Child, files: Files) -> None:
        self._child = child
        self._files = files
        self._place = 0
        self.descriptor = os.pidfd_open(child.pid)
        self.pid = child.pid
        self.told = Told()

    def look(self) -> list[dict[str, Any]]:
        """The events that have come since the last look."""
        found: list[dict[str, Any]] = []
        with contextlib.suppress(OSError), self._files.events.open("rb") as stream:
            stream.seek(self._place)
            # A line that is not whole yet comes with the next look.
            text = stream.read(_PIECE).rpartition(b"\n")[0]
            self._place += len(text) + bool(text)
            for line in text.splitlines():
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    event = json.loads(line)
                    self.told.take(event)
                    found.append(event)
        return found

    def ask_to_end(self) -> None:
        """As `process.Child.ask_to_end`."""
        self._child.ask_to_end()

    def result(self, seconds: float | None = None) -> tuple[int, dict[str, Any]] | None:
        """Its exit code and its one object, {} if there is none; None if it still runs after `seconds`."""
        code = self._child.wait(seconds)
        return None if code is None else (code, self._files.object(code))

    def close(self) -> None:
        """Forget it."""
        os.close(self.descriptor)


@dataclass(frozen=True)
class Files:
    """Where a command writes: `log` its talk, `result` its object, `events` what happens."""

    place: Path
    name: str

    @property
    def log(self) -> Path:
        """What it says to people."""
        return self.place / f"{self.name}.log"

    @property
    def result(self) -> Path:
        """Its object for programs."""
        return self.place / f"{self.name}.json"

    @property
    def events(self) -> Path:
        """Its events, a line each."""
        return self.place / f"{self.name}.events"

    def object(self, code: int) -> dict[str, Any]:
        """The object; what stands for it where a command was killed before it could say anything."""
        with contextlib.suppress(OSError, ValueError):
            value = json.loads(self.result.read_text())
            if isinstance(value, dict):
                return value
        ending = process.describe_exit(code)
        error = {
            "kind": "bug", "code": EXIT_INTERRUPTED if code < 0 else EXIT_BUG, "message": f"it ended with {ending}",
            "where": None, "details": self.last_words(), "hint": f"what it said is in {self.log}", "log": str(self.log),
        }  # fmt: skip
        return {"status": "failed", "error": error, "warnings": []}

    def last_words(self) -> list[str]:
        """The last lines of its talk."""
        with contextlib.suppress(OSError):
            return self.log.read_text(errors="replace").splitlines()[-10:]
        return []


@contextlib.contextmanager
def started(
    words: Sequence[str], files: Files, pipe: Path, lifeline: int, more: Mapping[str, str]
) -> Iterator[Child]:
    """Start our command `words` with further jobs out of `pipe`; it is killed when the block ends, with all in it.

    lifeline: a descriptor whose other end only we have, so that it ends in order if we are killed. more: variables.
    """
    files.events.write_bytes(b"")
    env = {**os.environ, VARIABLE: str(pipe), process.LIFELINE: str(lifeline), **more}
    # What is for the page of the whole is not for each build.
    env.pop("GITHUB_STEP_SUMMARY", None)
    command = [*PROGRAM, *words, "--json", "--events", str(files.events)]
    with files.result.open("wb") as output, files.log.open("wb") as log:
        log.write(f"$ {process.show(['xbuild', *words])}\n".encode())
        log.flush()
        with process.started(command, env=env, output=output, errors=log, pass_fds=(lifeline,)) as started:
            child = Child(started, files)
            try:
                yield child
            finally:
                child.close()


def end_all(children: Sequence[Child], seconds: float) -> None:
    """Ask all to end, and wait until they have, or for `seconds`."""
    for child in children:
        child.ask_to_end()
    end = time.monotonic() + seconds
    for child in children:
        child.result(max(0.0, end - time.monotonic()))
