"""What lies in one shared store: its records, whether each is right, and what may go."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from xbuild.store.shared import records
from xbuild.store.shared.place import PART, Lie, Place, PlaceError
from xbuild.store.shared.records import Blob, Invalid, Record
from xbuild.store.shared.shared import SharedError
from xbuild.store.shared.trust import Keys

_YOUNG = timedelta(days=1)
"""What nothing names yet may be half of what somebody writes just now; such a file stays so long."""


@dataclass(frozen=True)
class Seen:
    """A record in a store. name: its file there. record: None if it is not right; fault: why."""

    name: str
    kind: str
    key: str
    record: Record | None
    fault: str = ""

    @property
    def size(self) -> int:
        """Bytes of its blobs."""
        return sum(blob.size for blob in self.record.blobs.values()) if self.record else 0

    def as_json(self) -> dict[str, Any]:
        """For --json."""
        made = self.record.made if self.record else None
        return {
            "name": self.name, "kind": self.kind, "key": self.key, "bytes": self.size, "fault": self.fault,
            "signer": self.record.signer if self.record else None,
            "made": made.strftime("%Y-%m-%dT%H:%M:%SZ") if made else None,
        }  # fmt: skip


def seen(place: Place, keys: Keys, kinds: Sequence[str] = ()) -> list[Seen]:
    """The records in a store, of `kinds` (none: of all). Raises SharedError."""
    with _asking(place):
        names = [name for name, _ in place.names("records") if PART not in name]
        return [one for name in names for one in _seen(place, keys, name) if not kinds or one.kind in kinds]


def _seen(place: Place, keys: Keys, name: str) -> Iterator[Seen]:
    parts = name.split("/")
    if len(parts) != 5:
        return
    kind, key = parts[1], parts[3]
    try:
        data = place.read(name, records.LARGEST)
        if data is not None:
            text, signature = records.unwrapped(data)
            who = keys.verified(text, signature)
            yield Seen(name, kind, key, records.parsed(text, kind, key, who))
    except (Invalid, Lie) as error:
        yield Seen(name, kind, key, None, str(error))


def verified(place: Place, keys: Keys, kinds: Sequence[str] = ()) -> list[Seen]:
    """As `seen`, and each blob is fetched and held against its sum. Raises SharedError."""
    known: dict[Blob, str] = {}
    found = []
    for one in seen(place, keys, kinds):
        blobs = one.record.blobs.values() if one.record else ()
        faults = [one.fault] if one.fault else []
        for blob in blobs:
            if blob not in known:
                known[blob] = _blob_fault(place, blob)
            faults += [known[blob]] if known[blob] else []
        found.append(Seen(one.name, one.kind, one.key, one.record, "; ".join(faults)))
    return found


def _blob_fault(place: Place, blob: Blob) -> str:
    with _asking(place), tempfile.TemporaryFile() as stream:
        try:
            return "" if place.fetch(blob, stream) else f"{blob.name} is not there"
        except Lie as error:
            return str(error).removeprefix(f"{place.shown}: ")


@dataclass(frozen=True)
class Gone:
    """What went, or would go: names of files. freed, left: bytes."""

    names: tuple[str, ...]
    freed: int
    left: int


def collect(
    place: Place, keys: Keys, *, days: int | None = None, size: int | None = None, dry: bool = False
) -> Gone:
    """Remove records older than `days`, the oldest until blobs take at most `size` bytes, and what none names then.

    A record that is not right counts as the oldest. Whoever reads meanwhile makes anew what he does not find. Raises
    SharedError.
    """
    known = seen(place, keys)
    with _asking(place):
        sizes = dict(place.names("blobs"))
        left = _kept(known, sizes, days, size)
        named = {blob.name for one in left if one.record for blob in one.record.blobs.values()}
        stay = {one.name for one in left}
        gone = [one.name for one in known if one.name not in stay]
        loose = [name for name in sizes if name not in named]
        # A blob comes before its record: what nobody has named for a day nobody will.
        loose = [name for name in loose if any(name in _names(one) for one in known) or _is_old(place, name)]
        for name in (*gone, *loose) if not dry else ():
            place.remove(name)
    freed = sum(sizes[name] for name in loose)
    return Gone((*gone, *loose), freed, sum(sizes.values()) - freed)


def _names(one: Seen) -> set[str]:
    return {blob.name for blob in one.record.blobs.values()} if one.record else set()


def _kept(known: Sequence[Seen], sizes: dict[str, int], days: int | None, size: int | None) -> list[Seen]:
    """The records that stay: the newest, as long as what they name takes no more than `size`."""
    oldest = datetime.now(UTC) - timedelta(days=days) if days is not None else None
    kept, named, total = [], set[str](), 0
    for one in sorted(known, key=lambda one: (_time(one), one.name), reverse=True):
        if one.record is None or (oldest and _time(one) < oldest):
            continue
        more = _names(one) - named
        added = sum(sizes.get(name, 0) for name in more)
        if size is not None and total + added > size:
            continue
        kept.append(one)
        named |= more
        total += added
    return kept


def _time(one: Seen) -> datetime:
    made = one.record.made if one.record else None
    return made or datetime.fromtimestamp(0, UTC)


def _is_old(place: Place, name: str) -> bool:
    when = place.changed(name)
    return when is not None and when < datetime.now(UTC) - _YOUNG


@contextlib.contextmanager
def _asking(place: Place) -> Iterator[None]:
    """What goes wrong with the store is an error of the command: nothing else was asked for."""
    try:
        yield
    except Lie:
        raise
    except PlaceError as error:
        raise SharedError(str(error), hint=f"is {place.shown} there, and may you do that?") from error
