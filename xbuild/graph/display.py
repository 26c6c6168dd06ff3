"""How a run of many builds is shown: a live board on a terminal, else a line for what begins and ends; and a table."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from xbuild.base import log
from xbuild.base.activity import Activity
from xbuild.base.text import human_size, human_time
from xbuild.graph.crew import Running
from xbuild.graph.run import Ended
from xbuild.graph.scheduler import State

_WIDEST = 40
"""Characters of a title on the board."""


class Board(Activity):
    """Shown while it all runs: how much is done, and a line for each command that runs. what: `builds`, in the plural.

    terminal: whether the board is seen; without one each beginning and end is told by a line, with the time.
    """

    def __init__(self, what: str, total: int, jobs: int) -> None:
        super().__init__(f"{total} {what}, {jobs} {'job' if jobs == 1 else 'jobs'}")
        self._total = total
        self._running: dict[str, tuple[Ended, Running]] = {}
        self._phases: dict[str, str] = {}
        self._counts: dict[str, int] = {}
        self._done = 0

    def began(self, ended: Ended, running: Running) -> None:
        """As of `Watcher`."""
        self._running[ended.name] = (ended, running)
        where = f" on {ended.where}" if ended.where else ""
        reason = f": {ended.reason}" if ended.reason else ""
        log.info(f"{self._at()} {ended.order.title} begins{where}{reason}")

    def finished(self, ended: Ended) -> None:
        """As of `Watcher`."""
        self._running.pop(ended.name, None)
        self._phases.pop(ended.name, None)
        self._done += 1
        self._counts[ended.status] = self._counts.get(ended.status, 0) + 1
        log.info(f"{self._at()} [{self._done}/{self._total}] {' '.join(ending(ended))}")

    def looked(self) -> None:
        """As of `Watcher`: without a terminal each phase is told."""
        for name, (ended, running) in self._running.items():
            steps = [part.name for part in running.told.running if part.log is not None]
            phase = steps[-1] if steps else ""
            if phase and self._phases.get(name) != phase:
                self._phases[name] = phase
                log.detail(f"{self._at()} {ended.order.title}: {phase}")

    def _at(self) -> str:
        return f"[{human_time(self.seconds)}]"

    def now(self) -> tuple[str, str]:
        """As of `Activity`."""
        counts = [f"{self._done}/{self._total} done"]
        counts += [f"{count} {status}" for status, count in self._counts.items() if status in ("failed", "skipped")]
        counts += [f"{len(self._running)} running"]
        return f"{', '.join(counts)}  {human_time(self.seconds)}", "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        all_running = list(self._running.values())
        wide = min(_WIDEST, max((len(ended.order.title) for ended, _ in all_running), default=0))
        for ended, running in all_running:
            where = f"{ended.where}  " if ended.where else ""
            yield f"{ended.order.title:{wide}}  {where}{doing(running)}"


def doing(running: Running) -> str:
    """What a command does at the moment: the innermost step, for how long, and what that said last."""
    for part in reversed(list(running.told.running)):
        shown = Activity(part.name, part.log)
        _, said = shown.now()
        return f"{part.name}  {human_time(max(0.0, time.time() - part.began))}" + (f"  {said}" if said else "")
    return "begins"


def ending(ended: Ended) -> Iterator[str]:
    """What came of a command, in words for one line."""
    yield f"{ended.order.title}:"
    if ended.state is State.SKIPPED:
        yield f"skipped, for {ended.because} {ended.for_want}"
        return
    yield f"{ended.status}"
    if ended.seconds and ended.log is not None:
        yield human_time(ended.seconds)
    error = ended.value.get("error")
    if error and ended.state is State.FAILED:
        yield f"({error['message']}; log: {error.get('log') or ended.log})"


COLUMNS = ("", "result", "time", "memory", "why")
"""Of `rows`."""


def rows(all_ended: Sequence[Ended]) -> list[tuple[str, str, str, str, str]]:
    """The table at the end."""
    return [
        (
            ended.order.title,
            ended.status,
            human_time(ended.seconds) if ended.log else "",
            human_size(ended.memory) if ended.memory else "",
            why(ended),
        )
        for ended in all_ended
    ]


def why(ended: Ended) -> str:
    """Why it is as it is: what has to be looked at after a failure, else what made it anew."""
    if ended.state is State.SKIPPED:
        return f"{ended.because} {ended.for_want}"
    if ended.state is State.FAILED:
        return f"log: {log_of(ended)}"
    return ended.reason


def log_of(ended: Ended) -> Path | None:
    """The log of the phase that failed, else of all that the command said."""
    error = ended.value.get("error") or {}
    return Path(error["log"]) if error.get("log") else ended.log
