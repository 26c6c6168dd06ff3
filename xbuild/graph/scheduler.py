"""What runs when: tasks that need others, in an order that ends soonest as far as anybody knows. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from graphlib import TopologicalSorter
from statistics import median


@dataclass(frozen=True)
class Task:
    """Something to be done. needs: names of tasks that have to be done before.

    seconds: how long it took another time; memory: bytes that it needed then. None: nobody knows.
    """

    name: str
    needs: tuple[str, ...] = ()
    seconds: float | None = None
    memory: int | None = None


class State(StrEnum):
    """How it stands with a task."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"


class Schedule:
    """Tasks, and how it stands with each.

    keep_going: after a failure all that does not need what failed is done too; else nothing more begins.
    """

    def __init__(self, tasks: Sequence[Task], *, keep_going: bool = False) -> None:
        """Raises ValueError for two of one name, or a need that there is none of; graphlib.CycleError."""
        self.tasks = {task.name: task for task in tasks}
        if len(self.tasks) != len(tasks):
            raise ValueError("two tasks have one name")
        self._keep_going = keep_going
        self._users: dict[str, list[str]] = {task.name: [] for task in tasks}
        for task in tasks:
            for need in dict.fromkeys(task.needs):
                if need not in self._users:
                    raise ValueError(f"{task.name} needs {need}, which is no task")
                self._users[need].append(task.name)
        self.order = tuple(TopologicalSorter({task.name: task.needs for task in tasks}).static_order())
        self.states = dict.fromkeys(self.tasks, State.WAITING)
        self.because: dict[str, str] = {}
        self._open = {task.name: len(set(task.needs)) for task in tasks}
        self._ready = {name for name, count in self._open.items() if not count}
        self.priorities = self._longest_ways()
        self.failed = False

    def _longest_ways(self) -> dict[str, float]:
        """Seconds from the beginning of each task to the end of the longest chain of those that wait for it."""
        known = [task.seconds for task in self.tasks.values() if task.seconds is not None]
        guess = median(known) if known else 1.0
        ways: dict[str, float] = {}
        for name in reversed(self.order):
            seconds = self.tasks[name].seconds
            own = guess if seconds is None else seconds
            ways[name] = own + max((ways[user] for user in self._users[name]), default=0.0)
        return ways

    def ready(self) -> list[Task]:
        """What can begin now, what is to begin first in front."""
        if self.failed and not self._keep_going:
            return []
        # Names last, so that the order is the same each time.
        names = sorted(self._ready, key=lambda name: (-self.priorities[name], name))
        return [self.tasks[name] for name in names]

    def begin(self, name: str) -> None:
        """It runs now. Raises ValueError if it cannot."""
        if name not in self._ready:
            raise ValueError(f"{name} is not ready")
        self._ready.remove(name)
        self.states[name] = State.RUNNING

    def end(self, name: str, *, well: bool) -> list[str]:
        """It has ended; the tasks that are skipped now because it failed. Raises ValueError if it does not run."""
        if self.states[name] is not State.RUNNING:
            raise ValueError(f"{name} does not run")
        if not well:
            self.failed = True
            self.states[name] = State.FAILED
            return list(self._skip(name))
        self.states[name] = State.DONE
        for user in set(self._users[name]):
            self._open[user] -= 1
            if not self._open[user] and self.states[user] is State.WAITING:
                self._ready.add(user)
        return []

    def _skip(self, failed: str) -> Iterator[str]:
        waiting = list(self._users[failed])
        while waiting:
            name = waiting.pop(0)
            if self.states[name] is State.WAITING:
                self.states[name] = State.SKIPPED
                self.because[name] = failed
                waiting += self._users[name]
                yield name

    @property
    def running(self) -> list[str]:
        """The names of what runs."""
        return [name for name, state in self.states.items() if state is State.RUNNING]

    @property
    def over(self) -> bool:
        """Whether nothing runs, and nothing more can begin."""
        return not self.running and not self.ready()

    def count(self, state: State) -> int:
        """How many are in this state."""
        return sum(1 for one in self.states.values() if one is state)


def critical_path(needs: Mapping[str, Sequence[str]], seconds: Mapping[str, float]) -> tuple[str, ...]:
    """The chain of tasks, each needed by the next one, that took longest; seconds: of each, 0 where it is missing."""
    best: dict[str, tuple[float, str | None]] = {}
    for name in TopologicalSorter(needs).static_order():
        before = max(needs.get(name, ()), key=lambda need: best[need][0], default=None)
        best[name] = (seconds.get(name, 0.0) + (best[before][0] if before is not None else 0.0), before)
    last: str | None = max(best, key=lambda name: best[name][0], default=None)
    path: list[str] = []
    while last is not None:
        path.append(last)
        last = best[last][1]
    return tuple(reversed(path))
