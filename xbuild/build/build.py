"""Builds what is requested: an order to the executor that the mode has here, and what comes back as files."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from xbuild.base import log
from xbuild.base.errors import CheckError, PhaseError
from xbuild.build.executor import Order, Outcome, Tell, unheard
from xbuild.build.executors import executor_of
from xbuild.build.ground import lay
from xbuild.build.modes.mode import Mode
from xbuild.build.modes.table import MODES
from xbuild.build.prepared import Known, NotBuiltError, prepared
from xbuild.build.publish import in_store, publish
from xbuild.build.request import Request
from xbuild.build.result import Result
from xbuild.build.standing import artifact
from xbuild.build.subject import Subject, read
from xbuild.build.work import fetched, in_use
from xbuild.store.local import Store, writing_below
from xbuild.store.own import open_store

_TRIES = 3
"""How often it begins again, if recipes that it needs change meanwhile."""


def build(request: Request, store: Store | None = None, tell: Tell = unheard) -> Result:
    """Build it here, unless it is there, and first the recipes that it needs. store: None for the user's.

    Raises PhaseError, CheckError, SourceError or MachineError, and the work place then stays; UsageError.
    """
    store = store or open_store()
    for left in reversed(range(_TRIES)):
        subject = read(request, store)
        provide(subject)
        outcome = executor_of(subject.mode, store).perform(Order(request), tell)
        if left and outcome.failure is not None and outcome.failure.kind == NotBuiltError.__name__:
            log.info(f"{outcome.failure.message}; once more, as it is now")
            continue
        return result_of(subject, outcome)
    raise AssertionError("the last try returns")


def provide(subject: Subject) -> None:
    """Build the recipes that `subject` needs, in order, unless they are there.

    Raises what the first of them fails by.
    """
    known: Known = {}
    for need in subject.needs:
        with contextlib.suppress(NotBuiltError):
            if artifact(prepared(need, known)) is not None:
                continue
        log.info(f"{need.title}: built first, for {subject.recipe.name} needs it")
        outcome = executor_of(need.mode, need.store).perform(Order(need.request), unheard)
        if outcome.failure is not None:
            raise outcome.failure.error().with_details(f"{subject.title} needs {need.recipe.name}")


def result_of(subject: Subject, outcome: Outcome) -> Result:
    """The files of an outcome whose artifact is in the store of `subject`, published if that is wanted.

    Raises the error that the build has failed by.
    """
    if outcome.failure is not None:
        raise outcome.failure.error()
    assert outcome.key is not None
    entry = subject.store.get("artifacts", outcome.key)
    assert entry is not None
    stored = in_store(subject, entry)
    handed = publish(subject, stored) if subject.request.here.publish else stored
    told = outcome.manifest
    return Result(
        subject.recipe.name,
        subject.recipe.version,
        subject.toolchain.name,
        subject.mode_name,
        outcome.status,
        handed,
        stored,
        list(outcome.parts),
        list(told["phases"].items()),
        told={mode: told[mode] for mode in MODES if mode in told},
        anew=outcome.anew,
        cache=outcome.cache,
        began_again={
            path: (count, told["ran-native"].get(path, 0)) for path, count in told.get("began-again", {}).items()
        },
    )


def build_or_else(request: Request, mode: Mode, store: Store | None = None) -> Result:
    """Build; if a phase or the check fails, build the same in `mode`, and tell so in the result.

    The failed one's work place stays. Raises what the second build raises, with what the first one said.
    """
    subject = read(request, store or open_store())
    # Another mode of this one would not help what it needs.
    provide(subject)
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
    provide(subject)
    with in_use(subject), writing_below(subject.store.root):
        ground = lay(subject)
        if not subject.toolchain.native:
            subject.mode.machine(ground.site)
        fetched(subject)
