"""What travels of a build: a parcel, whose blobs lie in a shared store, and an artifact that comes back by it."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from xbuild.base.errors import UsageError
from xbuild.build import parcel
from xbuild.build.request import Request
from xbuild.store import shared as shared_stores
from xbuild.store.local import Store
from xbuild.store.shared.entries import SharingStore
from xbuild.store.shared.records import Blob
from xbuild.store.shared.shared import Shared


def require_shared(store: Store) -> Shared:
    """The shared store behind `store`. Raises UsageError if there is none that can be read and written."""
    hint = "name one that all machines reach, by --store or XBUILD_STORE: the results come back by it"
    if not isinstance(store, SharingStore):
        raise UsageError("a cluster needs a shared store", hint=hint)
    if not (store.shared.writes and store.shared.reads):
        raise UsageError("the shared store cannot be written, or nobody is trusted whose results are there", hint=hint)
    return store.shared


def sent(request: Request, store: Store, words: Sequence[str]) -> dict[str, Any]:
    """Put all that the build needs into the shared store; the words by which `laid` finds it. words: more options.

    Raises as `parcel.pack`, and SharedError.
    """
    blobs = require_shared(store)
    blob = parcel.sent(parcel.pack(request, blobs, store), blobs)
    return {"parcel": blob.sha256, "size": blob.size, "stores": list(shared_stores.named()), "options": list(words)}


@contextlib.contextmanager
def laid(
    order: Mapping[str, Any], place: Path, store: Store, jobs: int
) -> Iterator[tuple[tuple[str, ...], dict[str, str]]]:
    """Lay out what an order needs as `place`, for as long as the block runs; the words of our command, and variables.
    jobs: of this machine.

    An order without a parcel is a command that needs nothing. Raises what the parcel is refused for.
    """
    if "parcel" not in order:
        yield tuple(order["words"]), {}
        return
    stores = shared_stores.named() or tuple(order["stores"])
    blobs = store.shared if isinstance(store, SharingStore) else Shared(stores)
    found = parcel.received(Blob(order["parcel"], order["size"]), blobs)
    request = parcel.unpacked(found, place, blobs)
    parcel.require_same(found, request, place, blobs, store)
    words = ["build", request.recipe, "--target", request.target, *shlex.split(request.options())]
    words += [*order["options"], "--no-publish", "--jobs", str(jobs)]
    yield tuple(words), {"XBUILD_PROJECT": str(place), shared_stores.VARIABLE: " ".join(stores)}
