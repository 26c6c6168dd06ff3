"""Two listings of files held against each other: pure, all contents come through a function."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from xbuild.proof.compare.verdict import Found, Verdict, printable

Where = Literal["artifact", "objects"]
"""The installed files as the artifact holds them; or ELF files and archives of the build tree."""


@dataclass(frozen=True)
class Entry:
    """One file. kind: file, directory, link, or hard link. owner: as `tar -tv` shows it. mtime: seconds since 1970.

    target: of a link; of a hard link the name it had first. sha256: hex, of a file. size: bytes.
    What is not known stays empty: of build trees only the contents are compared.
    """

    kind: str
    mode: int = 0
    owner: str = ""
    mtime: int = 0
    target: str = ""
    sha256: str = ""
    size: int = 0


Listing = Mapping[str, Entry]
"""Files by path, relative to the top."""


@dataclass(frozen=True)
class Difference:
    """A file that is not identical in two modes.

    only: the one mode that has it. detail, members, lines: as of Found.
    contents: both modes have the file, with other bytes. own: two builds in one and the same mode differ in it too.
    """

    where: Where
    path: str
    verdict: Verdict
    sections: tuple[str, ...] = ()
    only: str | None = None
    detail: str = ""
    members: tuple[tuple[str, Found], ...] = ()
    contents: bool = False
    own: bool = False
    lines: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """The verdict in words."""
        return f"only in {self.only}" if self.only else str(self.verdict)

    def as_json(self) -> dict[str, Any]:
        """For --json."""
        members = [{"name": printable(name), **found.as_json()} for name, found in self.members]
        return {
            "where": self.where,
            "path": printable(self.path),
            "verdict": self.words,
            "sections": list(self.sections),
            "own": self.own,
            **({"detail": self.detail} if self.detail else {}),
            **({"members": members} if members else {}),
        }


@dataclass(frozen=True)
class Counts:
    """How many files of two modes are identical, have the same code and data, differ, or are in one mode only."""

    identical: int
    same_code: int
    different: int
    only: int

    @property
    def total(self) -> int:
        """All files of both modes."""
        return self.identical + self.same_code + self.different + self.only

    def as_json(self) -> dict[str, int]:
        """For --json."""
        return vars(self).copy()


def differing(a: Listing, b: Listing) -> list[str]:
    """The paths whose entries differ, or that one listing lacks, sorted."""
    return sorted(path for path in a.keys() | b.keys() if a.get(path) != b.get(path))


def contents_differ(a: Listing, b: Listing) -> list[str]:
    """The paths of files that both listings have with contents that differ, sorted."""
    return [path for path in differing(a, b) if path in a and path in b and _contents_differ(a[path], b[path])]


def _contents_differ(one: Entry, other: Entry) -> bool:
    return one.kind == other.kind == "file" and one.sha256 != other.sha256


def compare_listings(
    where: Where, modes: tuple[str, str], a: Listing, b: Listing, examine: Callable[[str], Found]
) -> tuple[Counts, list[Difference]]:
    """Verdicts for all files of two modes.

    examine: how the contents of the file with this path compare; asked only where their digests differ.
    """
    paths = differing(a, b)
    found = [_difference(where, modes, path, a.get(path), b.get(path), examine) for path in paths]
    verdicts = [difference.verdict for difference in found]
    counts = Counts(
        identical=len(a.keys() | b.keys()) - len(paths),
        same_code=verdicts.count(Verdict.SAME),
        different=verdicts.count(Verdict.DIFFERENT),
        only=verdicts.count(Verdict.ONLY),
    )
    return counts, found


def _difference(
    where: Where,
    modes: tuple[str, str],
    path: str,
    one: Entry | None,
    other: Entry | None,
    examine: Callable[[str], Found],
) -> Difference:
    if one is None or other is None:
        return Difference(where, path, Verdict.ONLY, only=modes[1] if one is None else modes[0])
    attributes = _attributes(one, other)
    sections = [name for name, _, _ in attributes]
    detail = "; ".join(f"{name}: {first}, {second}" for name, first, second in attributes)
    if not _contents_differ(one, other):
        return Difference(where, path, Verdict.DIFFERENT, tuple(sections), detail=detail)
    found = examine(path)
    verdict = Verdict.DIFFERENT if attributes else found.verdict
    words = (*found.sections, *sections)
    return Difference(
        where, path, verdict, words, detail=detail, members=found.members, contents=True, lines=found.lines
    )


def _attributes(one: Entry, other: Entry) -> list[tuple[str, str, str]]:
    """What differs besides contents: name and both values."""
    pairs: Sequence[tuple[str, str, str]] = (
        ("kind", one.kind, other.kind),
        ("mode", f"{one.mode:04o}", f"{other.mode:04o}"),
        ("owner", one.owner, other.owner),
        ("time", _time(one.mtime), _time(other.mtime)),
        ("target", printable(one.target), printable(other.target)),
    )
    return [pair for pair in pairs if pair[1] != pair[2]]


def _time(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))
