"""Several wheels at once, each by a command of its own, under one budget of jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from xbuild.base import log
from xbuild.base.errors import XbuildError
from xbuild.graph.builds import names_of
from xbuild.graph.crew import Order
from xbuild.graph.display import Board
from xbuild.graph.outcome import fault
from xbuild.graph.past import past, place_of_run, remember
from xbuild.graph.run import Ended, Run
from xbuild.graph.scheduler import State, Task
from xbuild.wheels.build import Maker
from xbuild.wheels.find import Project

WHAT = "wheels"


@dataclass(frozen=True)
class Ahead:
    """How several are built at once. words: options of `wheel` for each. jobs: of all together; at_once: so many
    commands at most.
    """

    words: tuple[str, ...]
    jobs: int
    at_once: int

    def build(self, maker: Maker, wanted: Mapping[str, Sequence[str]]) -> None:
        """Build wheels of these requirements, each with the sha256 that its sdist may have, so that `maker` finds them.

        One alone is left to the maker. Raises what `Maker.find` raises, before any code of theirs runs, and the error
        of a run in which something failed.
        """
        if len(wanted) < 2 or min(self.jobs, self.at_once) < 2:
            return
        orders = self._orders(maker, [maker.find(word, hashes) for word, hashes in wanted.items()])
        with place_of_run(maker.store) as place:
            board = Board(WHAT, len(orders), self.jobs)
            run = Run(orders, place, board, jobs=self.jobs, at_once=self.at_once, keep_going=True)
            try:
                with log.running(board):
                    run.run()
            finally:
                for ended in run.all:
                    remember(maker.store, WHAT, ended)
        for ended in run.all:
            maker.heard(ended.value)
        if error := _fault(run.all):
            raise error

    def _orders(self, maker: Maker, projects: Sequence[Project]) -> list[Order]:
        titles = [f"{project.name} {project.version} for {maker.target}" for project in projects]
        found = []
        for project, title, name in zip(projects, titles, names_of(titles), strict=True):
            before = past(maker.store, WHAT, title)
            words = ("wheel", f"{project.name}=={project.version}", "--target", maker.target, *self.words)
            words += ("--no-test", "--output", str(maker.output), "--jobs", str(self.jobs))
            found.append(Order(Task(name, (), before.seconds, before.memory), title, words))
        return found


def _fault(all_ended: Sequence[Ended]) -> XbuildError | None:
    """As of any run, with all that the first one said: it may know what helps."""
    error = fault(all_ended, WHAT)
    failed = [ended for ended in all_ended if ended.state is State.FAILED]
    if error is None or not failed:
        return error
    said = (failed[0].value.get("error") or {}).get("details") or ()
    return error.with_details("", *said) if said else error
