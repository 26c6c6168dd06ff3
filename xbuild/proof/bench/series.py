"""What is measured in which order, and what comes of it: medians, ranges, ratios. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from xbuild.model.phases import NOT_BUILDING

TOTAL = "total"
NATIVE = "native"
"""The name of the variant that the others are held against: a target that needs no emulation."""


@dataclass(frozen=True)
class Variant:
    """One way to build one recipe.

    name: NATIVE, a mode, or a rung of the ladder. rung: its number from 0, for a rung; None otherwise.
    """

    recipe: str
    target: str
    name: str
    mode: str = "substituted"
    rung: int | None = None

    @property
    def native(self) -> bool:
        """Is it the one that the others are held against?"""
        return self.name == NATIVE

    def __str__(self) -> str:
        return f"{self.recipe} for {self.target}{'' if self.native else f', {self.name}'}"


@dataclass(frozen=True)
class Run:
    """One build of one round (from 1).

    seconds: by phase, and TOTAL. emulated, by_twins: how many programs were started so. sha256: of the artifact.
    distcc: what was compiled where, in that mode.
    """

    variant: Variant
    round: int
    version: str
    seconds: dict[str, float]
    emulated: int
    by_twins: int
    sha256: str
    distcc: dict[str, Any] | None = None


@dataclass(frozen=True)
class Failure:
    """A variant that could not be built.

    round: 0 if it failed before the first. message, details: the error's. log: the file with what the step said.
    """

    variant: Variant
    round: int
    message: str
    details: tuple[str, ...] = ()
    log: str | None = None


@dataclass(frozen=True)
class Figure:
    """Seconds of one phase of one variant, over `count` rounds.

    ratio: to the median of the native variant, if there is one.
    """

    variant: Variant
    phase: str
    count: int
    median: float
    least: float
    most: float
    ratio: float | None


@dataclass
class Series:
    """Everything of one `invoke bench`.

    command: the line that repeats it. machine: what it ran on (machine.py). rungs: names of all rungs of the ladder if
    it is climbed; the last one is the mode `substituted`.
    """

    variants: tuple[Variant, ...]
    rounds: int
    command: str
    machine: dict[str, Any]
    rungs: tuple[str, ...] = ()
    runs: list[Run] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def failure(self, variant: Variant) -> Failure | None:
        """Why `variant` has not been built, or not as often as wanted."""
        return next((failure for failure in self.failures if failure.variant == variant), None)

    def of(self, variant: Variant) -> list[Run]:
        """The runs of `variant`."""
        return [run for run in self.runs if run.variant == variant]

    @property
    def complete(self) -> bool:
        """Has every variant been built in every round?"""
        return len(self.runs) == len(self.variants) * self.rounds


def variants(
    recipes: Sequence[str], targets: Sequence[tuple[str, bool]], modes: Sequence[str], rungs: Sequence[str] = ()
) -> tuple[Variant, ...]:
    """What is to be measured, in the order of a round.

    targets: with whether each is native; modes do not apply to such a one. rungs: names of those of the ladder, without
    the last one, which is the mode `substituted`.
    """
    found = []
    for recipe in recipes:
        for target, native in sorted(targets, key=lambda known: not known[1]):
            if native:
                found.append(Variant(recipe, target, NATIVE))
                continue
            found += [Variant(recipe, target, name, rung=number) for number, name in enumerate(rungs)]
            found += [Variant(recipe, target, mode, mode) for mode in modes]
    return tuple(dict.fromkeys(found))


def schedule(variants: Sequence[Variant], rounds: int) -> Iterator[tuple[int, Variant]]:
    """Round by round, each with all variants: what slows the machine down for a while then hits all alike."""
    return ((number, variant) for number in range(1, rounds + 1) for variant in variants)


def timed(phases: Sequence[tuple[str, float]]) -> dict[str, float]:
    """The seconds of a build's phases that count, and their TOTAL."""
    seconds = {name: time for name, time in phases if name not in NOT_BUILDING}
    return {**seconds, TOTAL: sum(seconds.values())}


def figures(series: Series) -> list[Figure]:
    """Medians, ranges and ratios, phase by phase, of all variants that have been built."""
    found: list[Figure] = []
    for variant in series.variants:
        runs = series.of(variant)
        base = _medians(series, variant.recipe)
        for phase in runs[0].seconds if runs else ():
            times = [run.seconds[phase] for run in runs]
            median = statistics.median(times)
            ratio = median / base[phase] if base.get(phase) else None
            found.append(Figure(variant, phase, len(times), median, min(times), max(times), ratio))
    return found


def _medians(series: Series, recipe: str) -> dict[str, float]:
    native = next((known for known in series.variants if known.native and known.recipe == recipe), None)
    runs = series.of(native) if native else []
    return {phase: statistics.median(run.seconds[phase] for run in runs) for phase in (runs[0].seconds if runs else ())}


def differing(series: Series) -> list[tuple[str, str]]:
    """Recipe and target of which not all runs gave the same artifact: their times are of different work."""
    found: dict[tuple[str, str], set[str]] = {}
    for run in series.runs:
        found.setdefault((run.variant.recipe, run.variant.target), set()).add(run.sha256)
    return [pair for pair, digests in found.items() if len(digests) > 1]


def ladders(series: Series) -> list[tuple[str, str]]:
    """Recipe and target of each ladder that is climbed."""
    climbed = [variant for variant in series.variants if variant.rung is not None]
    return list(dict.fromkeys((variant.recipe, variant.target) for variant in climbed))


def climb(series: Series, recipe: str, target: str) -> dict[Variant, str]:
    """The steps of one ladder from the slowest to the fastest, and what to call each.

    First all emulated, if that is built too, then the rungs and the whole set, last the native target, if there is one.
    """
    own = [variant for variant in series.variants if variant.recipe == recipe]
    mine = [variant for variant in own if variant.target == target]
    steps = {variant: "nothing native" for variant in mine if variant.name == "emulated"}
    steps |= {variant: variant.name for variant in mine if variant.rung is not None}
    steps |= {variant: series.rungs[-1] for variant in mine if variant.name == "substituted"}
    return steps | {variant: f"target {variant.target}" for variant in own if variant.native}
