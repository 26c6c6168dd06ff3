"""Who carries out the commands of a run: this machine's own crew, and what any crew has to do."""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from xbuild.base import process
from xbuild.graph.children import Child, Files, Told, end_all, started
from xbuild.graph.jobserver import TURN, Jobserver
from xbuild.graph.scheduler import Task

_LOOK = 0.25
"""Seconds between two looks at what the commands tell."""
_WEIGH = 1.0
"""Seconds between two looks at their memory."""
_PATIENCE = 20.0
"""Seconds that commands have to end in order."""


@dataclass(frozen=True)
class Elsewhere:
    """How an order is carried out on another machine. target: which it is for.

    sent: makes what the other machine needs, and gives it as words; or its object as `there`, if a shared store had
    what it makes. came: its object, made of the other machine's by what has come here. Both may raise XbuildError, may
    take their time, and are called in threads.
    """

    target: str
    sent: Callable[[], Mapping[str, Any]]
    came: Callable[[Mapping[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Order:
    """A command of ours. task: when it is to run. title: for people. words: of the command, without --json.

    there: its object, if what it makes is there already: that is looked for here, without a process; else None.
    reason: why it has to run, asked for when it begins. env: further variables of its process. elsewhere: how another
    machine does it; None: that cannot be.
    """

    task: Task
    title: str
    words: tuple[str, ...]
    there: Callable[[], dict[str, Any] | None] = lambda: None
    reason: Callable[[], str] = lambda: ""
    env: Mapping[str, str] = field(default_factory=dict)
    elsewhere: Elsewhere | None = None


class Running(Protocol):
    """A command that a crew has taken.

    begun: how often it has begun: 0 while it waits elsewhere, more than once if it was lost. where: the machine that
    it runs on, "" for this one. told: by its events, as of the last `look`. memory: bytes that it needed, at most, as
    far as that is known. held: jobs that it holds.
    """

    @property
    def begun(self) -> int: ...

    @property
    def where(self) -> str: ...

    @property
    def told(self) -> Told: ...

    @property
    def memory(self) -> int: ...

    @property
    def held(self) -> int: ...

    def look(self) -> list[dict[str, Any]]:
        """The events that have come since the last look."""

    def result(self) -> tuple[int, dict[str, Any]] | None:
        """Its exit code and its one object, {} if there is none; None if it still runs."""

    def ask_to_end(self) -> None:
        """Let it end in order."""


class Crew(Protocol):
    """What carries out commands. jobs: of all together."""

    @property
    def jobs(self) -> int: ...

    def open(self) -> None:
        """Begin work."""

    def takes(self, order: Order) -> bool:
        """Whether it has room for `order` now."""

    def begin(self, order: Order, files: Files, priority: float) -> Running:
        """Take an order. files: where what it says is to be found, here. priority: greater ones are more urgent."""

    def wait(self, waiting: int) -> bool:
        """Until something may have ended, or for a moment; whether to look now. waiting: tasks that could begin."""

    def end(self, name: str) -> None:
        """The command of this task is over, or is to be: what is left of it is killed."""

    def stop(self) -> None:
        """Ask all that run to end, and wait until they have, for a time."""

    def close(self) -> None:
        """The end; all commands are over."""


class _Own:
    """A child of ours as `Running`."""

    begun = 1
    where = ""

    def __init__(self, child: Child, block: contextlib.ExitStack) -> None:
        self.child = child
        self.block = block
        self.memory = 0
        self.held = 1

    @property
    def pid(self) -> int:
        return self.child.pid

    @property
    def told(self) -> Told:
        return self.child.told

    def look(self) -> list[dict[str, Any]]:
        return self.child.look()

    def result(self) -> tuple[int, dict[str, Any]] | None:
        return self.child.result(0)

    def ask_to_end(self) -> None:
        self.child.ask_to_end()


class Own:
    """This machine: commands are children of ours, under one budget of jobs. at_once: so many commands at most.

    place: a closed directory of ours.
    """

    def __init__(self, place: Path, jobs: int, at_once: int = 0) -> None:
        self.jobs = jobs
        self.jobserver = Jobserver(place, jobs)
        self._at_once = min(jobs, at_once or jobs)
        self._running: dict[str, tuple[Task, _Own]] = {}
        self._lifeline: tuple[int, ...] = ()
        self._looked = self._weighed = 0.0

    def open(self) -> None:
        """As of `Crew`."""
        self._lifeline = os.pipe()

    @property
    def running(self) -> int:
        """How many commands it has."""
        return len(self._running)

    @property
    def _room(self) -> int:
        return self._at_once - len(self._running)

    def takes(self, order: Order) -> bool:
        """As of `Crew`."""
        return self._room > 0 and self.jobserver.free > 0 and self._fits(order.task)

    def _fits(self, task: Task) -> bool:
        """Whether there is memory for it, as much as it needed another time, beside what the others will still need."""
        if task.memory is None or not self._running:
            return True
        growing = (max(0, (other.memory or 0) - running.memory) for other, running in self._running.values())
        return process.memory_available() - sum(growing) >= task.memory

    def begin(self, order: Order, files: Files, priority: float) -> _Own:
        """As of `Crew`."""
        name = order.task.name
        pipe = self.jobserver.begin(name, priority)
        block = contextlib.ExitStack()
        block.callback(self.jobserver.end, name)
        try:
            child = block.enter_context(started(order.words, files, pipe, self._lifeline[0], order.env))
        except BaseException:
            block.close()
            raise
        running = _Own(child, block)
        self._running[name] = (order.task, running)
        return running

    def wait(self, waiting: int) -> bool:
        """As of `Crew`; meanwhile tokens are claimed that are due to others."""
        starting = min(self._room, waiting)
        poll = select.poll()
        for _, running in self._running.values():
            poll.register(running.child.descriptor, select.POLLIN)
        contended = self.jobserver.contended(starting) if self.jobs > 1 else []
        for descriptor in contended:
            poll.register(descriptor, select.POLLIN)
        found = {descriptor for descriptor, _ in poll.poll(1000 * (TURN if self.jobs > 1 else _LOOK))}
        self.jobserver.claim(found.intersection(contended))
        self.jobserver.turn(starting)
        for name, (_, running) in self._running.items():
            running.held = self.jobserver.held(name)
        self._weigh()
        now = time.monotonic()
        if now - self._looked < _LOOK:
            return False
        self._looked = now
        return True

    def _weigh(self) -> None:
        now = time.monotonic()
        if now - self._weighed >= _WEIGH:
            self._weighed = now
            pids: Mapping[int, _Own] = {running.pid: running for _, running in self._running.values()}
            for pid, memory in process.memory_of(pids).items():
                pids[pid].memory = max(pids[pid].memory, memory)

    def end(self, name: str) -> None:
        """As of `Crew`."""
        self._running.pop(name)[1].block.close()

    def stop(self) -> None:
        """As of `Crew`."""
        end_all([running.child for _, running in self._running.values()], _PATIENCE)

    def close(self) -> None:
        """As of `Crew`."""
        self.jobserver.close()
        for descriptor in self._lifeline:
            os.close(descriptor)
        self._lifeline = ()
