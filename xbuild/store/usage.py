"""What the store holds and how much that takes, when it was used last, and what can go."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Collection, Container, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from xbuild.base import process
from xbuild.base.digest import key_of, read_sealed
from xbuild.base.errors import UsageError
from xbuild.sandbox.run import capture, machine_view
from xbuild.store import answers
from xbuild.store.answers import FILES, Answer, Answers
from xbuild.store.local import IN_USE, KINDS, Store, lock_of

CACHE = answers.FOLDER
"""The compiler cache, which is listed as a kind of its own with one entry: nothing but a build has to do with it."""
LISTED = (*KINDS, CACHE)
_OF_THE_USER = "imported"
"""The kind of entries that xbuild cannot make anew."""
_DAY = 86400
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@dataclass(frozen=True)
class Held:
    """Something in the store. what: in words. size: bytes on disk. used: seconds since 1970. in_use: it may not go."""

    kind: str
    name: str
    key: str | None
    what: str
    size: int
    used: float
    in_use: bool

    def as_json(self) -> dict[str, Any]:
        """For --json."""
        return {
            "kind": self.kind, "name": f"{self.kind}/{self.name}", "key": self.key, "what": self.what,
            "bytes": self.size, "used": shown_time(self.used), "in_use": self.in_use,
        }  # fmt: skip


def shown_time(seconds: float) -> str:
    """`2025-01-31T12:00:00Z`."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def size_of(text: str, option: str = "--size") -> int:
    """Bytes, from `20G`, `500M`, `1.5T`, with or without `B` or `iB`; units of 1024. Raises UsageError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]?)(?:i?B)?", text, re.ASCII | re.IGNORECASE)
    if not found:
        raise UsageError(f"{option} must be an amount such as 20G, not {text!r}", hint="K, M, G and T are of 1024")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def held(store: Store, kinds: Collection[str] = LISTED, *, alone: bool = False) -> list[Held]:
    """All that lies in the directories of `kinds`, by kind, the last used first; the compiler cache as one.

    alone: the caller himself holds the store's lock IN_USE.
    """
    places = [path for kind in KINDS if kind in kinds for path in sorted((store.root / kind).glob("*"))]
    sizes = _sizes(places)
    locked = _locked(store)
    if alone:
        locked.discard(IN_USE)
    found = [_held(store, path, sizes, locked) for path in places]
    found.sort(key=lambda one: (KINDS.index(one.kind), -one.used, one.name))
    cache = answers.kept(store) if CACHE in kinds else None
    return found if cache is None else [*found, _of_cache(cache, in_use=IN_USE in locked)]


def _of_cache(part: Answers, *, in_use: bool) -> Held:
    return Held(CACHE, FILES, None, f"{len(part.answers)} answers of compilers", part.size, part.used, in_use)


def _held(store: Store, path: Path, sizes: dict[Path, int], locked: Container[str]) -> Held:
    kind, name = path.parent.name, path.name
    key, what, used = None, "", store.used(kind, name)
    if kind in ("downloads", "work"):
        with contextlib.suppress(OSError):
            used = path.stat().st_mtime
    else:
        try:
            value = read_sealed(path / "key.json")
            key, what = key_of(value), described(value)
        except (OSError, ValueError):
            what = "damaged: its key.json cannot be read"
    lock = lock_of(kind, name)
    # What those who are at work stand on cannot be told from the rest.
    in_use = lock in locked or (IN_USE in locked and kind not in ("downloads", "work"))
    return Held(kind, name, key, what, sizes.get(path, 0), used, in_use)


def described(value: Any) -> str:
    """What an entry is, from the value that it was made from: words for a person, no more."""
    if not isinstance(value, dict):
        return ""
    words = [_text(value, name) for name in ("what", "architecture", "suite", "mode")]
    recipe, target = (value.get(name) for name in ("recipe", "target"))
    if isinstance(recipe, dict):
        words[:0] = [_text(recipe, "name"), _text(recipe, "version")]
    if isinstance(target, dict):
        words.append(_text(target, "name"))
        if isinstance(target.get("distribution"), dict):
            words.append(_text(target["distribution"], "suite"))
    base: dict[str, Any] = next((value[name] for name in ("base", "root") if isinstance(value.get(name), dict)), {})
    words += [_text(base, name) for name in ("architecture", "suite")]
    words += [_text(value, name) for name in ("uname", "source", "program")]
    packages = value.get("packages")
    if isinstance(packages, list) and all(isinstance(package, str) for package in packages):
        words.append(f"with {' '.join(packages)}"[:60] if packages else "")
    return " ".join(filter(None, words))


def _text(value: dict[str, Any], name: str) -> str:
    found = value.get(name)
    return found if isinstance(found, str) else ""


def _sizes(places: Sequence[Path]) -> dict[Path, int]:
    """Bytes on disk; much of it only root inside can see."""
    if not places:
        return {}
    words: list[str | Path] = ["du", "--summarize", "--block-size=1", "--null", "--", *places]
    if os.geteuid() == 0:
        said = process.run(words, capture=True, check=False).stdout
    else:
        said = capture(machine_view(), words)[1]
    # What goes away meanwhile has no line.
    lines = [os.fsdecode(line).rpartition("\n")[2].partition("\t") for line in said.split(b"\0") if b"\t" in line]
    return {Path(name): int(size) for size, _, name in lines if size.isdigit()}


def _locked(store: Store) -> set[str]:
    """The names of the store's locks that somebody holds. None is tried: whoever wants it then would be turned away."""
    # proc_locks(5): the third field from the end is that of the file, MAJOR:MINOR:INODE.
    lines = Path("/proc/locks").read_text().splitlines()
    held = {line.split()[-3].rpartition(":")[2] for line in lines if " FLOCK " in line}
    files = (store.root / "locks").glob("*.lock")
    return {file.stem for file in files if str(file.lstat().st_ino) in held}


@dataclass(frozen=True)
class Collected:
    """What went, or would go, and what then is left, in bytes. Of the compiler cache a part may go."""

    gone: tuple[Held, ...]
    left: int

    @property
    def freed(self) -> int:
        """Bytes."""
        return sum(one.size for one in self.gone)


@dataclass(frozen=True)
class _Chosen:
    """What is to go. answers: of the compiler cache. total: bytes of all that is there."""

    entries: tuple[Held, ...]
    answers: tuple[Answer, ...]
    total: int


def collect(
    store: Store, spare: Container[str], *, days: int | None = None, size: int | None = None, dry: bool = False
) -> Collected:
    """Remove what was not used for `days`, and the longest unused until the rest takes at most `size` bytes.

    What is in use stays, so do imported roots and the entries named in `spare`. Each answer of the compiler cache has
    an age of its own. dry: only tell. Raises MachineError if something is at work: what it stands on cannot be told
    from the rest.
    """
    if dry:
        wanted = _chosen(store, spare, days, size)
        return _told(wanted, wanted.entries, wanted.answers)
    with store.alone():
        store.sweep()
        wanted = _chosen(store, spare, days, size, alone=True)
        gone = tuple(one for one in wanted.entries if store.clear_one(one.kind, one.name))
        return _told(wanted, gone, answers.remove(wanted.answers))


def _told(wanted: _Chosen, entries: tuple[Held, ...], lost: Sequence[Answer]) -> Collected:
    gone = entries
    if lost:
        part = Answers(tuple(lost), sum(one.size for one in lost), max(one.used for one in lost))
        gone = (*entries, _of_cache(part, in_use=False))
    return Collected(gone, wanted.total - sum(one.size for one in gone))


def _chosen(
    store: Store, spare: Container[str], days: int | None, size: int | None, *, alone: bool = False
) -> _Chosen:
    present = held(store, alone=alone)
    # Those of a cache that a build may be using stay.
    kept = answers.kept(store) if not any(one.kind == CACHE and one.in_use for one in present) else None
    left = total = sum(one.size for one in present)
    candidates: list[Held | Answer] = [one for one in present if one.kind != CACHE and not _stays(store, one, spare)]
    entries: list[Held] = []
    lost: list[Answer] = []
    for one in sorted([*candidates, *(kept.answers if kept else ())], key=_by_age):
        old = days is not None and one.used < time.time() - days * _DAY
        if not (old or (size is not None and left > size)):
            continue
        if isinstance(one, Answer):
            lost.append(one)
        else:
            entries.append(one)
        left -= one.size
    return _Chosen(tuple(entries), tuple(lost), total)


_FIRST = ("work", "artifacts", "sessions", "canaries", "layers", "twins")


def _by_age(one: Held | Answer) -> tuple[float, int, str]:
    # Of the same age that first which others do not stand on.
    if isinstance(one, Answer):
        return one.used, 0, str(one.path)
    return one.used, _FIRST.index(one.kind) if one.kind in _FIRST else len(_FIRST), one.name


def _stays(store: Store, one: Held, spare: Container[str]) -> bool:
    # Behind a link may be anything.
    linked = (store.root / one.kind).is_symlink()
    return one.kind == _OF_THE_USER or one.name in spare or linked or one.in_use
