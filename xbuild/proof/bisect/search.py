"""Finds the twins that make a build fail, or give other bytes than emulation: the order of things."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from xbuild.base import log
from xbuild.base.errors import CheckError, LateError, PhaseError
from xbuild.build import taught
from xbuild.build.request import Request
from xbuild.proof.bisect.ddmin import smallest
from xbuild.proof.bisect.runs import Outcome, Run, Runner
from xbuild.proof.bisect.trees import Changes, Noise, Tree, changes, printable
from xbuild.proof.bisect.verdict import Bisected, Culprit, Finding

_AT_RANDOM = "build it some times in one mode first: what it does by chance cannot be told from what a twin does"


@dataclass(frozen=True)
class Tried:
    """How a try ended. ended: how its last step did, without the tree; changes: of that against the right one."""

    failed: bool
    ended: Outcome
    changes: Changes


@dataclass(frozen=True)
class Goal:
    """What is looked for: step `number` fails, which it does not under emulation, or its tree differs in `paths`.

    right: the tree as emulation leaves it.
    """

    number: int
    right: Tree
    paths: frozenset[str] | None

    def shows(self, tried: Tried, noise: Noise) -> bool:
        """Whether a try has the fault."""
        return tried.failed or not (self.paths or frozenset()).isdisjoint(noise.without(tried.changes))


class Tries:
    """The tries at one goal from the saved state before step `start` on; each set of twins is tried once."""

    def __init__(self, runner: Runner, goal: Goal, noise: Noise, start: int, suspects: list[str]) -> None:
        self.goal = goal
        self.noise = noise
        self.start = start
        self.suspects = suspects
        self._runner = runner
        self._known: dict[frozenset[str], Tried] = {}
        self._least = len(suspects)

    def tried(self, wanted: Iterable[str]) -> Tried:
        """How it goes with only the twins `wanted`."""
        twins = frozenset(wanted)
        if twins not in self._known:
            outcome = self._runner.with_only(twins, len(self.suspects), self.start, self.goal.number)
            found = {} if outcome.tree is None else changes(self.goal.right, outcome.tree)
            self._known[twins] = Tried(outcome.tree is None, replace(outcome, tree=None), found)
            if twins and len(twins) <= self._least and self.bad(twins):
                self._least = len(twins)
                self._runner.take("wrong", self.goal.paths or ())
                self._runner.put_by("wrong")
        return self._known[twins]

    def bad(self, wanted: Iterable[str]) -> bool:
        """Whether the fault shows with only the twins `wanted`."""
        return self.goal.shows(self.tried(wanted), self.noise)

    @property
    def all_bad(self) -> bool:
        """Whether no try came out as emulation did."""
        return all(self.goal.shows(tried, self.noise) for tried in self._known.values())


class Bisection:
    """One search; see `bisect` for the parameters."""

    def __init__(self, runner: Runner, *, objects: bool) -> None:
        self._runner = runner
        self._objects = objects
        self._noise = Noise()
        self._first_difference: int | None = None
        self._run: Run

    def find(self) -> Finding | None:
        """Build substituted, then emulated up to the guilty phase, then parts of that again and again."""
        self._run = self._build_twice()
        log.info("emulated build, to compare with:")
        for number, step in enumerate(self._runner.steps):
            self._runner.stage.save(number, also=self._first_difference)
            right = self._runner.emulated(number)
            if right.tree is None:
                raise self._fails_emulated(step.name, right, failed=self._run.failed is not None)
            goal = self._goal(number, right.tree)
            found = self._search(goal) if goal else None
            if found:
                return found
        return None

    @property
    def noise(self) -> list[str]:
        """What was left out of comparisons."""
        return sorted(self._noise.paths)

    def _build_twice(self) -> Run:
        runs = []
        for count in (1, 2):
            with log.step(f"substituted build {count} of 2"):
                runs.append(self._runner.substituted())
        one, other = runs
        failed = [self._runner.steps[run.failed].name for run in runs if run.failed is not None]
        if one.failed != other.failed:
            message = f"{self._runner.title}: phase {failed[0]!r} failed in one of two builds of the same"
            raise CheckError(message, hint=_AT_RANDOM)
        for first, second in zip(one.outcomes, other.outcomes, strict=True):
            if first.tree is not None and second.tree is not None:
                self._noise.learn(changes(first.tree, second.tree))
        return one

    def _fails_emulated(self, name: str, right: Outcome, *, failed: bool) -> PhaseError:
        what = "fails emulated too, so no twin is to blame" if failed else "fails in the emulated build only"
        hint = "mend the recipe first" if failed else "bisect compares with the emulated build, so that has to work"
        return PhaseError(
            f"{self._runner.title}: phase {name!r} {what}", details=[right.message, *right.lines], hint=hint
        )

    def _goal(self, number: int, right: Tree) -> Goal | None:
        """What step `number` has to be searched for, if anything; a failure, even a later one, before differences."""
        if self._run.failed == number:
            return Goal(number, right, None)
        wrong = self._run.outcomes[number].tree
        assert wrong is not None
        found = self._noise.without(changes(right, wrong))
        if found and self._first_difference is None:
            self._first_difference = number
        paths = frozenset(path for path in found if self._objects or path.startswith("dest/"))
        last = number == len(self._runner.steps) - 1
        wanted = paths and self._run.failed is None and (self._objects or last)
        return Goal(number, right, paths) if wanted else None

    def _search(self, goal: Goal) -> Finding | None:
        """The finding for `goal`; None if all of it was noise: then the state after the step is there again."""
        self._runner.take("right", goal.paths or ())
        self._runner.put_by("right")
        tries = self._repeated(goal)
        culprits = smallest(tries.suspects, tries.bad)
        if tries.all_bad and tries.bad(()):
            # Emulation does not do the same twice either. It was not asked before: mostly some try is good.
            if not self._learn(tries):
                self._runner.forget()
                return None
            if not tries.bad(tries.suspects):
                raise self._by_chance(tries.goal)
            culprits = smallest(tries.suspects, tries.bad)
        return self._finding(tries, culprits)

    def _repeated(self, goal: Goal) -> Tries:
        """Tries from the latest saved state from which the fault comes back with all twins.

        From the emulated state just before the step it does so if the step alone is guilty. If it does not, an earlier
        step has left something that shows later, though no digest tells it: other times of files.
        """
        starts = {goal.number, 0} | ({self._first_difference} if self._first_difference is not None else set())
        for start in sorted(starts, reverse=True):
            tries = Tries(self._runner, goal, self._noise, start, self._suspects(start, goal.number))
            if tries.suspects and tries.bad(tries.suspects):
                return tries
        raise self._by_chance(goal)

    def _suspects(self, start: int, last: int) -> list[str]:
        """The twins that ran in these steps, those first that cost least to do without; all twins if unknown."""
        costs: Counter[str] = Counter()
        for known in self._run.costs[start : last + 1]:
            if known is None:
                return [entry.path for entry in self._runner.every.entries]
            costs.update(known)
        return sorted(costs, key=lambda path: (costs[path], path))

    def _learn(self, tries: Tries) -> bool:
        """Take what differs between two emulated runs for noise; whether something of the goal is left."""
        again, goal = tries.tried(()), tries.goal
        if again.failed or goal.paths is None:
            raise self._by_chance(goal)
        self._noise.learn(again.changes)
        wrong = self._run.outcomes[goal.number].tree
        assert wrong is not None
        paths = goal.paths & set(self._noise.without(changes(goal.right, wrong)))
        tries.goal = replace(goal, paths=paths)
        return bool(paths)

    def _by_chance(self, goal: Goal) -> CheckError:
        name = self._runner.steps[goal.number].name
        what = "fails" if goal.paths is None else "differs from the emulated build"
        files = [printable(path) for path in sorted(goal.paths or ())][:10]
        message = f"{self._runner.title}: phase {name!r} {what}, but not each time"
        return CheckError(message, details=files, hint=_AT_RANDOM)

    def _finding(self, tries: Tries, culprits: frozenset[str]) -> Finding:
        runner, goal = self._runner, tries.goal
        rest = frozenset(tries.suspects) - culprits
        others = bool(rest) and tries.bad(rest)
        shown = tries.tried(culprits)
        wrong = self._noise.without(shown.changes)
        files = {path: str(wrong[path]) for path in sorted(goal.paths or ()) if path in wrong}
        return Finding(
            phase=runner.steps[goal.number].name,
            start=runner.steps[tries.start].name,
            culprits=tuple(self._culprit(path) for path in sorted(culprits)),
            suspects=len(tries.suspects),
            files=files,
            inside=runner.inside(files),
            message=shown.ended.message,
            lines=shown.ended.lines,
            others=others,
            kept=runner.kept,
        )

    def _culprit(self, path: str) -> Culprit:
        twin = next(twin for twin in self._runner.every.twins if twin.target_path == path)
        policy = self._runner.subject.roots.policy
        assert policy is not None
        group = policy.tools[twin.tool].group
        return Culprit(path, twin.tool, group, twin.package, twin.version, twin.architecture)


def bisect(request: Request, *, objects: bool = True) -> Bisected:
    """Find the smallest set of twins with which a substituted build fails, or gives other bytes than the emulated one.

    objects: compare all of the build's tree after each phase, not only what is
    installed in the end. Raises UsageError; PhaseError if the recipe fails emulated; CheckError if it fails or
    differs by chance.
    """
    started = time.monotonic()
    runner = Runner(request)
    search = Bisection(runner, objects=objects)
    try:
        with runner.stage.opened(runner.title, keep=request.here.keep):
            finding = search.find()
    except LateError as error:
        if not error.programs <= {one.program for one in taught.of(runner.subject)}:
            raise
        # It is known now, so the next search has fewer twins.
        log.warn(f"{error.message}; the search begins again, with that emulated")
        return bisect(request, objects=objects)
    known = runner.subject
    return Bisected(
        runner.title,
        known.command_line(),
        known.recipe,
        known.toolchain.name,
        finding,
        search.noise,
        runner.tries,
        time.monotonic() - started,
    )
