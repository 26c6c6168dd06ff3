"""Builds what a benchmark compares, round by round, and notes how long each phase took."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from xbuild.base import log
from xbuild.base.errors import PhaseError, UsageError, XbuildError
from xbuild.build.build import build, make_ready, provide
from xbuild.build.ground import lay
from xbuild.build.prepared import prepared
from xbuild.build.request import Here, Request
from xbuild.build.stepfiles import logged, recorded
from xbuild.build.subject import Subject, read
from xbuild.formats import record
from xbuild.model.phases import NOT_BUILDING, UNPACK
from xbuild.proof.bench import ladder, machine
from xbuild.proof.bench.series import TOTAL, Failure, Run, Series, Variant, schedule, timed, variants

LOGS = "bench"
"""The directory among the store's work places that keeps the logs of variants that failed."""


@dataclass(frozen=True)
class Conditions:
    """What is the same for all builds. suite: of the distribution; None for the target's own. jobs: 0 for all cores."""

    suite: str | None = None
    jobs: int = 0

    def request(self, recipe: str, target: str, **more: Any) -> Request:
        """A build under these conditions."""
        return Request(recipe, target, suite=self.suite, here=Here(jobs=self.jobs), **more)


def plan(
    recipes: Sequence[str],
    targets: Sequence[str],
    modes: Sequence[str],
    rounds: int,
    conditions: Conditions,
    *,
    command: str,
    ablation: bool,
) -> Series:
    """What is to be built and nothing of it built yet. ablation: climb the ladder too. command: what repeats it.

    Raises UsageError or RecipeError if a recipe, a target or the ladder is not as it must be.
    """
    subjects = [read(conditions.request(recipe, target)) for recipe in recipes for target in targets]
    native = {subject.toolchain.name: subject.toolchain.native for subject in subjects}
    policies = [subject.roots.policy for subject in subjects if subject.roots.policy]
    if ablation and not policies:
        raise UsageError("an ablation takes twins away, and no target has any", hint="add armhf to --targets")
    names = [[rung.name for rung in ladder.load(policy).rungs] for policy in policies] if ablation else [[]]
    if ablation and "substituted" not in modes:
        modes = [*modes, "substituted"]
    wanted = variants(recipes, [(target, native[target]) for target in targets], modes, names[0][:-1])
    return Series(wanted, rounds, command, machine.describe(conditions.jobs), tuple(names[0]))


def prepare(series: Series, conditions: Conditions) -> None:
    """Make what the builds need, before the first clock runs; a variant for which that cannot be done has failed."""
    done: dict[tuple[str, str, str], XbuildError | None] = {}
    for variant in series.variants:
        wanted = (variant.recipe, variant.target, variant.mode)
        if wanted not in done:
            done[wanted] = None
            try:
                make_ready(conditions.request(variant.recipe, variant.target, mode=variant.mode))
            except XbuildError as error:
                done[wanted] = error
                log.error(error)
        if fault := done[wanted]:
            series.failures.append(Failure(variant, 0, fault.message, fault.details))


def measure(series: Series, conditions: Conditions, on_run: Callable[[], None]) -> None:
    """Build all variants in all rounds; what fails is not tried again. on_run: called after each build."""
    planned = list(schedule(series.variants, series.rounds))
    for number, (turn, variant) in enumerate(planned, 1):
        if series.failure(variant):
            continue
        log.info(f"round {turn} of {series.rounds}, build {number} of {len(planned)}: {variant}")
        subject = _subject(variant, conditions)
        try:
            run = _build(subject, variant, turn)
        except XbuildError as error:
            log.error(error)
            file = _keep_log(subject, variant) if isinstance(error, PhaseError) else None
            series.failures.append(Failure(variant, turn, error.message, error.details, file))
        else:
            series.runs.append(run)
            parts = ", ".join(f"{name} {time:.1f}" for name, time in run.seconds.items() if name != TOTAL)
            log.info(f"{variant}: {run.seconds[TOTAL]:.1f} s ({parts})")
        finally:
            if variant.rung is not None:
                # What a failed or interrupted one leaves is of no use: its inputs are not those of an ordinary build.
                subject.store.discard(subject.place.path)
        on_run()


def _subject(variant: Variant, conditions: Conditions) -> Subject:
    request = conditions.request(variant.recipe, variant.target, mode=variant.mode)
    full = read(replace(request, here=replace(request.here, start=UNPACK, publish=False)))
    provide(full)
    if variant.rung is None:
        return full
    policy = full.roots.policy
    assert policy is not None
    kept = ladder.load(policy).tools(variant.rung, policy)
    without = ladder.switched_off(lay(full).pairs, kept)
    return read(replace(full.request, without=without, grouped=False), full.store)


def _build(subject: Subject, variant: Variant, turn: int) -> Run:
    result = build(subject.request, subject.store)
    started = programs(result.records)
    digest = result.stored.described["sha256"]
    run = Run(variant, turn, result.version, timed(result.phases), *started, digest, result.told.get("distcc"))
    if variant.rung is not None:
        # Nobody asked for an artifact that only differs from the ordinary one in how long it took.
        subject.store.remove("artifacts", prepared(subject).key)
    return run


def programs(records: Path) -> tuple[int, int]:
    """How many programs were started emulated and how many natively, by twins, in the steps whose time counts.

    records: the directory with a build's record of execs.
    """
    emulated = native = 0
    for files in recorded(records):
        if files.step not in NOT_BUILDING:
            execs = record.read(records / files.record)
            emulated += execs.total(native=False).total()
            native += execs.total(native=True).total()
    return emulated, native


def _keep_log(subject: Subject, variant: Variant) -> str | None:
    """A copy of the log of the step that failed, which the next build does not remove; None if it has none."""
    steps = [files for files in logged(subject.place.logs) if files.number is not None]
    if not steps:
        return None
    kept = subject.store.directory(f"work/{LOGS}") / f"{subject.file_name}-{_word(variant)}-{steps[-1].log}"
    shutil.copyfile(subject.place.log(steps[-1]), kept)
    return str(kept)


def _word(variant: Variant) -> str:
    return variant.name if variant.rung is None else f"rung{variant.rung}"
