"""Runs steps of a recipe with some of its twins, as often as a bisection wants."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from xbuild.base import log
from xbuild.base.digest import read_json
from xbuild.base.errors import LateError, PhaseError, UsageError
from xbuild.build.build import provide
from xbuild.build.ground import lay
from xbuild.build.phases import last_lines
from xbuild.build.plan import Step
from xbuild.build.prepared import prepared
from xbuild.build.request import Request
from xbuild.build.stepfiles import StepFiles
from xbuild.build.subject import read
from xbuild.build.taught import remember
from xbuild.build.work import Work
from xbuild.formats import record
from xbuild.proof.bisect import trees
from xbuild.proof.bisect.stage import Stage
from xbuild.proof.compare.contents import compare_contents
from xbuild.proof.compare.text import is_package
from xbuild.proof.compare.trees import copy_out
from xbuild.proof.compare.verdict import Found
from xbuild.twins import pairing

_START = 0.015
"""Seconds that the start of an emulated program takes (posix_spawn of `true` under qemu-arm)."""
_SLOWER = 15.0
"""How much slower than its twin a program of the target is under qemu: the compiler, in builds of bash."""


@dataclass(frozen=True)
class Outcome:
    """How steps ended. tree: what they left; None if one failed: then its message and the last lines of its log."""

    tree: trees.Tree | None
    message: str = ""
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """A whole substituted build. outcomes: of each step, as far as it came.

    costs: of each of those steps, the twins that ran, by real path in the root, with the seconds that they would take
    emulated, roughly; None if that is not known.
    """

    outcomes: tuple[Outcome, ...]
    costs: tuple[dict[str, float] | None, ...]

    @property
    def failed(self) -> int | None:
        """The number of the step that failed."""
        return len(self.outcomes) - 1 if self.outcomes[-1].tree is None else None


class Runner:
    """One recipe for one target, on one stage. Raises UsageError if the target has no twins."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._tries = 0
        self.kept: dict[str, Path] = {}
        self.subject = read(request).settled()
        if self.subject.toolchain.native:
            text = f"on {request.target} nothing is emulated, so there are no twins"
            raise UsageError(text, hint="name another --target")
        provide(self.subject)
        self.title = self.subject.title
        place = self.subject.place
        self.stage = Stage(self.subject.store, place.path.name.removesuffix("substituted") + "bisect", place)

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """The recipe's; the states of all modes are alike here, so they share the keys."""
        return prepared(self.subject).steps

    @cached_property
    def every(self) -> pairing.Pairs:
        """All twins that there could be, each a unit of its own."""
        return self.work(grouped=False).ground.pairs

    def work(self, **changes: Any) -> Work:
        """A build on the stage, with changes to the request. A new one each time: its dispatcher lies where the next
        one's does.
        """
        own = self.subject
        subject = read(replace(self._request, **changes), self.stage.store)
        # The project's files as they were at first: a change meanwhile is told.
        recipe = subject.recipe.model_copy(update={"sources": own.recipe.sources})
        subject = replace(subject, place=self.stage.place, recipe=recipe, local=own.local)
        return Work(subject, lay(subject))

    def run(self, work: Work, first: int, last: int) -> Outcome:
        """Run the steps `first` to `last` in the state that is there (step 0 makes it anew).

        Raises LateError if a twin could not go on: that is no fault of what it gave. It is remembered.
        """
        steps = self.steps
        for number in range(first, last + 1):
            try:
                work.run_steps(steps, number, number + 1)
            except LateError as error:
                work.do_without(error)
                remember(self.subject, work.ground.tree, error)
                raise
            except PhaseError as error:
                return Outcome(None, error.message, tuple(last_lines(error.log) if error.log else error.details))
        return Outcome(trees.read(self.stage.place.build))

    def substituted(self) -> Run:
        """Build with all twins, from the beginning to the end or to a failure."""
        work = self.work()
        outcomes: list[Outcome] = []
        costs: list[dict[str, float] | None] = []
        while len(outcomes) < len(self.steps) and (not outcomes or outcomes[-1].tree is not None):
            number = len(outcomes)
            outcomes.append(self.run(work, number, number))
            costs.append(self._costs(number))
        return Run(tuple(outcomes), tuple(costs))

    def emulated(self, number: int) -> Outcome:
        """Run step `number` without any twin in the state that is there."""
        return self.run(self.work(mode="emulated"), number, number)

    def with_only(self, wanted: Collection[str], of: int, first: int, last: int) -> Outcome:
        """Run the steps `first` to `last` from the saved state with only the twins `wanted`, real paths in the root.

        of: how many there are to choose from, for the progress.
        """
        self._tries += 1
        without = frozenset(entry.path for entry in self.every.entries) - frozenset(wanted)
        with log.step(f"try {self._tries}: {len(wanted)} of {of} twins"):
            self.stage.restore(first)
            return self.run(self.work(without=without, grouped=False), first, last)

    def put_by(self, name: str) -> None:
        """If trees are to stay in the end: keep the one that is there as `name`, instead of an older one."""
        if self._request.here.keep:
            self.kept[name] = self.stage.set_aside(name)

    def take(self, name: str, paths: Collection[str]) -> None:
        """Keep as `name`, instead of older ones, the .deb files among `paths` of the state that is there."""
        debs = [path for path in paths if is_package(path) and (self.stage.place.build / path).is_file()]
        self.stage.forget(f"debs-{name}")
        if debs:
            copy_out(self.stage.place.build, debs, self.stage.debs(name))

    def inside(self, paths: Collection[str]) -> dict[str, Found]:
        """What differs in those .deb files that were taken as `right` and as `wrong`."""
        both = {path: (self.stage.debs("right") / path, self.stage.debs("wrong") / path) for path in paths}
        return {
            path: compare_contents(right.read_bytes(), wrong.read_bytes())
            for path, (right, wrong) in both.items()
            if right.is_file() and wrong.is_file()
        }

    def forget(self) -> None:
        """Keep nothing of what was put by."""
        self.stage.forget(*self.kept)
        self.kept.clear()

    @property
    def tries(self) -> int:
        """How often `with_only` was called."""
        return self._tries

    def _costs(self, number: int) -> dict[str, float] | None:
        place, step = self.stage.place, self.steps[number]
        if step.phase is None and not self.subject.recipe.patches:
            # Sources are laid out by xbuild itself; only patches are applied by programs of the root.
            return {}
        files = StepFiles(number, step.name)
        execs = record.read(place.record(files))
        if not place.record(files).exists() or not execs.whole:
            return None
        costs = {path: _START * count for path, count in execs.total(native=True).items()}
        for program in _accounts(place.accounts(files)):
            if program["native"] and program["path"] in costs:
                costs[program["path"]] += _SLOWER * program["seconds"]
        return costs


def _accounts(file: Path) -> list[dict[str, Any]]:
    """What the sampler (sandbox/sampler.py) wrote; nothing if it was ended before."""
    try:
        found: list[dict[str, Any]] = read_json(file)["programs"]
    except (OSError, ValueError, KeyError):
        return []
    return found
