"""Builds what is requested: an order to the executor that the mode has here, and what comes back as files."""

from __future__ import annotations

from dataclasses import replace

from xbuild.base import log
from xbuild.base.errors import CheckError, PhaseError
from xbuild.build import phases
from xbuild.build.executor import Order, Outcome, Tell, unheard
from xbuild.build.executors import executor_of
from xbuild.build.ground import lay
from xbuild.build.modes.mode import Mode
from xbuild.build.request import Request
from xbuild.build.result import Result
from xbuild.build.subject import Subject, open_store, read
from xbuild.build.work import fetched, in_use
from xbuild.store.local import Store, writing_below


def build(request: Request, store: Store | None = None, tell: Tell = unheard) -> Result:
    """Build it here, unless it is there. store: None for the user's.

    Raises PhaseError, CheckError, SourceError or MachineError, and the work place then stays; UsageError.
    """
    subject = read(request, store or open_store())
    outcome = executor_of(subject.mode, subject.store).perform(Order(request), tell)
    return result_of(subject, outcome)


def result_of(subject: Subject, outcome: Outcome) -> Result:
    """The files of an outcome whose artifact is in the store of `subject`, published if that is wanted.

    Raises the error that the build has failed by.
    """
    if outcome.failure is not None:
        raise outcome.failure.error()
    assert outcome.key is not None
    entry = subject.store.get("artifacts", outcome.key)
    assert entry is not None
    files = [entry / f"{subject.file_name}{ending}" for ending in (".tar.zst", ".manifest.json")]
    if subject.request.here.publish:
        files = [phases.keep_copy(file, subject.project / "dist" / file.name) for file in files]
    artifact, manifest = files
    told, mode = outcome.manifest, subject.mode.name
    return Result(
        subject.recipe.name,
        subject.recipe.version,
        subject.toolchain.name,
        subject.mode_name,
        outcome.status,
        artifact,
        manifest,
        entry / "records",
        list(outcome.parts),
        list(told["phases"].items()),
        told={mode: told[mode]} if mode in told else {},
        anew=outcome.anew,
        began_again={
            path: (count, told["ran-native"].get(path, 0)) for path, count in told.get("began-again", {}).items()
        },
    )


def build_or_else(request: Request, mode: Mode, store: Store | None = None) -> Result:
    """Build; if a phase or the check fails, build the same in `mode`, and tell so in the result.

    The failed one's work place stays. Raises what the second build raises, with what the first one said.
    """
    subject = read(request, store or open_store())
    try:
        return build(request, subject.store)
    except (PhaseError, CheckError) as fault:
        if subject.mode == mode or subject.toolchain.native:
            raise
        log.error(fault)
        first = fault
    instead = subject.mode.name
    log.warn(f"{subject.title} failed; now the same in mode {mode.name}")
    here = replace(request.here, start=None)
    other = replace(request, mode=mode.name, without=frozenset(), grouped=True, here=here)
    try:
        result = build(other, subject.store)
    except (PhaseError, CheckError) as fault:
        raise fault.with_details(f"mode {instead} failed too: {first.message}") from None
    log.warn(f"this is the result of mode {mode.name}, since mode {instead} failed; its logs: {subject.place.logs}")
    result.fallback = {
        "mode": mode.name,
        "instead-of": instead,
        "message": first.message,
        "logs": {instead: str(subject.place.logs), mode.name: str(result.records.with_name("logs"))},
    }
    return result


def make_ready(request: Request, store: Store | None = None) -> None:
    """Make what the build needs: roots, build dependencies, twins, the mode's own, sources."""
    subject = read(request, store or open_store())
    with in_use(subject), writing_below(subject.store.root):
        ground = lay(subject)
        if not subject.toolchain.native:
            subject.mode.machine(ground.site)
        fetched(subject)
