"""What travels of a build: a parcel, whose blobs lie in a shared store, and an artifact that comes back by it."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from xbuild.base import log
from xbuild.base.errors import MachineError, UsageError, called
from xbuild.build import parcel
from xbuild.build.parcel import Parcel
from xbuild.build.prepared import NotBuiltError, prepared
from xbuild.build.request import Request
from xbuild.build.subject import read
from xbuild.store import shared as shared_stores
from xbuild.store.local import Store
from xbuild.store.shared.entries import SharingStore, push
from xbuild.store.shared.records import Blob
from xbuild.store.shared.shared import Shared

PATIENCE: Final = 60.0
"""Seconds that a shared store which does not answer is waited for."""
REST: Final = 5.0
"""Seconds between two tries."""
_LOOK: Final = 0.25
_HINT: Final = "name one that all machines reach, by --store or XBUILD_STORE: the results come back by it"

T = TypeVar("T")


class CancelledError(Exception):
    """Nobody wants this build any more."""


def require_shared(store: Store) -> Shared:
    """The shared store behind `store`, which is asked again when it did not answer: a run of hours outlives a fault.

    Raises UsageError if there is none that can be read and written.
    """
    shared = behind(store)
    if not (shared.writes and shared.reads):
        message = "the shared store cannot be written, or nobody is trusted whose results are there"
        raise UsageError(message, hint=_HINT)
    shared.rest = REST
    return shared


def behind(store: Store) -> Shared:
    """The shared store behind `store`. Raises UsageError without one."""
    if not isinstance(store, SharingStore):
        raise UsageError("a cluster needs a shared store", hint=_HINT)
    return store.shared


def patiently(shared: Shared, call: Callable[[], T], over: Callable[[], bool] = lambda: False) -> T:
    """What `call` gives. While a shared store does not answer, what it raises a MachineError for is tried again.

    Raises MachineError, which says so, if that does not end; else what `call` raises.
    over: whether nobody waits for it any more.
    """
    end = time.monotonic() + PATIENCE
    while True:
        began = time.monotonic()
        try:
            return call()
        except MachineError as error:
            if not shared.faulty_since(began):
                raise
            if time.monotonic() > end:
                message = f"the shared store did not answer for {PATIENCE:.0f} seconds: {shared.fault}"
                hint = "when it does, the same command goes on: what a worker has built is still there"
                raise MachineError(message, details=[error.message], hint=hint) from error
        wait = time.monotonic() + REST
        while time.monotonic() < wait:
            if over():
                raise CancelledError
            time.sleep(min(_LOOK, REST))


def sent(request: Request, store: Store, words: Sequence[str]) -> dict[str, Any]:
    """Put all that the build needs into the shared store; the words by which `laid` finds it. words: more options.

    Raises as `parcel.pack`, and SharedError.
    """
    blobs = behind(store)
    blob = patiently(blobs, lambda: parcel.sent(parcel.pack(request, blobs, store), blobs))
    return {"parcel": blob.sha256, "size": blob.size, "stores": list(shared_stores.named()), "options": list(words)}


@dataclass(frozen=True)
class Laid:
    """What an order comes to on a worker. words, env: of our command, and variables. give_back: what is to be done when
    that has succeeded; it raises MachineError if what was built cannot go to the shared store.
    """

    words: tuple[str, ...]
    env: Mapping[str, str]
    give_back: Callable[[], None] = lambda: None


def laid(
    order: Mapping[str, Any], place: Path, store: Store, jobs: int, over: Callable[[], bool] = lambda: False
) -> Laid:
    """Lay out what an order needs as `place`. jobs: of this machine. over: as of `patiently`.

    An order without a parcel is a command that needs nothing. Raises what the parcel is refused for, and MachineError
    for a shared store that does not answer.
    """
    if "parcel" not in order:
        return Laid(tuple(order["words"]), {})
    stores = shared_stores.named() or tuple(order["stores"])
    shared = store.shared if isinstance(store, SharingStore) else Shared(stores)
    shared.rest = REST
    found = patiently(shared, lambda: parcel.received(Blob(order["parcel"], order["size"]), shared), over)
    request = patiently(shared, lambda: parcel.unpacked(found, place, shared), over)
    parcel.require_same(found, request, place, shared, store)
    _leave_other_needs(found, request, place, store)
    words = ["build", request.recipe, "--target", request.target, *shlex.split(request.options())]
    words += [*order["options"], "--no-publish", "--jobs", str(jobs)]
    env = {"XBUILD_PROJECT": str(place), shared_stores.VARIABLE: " ".join(stores)}

    def give_back() -> None:
        patiently(shared, lambda: _given(found, request, place, store, shared), over)

    return Laid(tuple(words), env, give_back)


def _leave_other_needs(found: Parcel, request: Request, place: Path, store: Store) -> None:
    """Remove artifacts of recipes that it needs if they are others than its sender has: a shared store has those.

    A recipe that does not come out the same twice, and was built on two machines at once, has two.
    """
    try:
        build = prepared(read(request, store, place))
    except NotBuiltError:
        return
    if found.key not in (None, build.key):
        for one in build.staged:
            log.info(f"{one.name} is taken as {found.title} was ordered with it, not as it was built here")
            store.remove("artifacts", one.key)


def _given(found: Parcel, request: Request, place: Path, store: Store, shared: Shared) -> None:
    """See that the artifact is in the shared store: one that was there already, or that the build could not push, is
    not put there by the build.
    """
    build = prepared(read(request, store, place))
    if found.key not in (None, build.key):
        needs = ", ".join(one.name for one in build.staged)
        have = "has" if len(build.staged) == 1 else "have"
        message = f"{found.title} needs {needs}, which {have} other bytes here than where the build was ordered"
        hint = called("they do not come out the same twice: `invoke clean` where it was ordered, and build again")
        raise MachineError(message, hint=hint)
    record = shared.get_record("artifacts", build.key)
    if record is None or not all(map(shared.has_blob, record.blobs.values())):
        push(store, shared, "artifacts", build.key)
