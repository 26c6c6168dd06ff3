"""A local store that asks shared ones before it makes an entry, and gives them what it made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from xbuild.base import log
from xbuild.base.digest import key_of
from xbuild.base.errors import CheckError, MachineError, UsageError, called
from xbuild.store import carry
from xbuild.store.local import Store, lock_of, writing_below
from xbuild.store.shared.records import Blob, Record
from xbuild.store.shared.shared import Shared

ENTRY: Final = "entry"
"""What the blob of an entry is called in its record: a file as `xbuild.store.carry` packs it."""


class SharingStore(Store):
    """The store below `root`, and behind it `shared`."""

    def __init__(
        self,
        root: Path,
        remove_tree: Callable[[Path], None],
        record: Callable[[Path], None] | None,
        shared: Shared,
    ) -> None:
        super().__init__(root, remove_tree, record)
        self.shared = shared
        self._unread_told = False

    def ensure(self, kind: str, key_value: Any, describe: str, make: Callable[[Path], None]) -> Path:
        """As `Store.ensure`: what a shared store has is not made, and what was made is pushed there.

        Artifacts are made: who has built one wants that one, and has asked for another before, see `obtain`.
        """
        if kind in carry.STAYING:
            return super().ensure(kind, key_value, describe, make)
        return self.ensured(kind, key_value, describe, make, ask=kind != "artifacts")

    def ensured(
        self, kind: str, key_value: Any, describe: str, make: Callable[[Path], None], *, ask: bool
    ) -> Path:
        """The same for entries that travel; ask: shared stores are asked before `make`."""
        key, made = key_of(key_value), False

        def fetch_or_make(staging: Path) -> None:
            nonlocal made
            if not (ask and self._fill(kind, key, describe, staging)):
                make(staging)
                made = True

        path = super().ensure(kind, key_value, describe, fetch_or_make)
        if made and self.shared.writes:
            offer(self, kind, key)
        return path

    def _fill(self, kind: str, key: str, describe: str, staging: Path) -> bool:
        """Make `staging` what a shared store has of `key`; False if none has it, or nothing that is right."""
        if not self.shared.reads:
            self._tell_unread()
            return False
        # Whoever holds the entry's lock holds that of what he needs meanwhile.
        lock = lock_of(kind, self.entry(kind, key).name)
        for record in self.shared.records(kind, key):
            file, scratch = self.scratch(lock), self.scratch(lock)
            try:
                if self._brought(record, file, describe):
                    carry.fill(file, kind, key, scratch, staging)
                    return True
            except (CheckError, UsageError) as error:
                log.warn(f"{describe}, signed by {record.signer}, is not used: {_reason(error, file)}")
            finally:
                self.discard(file)
                self.discard(scratch)
        return False

    def _tell_unread(self) -> None:
        if not self.shared.keys.trusted and not self._unread_told:
            self._unread_told = True
            remedy = called("`invoke store.trust KEY.pub` trusts one")
            log.warn(f"no keys are trusted, so nothing of shared stores is used: {remedy}")

    def _brought(self, record: Record, file: Path, describe: str) -> bool:
        blob = record.blobs.get(ENTRY)
        if blob is None:
            return False
        with log.step(f"fetch {describe}: {log.human_size(blob.size)}, signed by {record.signer}"):
            return self.shared.get_blob(blob, file)


class _AbsentError(Exception):
    """No shared store has it."""


def obtain(store: Store, kind: str, value: Any, describe: str) -> Path | None:
    """The entry of `value`, of the store or of a shared one, but never made; None if there is none."""
    if (found := store.get(kind, key_of(value))) or not isinstance(store, SharingStore):
        return found

    def refuse(_: Path) -> None:
        raise _AbsentError

    try:
        return store.ensured(kind, value, describe, refuse, ask=True)
    except _AbsentError:
        return None


def push(store: Store, shared: Shared, kind: str, key: str) -> Blob:
    """Write the finished entry of `key` to a shared store, unless it is there as it is here.

    Raises SharedError, and as `carry.pack`.
    """
    name = f"push-{kind}-{key[:20]}"
    in_use = store.in_use()
    with in_use, store.lock(name, describe=f"pushes {kind}/{key[:20]}"), writing_below(store.root):
        store.discard_scratch_of(name)
        place = store.scratch(name)
        try:
            carry.write(store, [(kind, key)], place)
            blob = shared.put_blob(place)
        finally:
            store.discard(place)
    shared.put_record(kind, key, Record({ENTRY: blob}))
    return blob


def offer(store: SharingStore, kind: str, key: str) -> None:
    """As `push`; what is in the way is a warning: all is well here."""
    name = f"{kind}/{key[:20]}"
    try:
        with log.step(f"push {name}"):
            push(store, store.shared, kind, key)
    except (MachineError, CheckError, UsageError) as error:
        log.warn(f"{name} is not in the shared store: {error.message}")


def pull(store: Store, shared: Shared, kind: str, key: str) -> bool:
    """Take the entry of `key` from a shared store into ours, unless it is there; False if no store has it whole."""
    if store.get(kind, key):
        return True
    name = f"pull-{kind}-{key[:20]}"
    with store.lock(name, describe=f"fetches {kind}/{key[:20]}"), writing_below(store.root):
        store.discard_scratch_of(name)
        for record in shared.records(kind, key):
            file, blob = store.scratch(name), record.blobs.get(ENTRY)
            try:
                if blob and shared.get_blob(blob, file):
                    carry.unpack(store, file)
            except (CheckError, UsageError) as error:
                log.warn(f"{kind}/{key[:20]}, signed by {record.signer}, is not used: {_reason(error, file)}")
            finally:
                store.discard(file)
            if store.get(kind, key):
                return True
    return False


def _reason(error: CheckError | UsageError, file: Path) -> str:
    return error.message.removeprefix(f"{file}: ")


_SOURCES: Final = "sources"


def borrow(store: Store, digest: str, target: Path, title: str) -> Blob | None:
    """Write the source that a recipe names by `digest` to `target`, from a shared store; None if none has it.

    What is given is the file's own sha256: for a checkout by git another one than `digest`, and somebody who is trusted
    has signed which.
    """
    if not isinstance(store, SharingStore):
        return None
    found = store.shared.find_blob(digest)
    named = [record.blobs.get(ENTRY) for record in store.shared.records(_SOURCES, digest)] if found is None else [found]
    for blob in filter(None, named):
        with log.step(f"fetch {title} from a shared store"):
            if store.shared.get_blob(blob, target):
                return blob
    return None


def lend(store: Store, digest: str, file: Path) -> None:
    """Push the source that a recipe names by `digest`, if that may be; what is in the way is a warning."""
    if not isinstance(store, SharingStore) or not store.shared.writes:
        return
    try:
        blob = store.shared.put_blob(file)
        if blob.sha256 != digest:
            store.shared.put_record(_SOURCES, digest, Record({ENTRY: blob}))
    except (MachineError, UsageError) as error:
        log.warn(f"{file.name} is not in the shared store: {error.message}")
