"""Builds what a benchmark compares, round by round, and notes how long each phase took."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from xbuild.base import log
from xbuild.base.digest import file_sha256, key_of
from xbuild.base.errors import PhaseError, UsageError, XbuildError
from xbuild.build.builder import Builder
from xbuild.build.environment import recorded
from xbuild.build.plan import UNPACK
from xbuild.build.result import Options
from xbuild.formats import record
from xbuild.proof.bench import ladder, machine
from xbuild.proof.bench.series import LEFT_OUT, TOTAL, Failure, Run, Series, Variant, schedule, timed, variants

LOGS = "bench"
"""The directory among the store's work places that keeps the logs of variants that failed."""


def plan(
    recipes: Sequence[str],
    targets: Sequence[str],
    modes: Sequence[str],
    rounds: int,
    options: Options,
    *,
    command: str,
    ablation: bool,
) -> Series:
    """What is to be built and nothing of it built yet. ablation: climb the ladder too. command: what repeats it.

    Raises UsageError or RecipeError if a recipe, a target or the ladder is not as it must be.
    """
    known = [Builder(recipe, target, options) for recipe in recipes for target in targets]
    native = {builder.toolchain.name: builder.toolchain.native for builder in known}
    policies = [builder.roots.policy for builder in known if builder.roots.policy]
    if ablation and not policies:
        raise UsageError("an ablation takes twins away, and no target has any", hint="add armhf to --targets")
    names = [[rung.name for rung in ladder.load(policy).rungs] for policy in policies] if ablation else [[]]
    if ablation and "substituted" not in modes:
        modes = [*modes, "substituted"]
    wanted = variants(recipes, [(target, native[target]) for target in targets], modes, names[0][:-1])
    return Series(wanted, rounds, command, machine.describe(options.jobs), tuple(names[0]))


def prepare(series: Series, options: Options) -> None:
    """Make what the builds need, before the first clock runs; a variant for which that cannot be done has failed."""
    done: dict[tuple[str, str, str], XbuildError | None] = {}
    for variant in series.variants:
        wanted = (variant.recipe, variant.target, variant.mode)
        if wanted not in done:
            done[wanted] = None
            try:
                Builder(variant.recipe, variant.target, replace(options, mode=variant.mode)).prepare()
            except XbuildError as error:
                done[wanted] = error
                log.error(error)
        if fault := done[wanted]:
            series.failures.append(Failure(variant, 0, fault.message, fault.details))


def measure(series: Series, options: Options, on_run: Callable[[], None]) -> None:
    """Build all variants in all rounds; what fails is not tried again. on_run: called after each build."""
    planned = list(schedule(series.variants, series.rounds))
    for number, (turn, variant) in enumerate(planned, 1):
        if series.failure(variant):
            continue
        log.info(f"round {turn} of {series.rounds}, build {number} of {len(planned)}: {variant}")
        builder = _builder(variant, options)
        try:
            run = _build(builder, variant, turn)
        except XbuildError as error:
            log.error(error)
            file = _keep_log(builder, variant) if isinstance(error, PhaseError) else None
            series.failures.append(Failure(variant, turn, error.message, error.details, file))
        else:
            series.runs.append(run)
            parts = ", ".join(f"{name} {time:.1f}" for name, time in run.seconds.items() if name != TOTAL)
            log.info(f"{variant}: {run.seconds[TOTAL]:.1f} s ({parts})")
        finally:
            if variant.rung is not None:
                # What a failed or interrupted one leaves is of no use: its inputs are not those of an ordinary build.
                builder.store.discard(builder.place.path)
        on_run()


def _builder(variant: Variant, options: Options) -> Builder:
    options = replace(options, mode=variant.mode, start=UNPACK, publish=False)
    full = Builder(variant.recipe, variant.target, options)
    if variant.rung is None:
        return full
    policy = full.roots.policy
    assert policy is not None
    kept = ladder.load(policy).tools(variant.rung, policy)
    without = ladder.switched_off(full.pairs, kept)
    return Builder(variant.recipe, variant.target, replace(options, without=without, grouped=False))


def _build(builder: Builder, variant: Variant, turn: int) -> Run:
    result = builder.build()
    started = programs(result.records)
    digest = file_sha256(result.artifact)
    run = Run(variant, turn, result.version, timed(result.phases), *started, digest, result.told.get("distcc"))
    if variant.rung is not None:
        # Nobody asked for an artifact that only differs from the ordinary one in how long it took.
        builder.store.remove("artifacts", key_of(builder.value))
    return run


def programs(records: Path) -> tuple[int, int]:
    """How many programs were started emulated and how many natively, by twins, in the steps whose time counts.

    records: the directory with a build's record of execs.
    """
    emulated = native = 0
    for file in recorded(records):
        if file.name.partition("-")[2] not in LEFT_OUT:
            known = record.read(file)
            emulated += known.total(native=False).total()
            native += known.total(native=True).total()
    return emulated, native


def _keep_log(builder: Builder, variant: Variant) -> str | None:
    """A copy of the log of the step that failed, which the next build does not remove; None if it has none."""
    logs = sorted(builder.place.logs.glob("[0-9]*-*.log"))
    if not logs:
        return None
    kept = builder.store.directory(f"work/{LOGS}") / f"{builder.file_name}-{_word(variant)}-{logs[-1].name}"
    shutil.copyfile(logs[-1], kept)
    return str(kept)


def _word(variant: Variant) -> str:
    return variant.name if variant.rung is None else f"rung{variant.rung}"
