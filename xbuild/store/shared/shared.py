"""The stores that the user names, as one: read in their order, written to the first that may be written.

A store that is broken, slow or lying costs one warning, and what it would have saved.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from xbuild.base import log
from xbuild.base.digest import file_sha256
from xbuild.base.errors import MachineError
from xbuild.store.shared import records
from xbuild.store.shared.place import Lie, Place, PlaceError
from xbuild.store.shared.records import Blob, Invalid, Record
from xbuild.store.shared.trust import Keys


class SharedError(MachineError):
    """Something could not be written to a shared store."""


class Shared:
    """The stores at `urls`. keys: whose records are used, and by whose key we sign; push: whether we may write.

    rest: seconds that a store which did not answer is asked nothing; one command asks it no more, as a rule.
    fault: what was last in the way, "" for nothing.
    """

    def __init__(self, urls: Sequence[str], keys: Keys | None = None, *, push: bool = True) -> None:
        self.places = tuple(Place(url) for url in urls)
        self.keys = keys or Keys.of_user()
        self._push = push
        self.rest = math.inf
        self.fault = ""
        self._out: dict[Place, float] = {}
        self._told: set[Place] = set()
        self._bad: set[str] = set()

    @property
    def writes(self) -> bool:
        """Whether what is made here can be written to a store."""
        return self._push and self.keys.signs and any(place.writable for place in self._asked())

    @property
    def reads(self) -> bool:
        """Whether anything of a store would be used."""
        return bool(self.keys.trusted) and any(self._asked())

    def _asked(self) -> Iterator[Place]:
        yield from (place for place in self.places if not self._rests(place))

    def _rests(self, place: Place) -> bool:
        return place in self._out and time.monotonic() - self._out[place] < self.rest

    def _let_rest(self, place: Place, error: PlaceError) -> None:
        # What it is asked after that goes over a new connection.
        place.disconnect()
        self.fault = str(error)
        self._out[place] = time.monotonic()

    def faulty_since(self, moment: float) -> bool:
        """Whether a store did not answer, or was not asked for that, at some time since `moment`, by time.monotonic."""
        return any(when + self.rest > moment for when in list(self._out.values()))

    def _target(self) -> Place:
        """Where we write to. Raises SharedError."""
        if not self._push:
            raise SharedError("nothing may be written to shared stores", hint="leave out --no-push")
        for place in self.places:
            if place.writable and self._rests(place):
                raise SharedError(f"{place.shown} did not answer earlier", hint="is it there, and reached from here?")
            if place.writable:
                return place
        raise SharedError(
            "none of the shared stores can be written", hint="name a directory, sftp: or s3: by --store or XBUILD_STORE"
        )

    @contextlib.contextmanager
    def _heeding(self, place: Place, consequence: str) -> Iterator[None]:
        """What goes wrong with `place` in the block is told once; where it does not answer it is not asked again."""
        try:
            yield
        except PlaceError as error:
            if not isinstance(error, Lie):
                self._let_rest(place, error)
            self.tell(place, f"{error}; {consequence}")

    def tell(self, place: Place, text: str) -> None:
        """Warn, once for each store; what else is odd with it only a verbose run tells."""
        (log.detail if place in self._told else log.warn)(text)
        self._told.add(place)

    def find_blob(self, sha256: str) -> Blob | None:
        """The blob of that name, as long as a store says that it is; None if none has one."""
        for place in self._asked():
            with self._heeding(place, "it is not asked any more"):
                if (size := place.size(Blob(sha256, 0).name)) is not None:
                    return Blob(sha256, size)
        return None

    def has_blob(self, blob: Blob) -> bool:
        """Whether a store seems to have it: a file of its name and size."""
        for place in self._asked():
            with self._heeding(place, "it is not asked any more"):
                if place.size(blob.name) == blob.size:
                    return True
        return False

    def get_blob(self, blob: Blob, to: Path) -> bool:
        """Write the blob to the new file `to`, its size and sha256 held against what came; False if no store has it.

        Raises OSError for `to` alone; nothing is left there then, nor without it.
        """
        for place in self._asked():
            done = False
            try:
                with self._heeding(place, "what it has is made anew"), to.open("wb") as stream:
                    done = place.fetch(blob, stream)
            finally:
                if not done:
                    to.unlink(missing_ok=True)
            if done:
                return True
            self._bad.add(blob.sha256)
        return False

    def put_blob(self, path: Path) -> Blob:
        """Write the file `path` to a store, unless it is there. Raises SharedError, OSError."""
        blob = Blob(file_sha256(path), path.stat().st_size)
        place = self._target()
        try:
            if blob.sha256 in self._bad or place.size(blob.name) != blob.size:
                with path.open("rb") as stream:
                    place.write(blob.name, stream, blob.size)
        except PlaceError as error:
            self._let_rest(place, error)
            raise SharedError(str(error), hint="is it there, and may you write to it?") from error
        return blob

    def get_record(self, kind: str, key: str) -> Record | None:
        """The record of `key` that somebody we trust has signed, of the first store that has one; None without one."""
        return next(self.records(kind, key), None)

    def records(self, kind: str, key: str) -> Iterator[Record]:
        """All such records, as stores and trusted keys are in order."""
        folder = records.folder_of(kind, key)
        for place in self._asked():
            for signer in self.keys.trusted:
                with self._heeding(place, "it is made anew"):
                    data = place.read(f"{folder}/{signer}", records.LARGEST)
                    if data is not None and (found := self._verified(place, kind, key, data)):
                        yield found
                if self._rests(place):
                    break

    def _verified(self, place: Place, kind: str, key: str, data: bytes) -> Record | None:
        try:
            text, signature = records.unwrapped(data)
            who = self.keys.verified(text, signature)
            return records.parsed(text, kind, key, who)
        except Invalid as error:
            self.tell(place, f"{place.shown}: the record of {kind}/{key[:20]} is not used: {error}; it is made anew")
            return None

    def put_record(self, kind: str, key: str, record: Record) -> None:
        """Sign and write a record, over one of ours; its blobs must be there. Raises SharedError."""
        place, name = self._target(), records.folder_of(kind, key)
        text = records.signed_text(kind, key, record, datetime.now(UTC))
        data = records.wrapped(text, self.keys.signature(text))
        if len(data) > records.LARGEST:
            raise ValueError(f"a record of {len(data)} bytes")
        try:
            with tempfile.TemporaryFile() as stream:
                stream.write(data)
                stream.seek(0)
                place.write(f"{name}/{self.keys.own}", stream, len(data))
        except PlaceError as error:
            self._let_rest(place, error)
            raise SharedError(str(error), hint="is it there, and may you write to it?") from error

