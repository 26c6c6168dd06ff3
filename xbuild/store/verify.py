"""Looks at each file of what the store holds: is it as it was made?"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xbuild.base.digest import CONTENTS, damage, damaged, file_sha256, key_of, read_sealed
from xbuild.base.errors import MachineError
from xbuild.base.walk import shown
from xbuild.sandbox.contents import differences
from xbuild.store.carry import recorded
from xbuild.store.local import KINDS, Store

_DOWNLOAD = "sha256-"
_SHOWN = 20
"""Of the files of one entry that are not as they were."""
_NO_ENTRIES = ("work",)


@dataclass(frozen=True)
class Verified:
    """What was seen of an entry. faults: in words, each with the file; partly: it has sums for a few files only."""

    kind: str
    name: str
    faults: tuple[str, ...] = ()
    partly: bool = False

    def as_json(self) -> dict[str, Any]:
        """For --json."""
        name = f"{self.kind}/{self.name}"
        return {"kind": self.kind, "name": name, "faults": list(self.faults), "partly": self.partly}


def verify(store: Store, kinds: Collection[str] = KINDS) -> list[Verified]:
    """Look at all entries of `kinds`. Work places have no sums: they are no results."""
    chosen = [kind for kind in KINDS if kind in kinds and kind not in _NO_ENTRIES]
    with store.in_use():
        entries = [path for kind in chosen for path in sorted((store.root / kind).glob("*"))]
        files = [_download(path) for path in entries if path.parent.name == "downloads"]
        return files + verify_entries([path for path in entries if path.parent.name != "downloads"])


def verify_entries(entries: Sequence[Path]) -> list[Verified]:
    """Look at these entries; those that go away meanwhile are left out."""
    found = []
    with tempfile.TemporaryDirectory(prefix="xbuild-verify-") as place:
        # Others than the caller write there.
        Path(place).chmod(0o711)
        texts = {path: Path(place) / str(number) for number, path in enumerate(entries) if (path / CONTENTS).is_file()}
        for text in texts.values():
            text.touch()
        unread = recorded(texts) if texts else {}
        for path in entries:
            partly = False
            faults = _key_faults(path)
            if fault := unread.get(str(path)):
                faults.append(fault)
            elif path in texts:
                faults += _differences(path / CONTENTS, texts[path])
            elif not faults and (fault := (damage if path.parent.name == "artifacts" else damaged)(path)):
                faults.append(fault)
            else:
                partly = path.parent.name != "artifacts"
            if path.exists():
                found.append(Verified(path.parent.name, path.name, tuple(faults), partly))
    return found


def _key_faults(path: Path) -> list[str]:
    try:
        key = key_of(read_sealed(path / "key.json"))
    except (OSError, ValueError) as error:
        return [f"key.json: {getattr(error, 'strerror', None) or error}"]
    return [] if key.startswith(path.name) else ["key.json: it is that of another entry"]


def _differences(recorded: Path, present: Path) -> list[str]:
    try:
        faults = [f"{shown(path)} {how}" for path, how in differences(recorded.read_text(), present.read_text())]
    except (OSError, ValueError, TypeError) as error:
        return [f"{CONTENTS}: {getattr(error, 'strerror', None) or error}"]
    more = len(faults) - _SHOWN
    return [*faults[:_SHOWN], f"and {more} more"] if more > 0 else faults


def _download(path: Path) -> Verified:
    # What is packed from a directory of the project is made anew each time.
    named = path.name.removeprefix(_DOWNLOAD) if path.name.startswith(_DOWNLOAD) else ""
    try:
        fault = bool(named) and file_sha256(path) != named
    except OSError as error:
        return Verified("downloads", path.name, (str(error.strerror),))
    return Verified("downloads", path.name, ("the file has changed",) if fault else (), partly=not named)


def remove(store: Store, found: Sequence[Verified]) -> list[Verified]:
    """Remove the damaged entries among `found`, and give those that are gone; imported roots are the user's, and stay.

    Raises MachineError if something is at work that may stand on them.
    """
    wanted = [one for one in found if one.faults and one.kind != "imported"]
    if not wanted:
        return []
    with store.alone():
        gone = [one for one in wanted if store.clear_one(one.kind, one.name)]
    if len(gone) < len(wanted):
        left = next(one for one in wanted if one not in gone)
        raise MachineError(f"{left.kind}/{left.name} is in use, and stays", hint="wait for what uses it, or end it")
    return gone
