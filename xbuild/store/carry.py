"""Entries that travel: several in one file, which another store takes in, under another path and for another user.

The work is done inside (`sandbox/carry.py`), where the owners of files are what they are in a root.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from xbuild.base import log, process
from xbuild.base.digest import CONTENTS, damaged, file_sha256, key_of, read_json
from xbuild.base.errors import CheckError, MachineError, UsageError
from xbuild.sandbox import contents
from xbuild.sandbox.contents import Owners
from xbuild.sandbox.idmap import IDS, find
from xbuild.sandbox.run import machine_view, run, take_back
from xbuild.sandbox.unwrap import SKIPPED, Head
from xbuild.store.local import KINDS, LAYOUT, Store, writing_below

STAYING = {
    "downloads": "whoever needs them fetches them by their sums",
    "indexes": "what a mirror has is asked there",
    "imported": "import the root there, from where it came",
    "canaries": "they say what this machine's kernel does",
    "sessions": "they name a tree by its place on this machine",
    "reproduced": "they tell of a comparison made here",
    "taught": "a build learns it anew",
    "work": "they are no results",
}
"""Kinds of entries that do not travel, and why."""
TRAVELLING = tuple(kind for kind in KINDS if kind not in STAYING)

_SCRIPT = Path(contents.__file__).with_name("carry.py")
# zstd's own default level. With -T its bytes do not depend on the number of threads (zstd(1)).
_PACK = 'said=$1; shift; "$@" | zstd -3 -T0 --quiet --stdout 2> "$said"'
_UNPACK = """
said=$1 archive=$2
shift 2
{ zstd --decompress --quiet --stdout -- "$archive" 2> "$said" || echo "zstd: exit code $?" >> "$said"; } | "$@"
"""
_AGAIN = "get it again from where it was packed"


@dataclass(frozen=True)
class Carried:
    """An entry in a file. present: it was in the store already."""

    kind: str
    key: str
    path: Path
    present: bool = False

    @property
    def name(self) -> str:
        """KIND/NAME, as the store's directories have it."""
        return f"{self.kind}/{self.path.name}"

    def as_json(self) -> dict[str, Any]:
        """For --json."""
        return {"kind": self.kind, "name": self.name, "key": self.key, "present": self.present}


@dataclass(frozen=True)
class Packed:
    """A file that was written. sha256: of its bytes, in hex; contents: of what is recorded of each entry."""

    file: Path
    sha256: str
    entries: tuple[Carried, ...]
    contents: tuple[str, ...]


def _owners() -> Owners:
    # The machine's root does it from outside: what is his own has no id inside.
    return Owners(find().root, (0, 0)) if os.geteuid() == 0 else Owners((0, 0), (IDS, IDS))


def inside(
    job: Mapping[str, Any], *, script: str = '"$@"', words: Sequence[str | Path] = (), output: IO[bytes] | None = None
) -> tuple[dict[str, Any], list[str]]:
    """Do a job of sandbox/carry.py; gives its report, and what zstd said.

    script: how the program is started, words: what the shell has as $1 and so on before it.
    """
    owners = _owners()
    with tempfile.TemporaryDirectory(prefix="xbuild-carry-") as place:
        folder = Path(place)
        file, report, said = (folder / name for name in ("job", "report", "said"))
        for made in (report, said):
            made.touch()
        told = {**job, "owners": [owners.root, owners.caller], "report": str(report)}
        file.write_text(json.dumps(told))
        first: list[str | Path] = [said, *words] if words or output else []
        command = ["sh", "-uc", script, "sh", *first, sys.executable, "-I", "-S", _SCRIPT, file]
        if os.geteuid() == 0:
            process.run(command, stdout=output, check=False)
        else:
            run(machine_view(), command, output=output, check=False)
        lines = said.read_text(errors="replace").splitlines()
        if full := process.disk_full(lines):
            raise full
        try:
            return read_json(report), lines
        except ValueError as error:
            hint = "does the machine have too little memory?"
            raise MachineError("the helper of the store was killed", hint=hint) from error


def _require_done(report: Mapping[str, Any], what: str) -> None:
    """Raise what a failed job stands for. what: the file or the entry, at the beginning of a message."""
    fault, message = report.get("error"), report.get("message")
    if fault == "os":
        raise OSError(report["errno"], message, report["where"] or None)
    if fault == "refused":
        raise UsageError(f"{what}: {message}")
    if fault == "damaged":
        raise CheckError(f"{what}: damaged: {message}", hint=_AGAIN)


def record(entry: Path) -> None:
    """Write down what is in the finished directory `entry`, in its file `CONTENTS`. Raises OSError, MachineError."""
    if all(path.lstat().st_uid == os.geteuid() for path in entry.iterdir()):
        # No namespace is needed for what the caller alone has written.
        owners = Owners((1 << 32, 1 << 32), (os.geteuid(), os.getegid()))
        with contextlib.suppress(PermissionError):
            text = contents.recorded(entry, owners, SKIPPED)
            (entry / CONTENTS).write_text(text)
            return
    for fault in recorded({entry: entry / CONTENTS}).values():
        raise OSError(errno.EIO, fault, str(entry))


def recorded(entries: Mapping[Path, Path]) -> dict[str, str]:
    """Write what is in each of the directories to the file it is mapped to; gives what could not be read, and why."""
    trees = [(str(entry), str(file)) for entry, file in entries.items()]
    report, _ = inside({"do": "record", "trees": trees})
    _require_done(report, "the store")
    return dict(report["faults"])


def pack(store: Store, chosen: Sequence[tuple[str, str]], file: Path) -> Packed:
    """Write the entries `chosen`, (kind, key), to `file`; what is there is replaced.

    Raises UsageError for kinds that do not travel and for a bad place, CheckError for an entry that is not as it was
    made, MachineError for a full disk.
    """
    if not chosen:
        raise UsageError("no entry is named", hint="`invoke store.ls` shows them")
    with _written(store, file) as part:
        packed = write(store, chosen, part)
        part.replace(file)
    return replace(packed, file=file)


def write(store: Store, chosen: Sequence[tuple[str, str]], file: Path) -> Packed:
    """As `pack`, to a new file in a place that is the caller's; on errors a part of it may be there."""
    entries = []
    for kind, key in sorted(set(chosen)):
        if kind in STAYING:
            raise UsageError(f"{kind} do not travel: {STAYING[kind]}")
        found = store.get(kind, key)
        if found is None:
            name = f"{kind}/{store.entry(kind, key).name}"
            raise CheckError(f"{name} is not as it was made, or gone", hint="`invoke store.verify` tells more")
        entries.append(Carried(kind, key, found, present=True))
    told = [
        {"kind": one.kind, "key": one.key, "value": store.value(one.kind, one.key), "path": str(one.path)}
        for one in entries
    ]
    with file.open("wb") as output:
        report, _ = inside({"do": "pack", "entries": told, "layout": LAYOUT}, script=_PACK, output=output)
    if report.get("error") == "damaged":
        raise CheckError(report["message"], hint="`invoke store.verify --remove` removes what is damaged")
    _require_done(report, "the store")
    return Packed(file, file_sha256(file), tuple(entries), tuple(report["digests"]))


@contextlib.contextmanager
def _written(store: Store, file: Path) -> Iterator[Path]:
    """A place beside `file`, for what is to be renamed to it; nothing is left there."""
    if file.exists() and not file.is_file():
        raise UsageError(f"{file} is there already, and no file", hint="name another file")
    if not (file.parent.is_dir() and os.access(file.parent, os.W_OK | os.X_OK)):
        raise UsageError(f"cannot write {file}", hint="name a file in a directory that you can write to")
    part = file.with_name(f".{file.name}.part")
    lock = store.lock(f"pack-{key_of(str(file))[:16]}", wait=False, describe=f"packs into {file}")
    with store.in_use(), lock, writing_below(file.parent):
        part.unlink(missing_ok=True)
        try:
            yield part
        finally:
            part.unlink(missing_ok=True)


def unpack(store: Store, file: Path) -> tuple[Carried, ...]:
    """Take the entries of `file` into the store; those that it has already are left as they are.

    Raises CheckError for a file that is damaged or was tampered with, UsageError for one that is nothing for this
    store, MachineError for a full disk. Nothing is left then but entries that are whole.
    """
    if not file.is_file():
        message = f"{file} is no file" if file.exists() else f"{file}: there is no such file"
        raise UsageError(message, hint="name what `invoke store.pack` has written")
    if not os.access(file, os.R_OK):
        raise UsageError(f"{file}: you may not read it")
    with file.open("rb") as stream:
        if stream.read(4) != b"\x28\xb5\x2f\xfd":
            raise UsageError(f"{file} is no file of entries", hint="`invoke store.pack` writes one")
    name = f"unpack-{key_of(str(file.resolve()))[:16]}"
    in_use = store.in_use()
    with in_use, store.lock(name, describe=f"unpacks {file}"), writing_below(store.root):
        store.discard_scratch_of(name)
        scratch = store.scratch(name)
        scratch.mkdir()
        scratch.chmod(0o755)
        try:
            return tuple(_taken(store, entry, scratch) for entry in _unpacked(store, file, scratch))
        finally:
            store.discard(scratch)


def fill(file: Path, kind: str, key: str, scratch: Path, staging: Path) -> None:
    """Make `staging` what the one entry of `file` holds, which must be that of `kind` and `key`.

    scratch: where nothing is, beside `staging`. Raises as `unpack`.
    """
    scratch.mkdir()
    scratch.chmod(0o755)
    entries = _entries(file, scratch, [])
    if [(entry["kind"], entry["key"]) for entry in entries] != [(kind, key)]:
        raise CheckError(f"{file}: it does not have the one entry {kind}/{key}")
    unpacked = scratch / Head.name(entries[0])
    take_back(unpacked.parent, unpacked)
    unpacked.rename(staging)
    staging.chmod(0o755)


def _unpacked(store: Store, file: Path, scratch: Path) -> list[dict[str, Any]]:
    finished = [(kind, path) for kind in TRAVELLING for path, _, _ in store.finished(kind)]
    return _entries(file, scratch, [f"{kind}/{path.name}" for kind, path in finished if damaged(path) is None])


def _entries(file: Path, scratch: Path, present: Sequence[str]) -> list[dict[str, Any]]:
    job = {"do": "unpack", "into": str(scratch), "layout": LAYOUT, "kinds": TRAVELLING, "present": present}
    report, said = inside(job, script=_UNPACK, words=[file.resolve()])
    _require_done(report, str(file))
    if said:
        raise CheckError(f"{file}: damaged: {said[0]}", hint=_AGAIN)
    return list(report["entries"])


def _require_sound(entry: Path) -> None:
    """Raise CheckError if an entry of the store is not as it was recorded; nothing is said of one without a record."""
    name = f"{entry.parent.name}/{entry.name}"
    if not (entry / CONTENTS).is_file():
        return
    with tempfile.TemporaryDirectory(prefix="xbuild-carry-") as place:
        # Others than the caller read there.
        Path(place).chmod(0o711)
        present = Path(place) / "present"
        unread = recorded({entry: present})
        fault = unread.get(str(entry)) or contents.first_difference((entry / CONTENTS).read_text(), present.read_text())
    if fault:
        hint = "`invoke store.verify --remove` removes it"
        raise CheckError(f"{name} is there already, and is not as it was made: {fault}", hint=hint)


def _taken(store: Store, entry: Mapping[str, Any], scratch: Path) -> Carried:
    kind, key, value = entry["kind"], entry["key"], entry["value"]
    unpacked = scratch / kind / store.entry(kind, key).name
    made = False

    def make(staging: Path) -> None:
        nonlocal made
        if not unpacked.is_dir():
            raise MachineError(f"{kind}/{unpacked.name} was removed meanwhile", hint="give the same command again")
        take_back(unpacked.parent, unpacked)
        unpacked.rename(staging)
        staging.chmod(0o755)
        made = True

    # From this file, wherever else it may be had.
    path = Store.ensure(store, kind, value, f"{kind}/{unpacked.name}", make)
    if not made:
        log.info(f"{kind}/{path.name} is there already")
        _require_sound(path)
    return Carried(kind, key, path, present=not made)
