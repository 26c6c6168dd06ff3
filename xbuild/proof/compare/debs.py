"""Where two .deb files differ: fields, maintainer scripts, installed files, each by its own contents."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from xbuild.formats.deb import Deb, Member, opened
from xbuild.proof.compare.files import Difference, Entry, Listing, compare_listings
from xbuild.proof.compare.verdict import Found, Verdict, worst

Examine = Callable[[bytes, bytes], Found]
"""How the contents of two files compare."""

CONTROL: Final = "DEBIAN/"
"""Before the names of what control.tar holds, as `dpkg-deb --raw-extract` has it."""

SUMS: Final = "md5sums"
"""In control.tar: what follows from the other files (deb-md5sums(5))."""

_SIDES: Final = ("the first", "the second")
_MOST: Final = 512 << 20
"""Bytes of a member; a larger one is not examined."""


def compare_debs(a: bytes, b: bytes, examine: Examine) -> Found:
    """How two .deb files compare; members are named as they are installed, and those of control.tar as in `CONTROL`.

    Raises DebError if one cannot be read.
    """
    with opened(a) as one, opened(b) as other:
        return compare_open_debs(one, other, examine)


def compare_open_debs(one: Deb, other: Deb, examine: Examine, sides: tuple[str, str] = _SIDES) -> Found:
    """As `compare_debs`, of open ones. sides: what to call them."""
    data = _compared(one.members, other.members, lambda path: examine(one.read(path), other.read(path)), sides)
    files = one.control_files, other.control_files

    def examined(path: str) -> Found:
        found = examine(files[0][path], files[1][path])
        if path == "control":
            return replace(found, sections=tuple(_fields(one.fields, other.fields)) or found.sections)
        if path == SUMS and _sums(files[0][path]).keys() == _sums(files[1][path]).keys():
            # It says again what is said of those files.
            return Found(Verdict.SAME, ("sums",))
        return found

    control = _compared(one.control_members, other.control_members, examined, sides)
    members = [*((CONTROL + path, found) for path, found in control), *data]
    own = list(_own(one, other))
    if not own and not members:
        # The same names and contents: what is left is how they were packed.
        return Found(Verdict.DIFFERENT, ("packing",))
    sections = [section for _, found in members for section in found.sections]
    verdict = worst([Verdict.DIFFERENT if own else Verdict.SAME, *(found.verdict for _, found in members)])
    return Found(verdict, tuple(dict.fromkeys([*own, *sections])), tuple(members))


def _own(one: Deb, other: Deb) -> Iterator[str]:
    """What differs of the .deb files themselves."""
    if one.parts != other.parts:
        yield f"compression: {' '.join(one.parts)}, {' '.join(other.parts)}"
    for first, second in ((one.control_members, other.control_members), (one.members, other.members)):
        paths = [member.path for member in first], [member.path for member in second]
        if paths[0] != paths[1] and sorted(paths[0]) == sorted(paths[1]):
            yield "order of members"


def _compared(
    first: Sequence[Member], second: Sequence[Member], examine: Callable[[str], Found], sides: tuple[str, str]
) -> list[tuple[str, Found]]:
    listings = _listing(first), _listing(second)

    def examined(path: str) -> Found:
        if max(listing[path].size for listing in listings) > _MOST:
            return Found(Verdict.DIFFERENT, ("contents",))
        return examine(path)

    _, differences = compare_listings("artifact", sides, *listings, examined)
    return [(item.path, _found(item)) for item in differences]


def _found(item: Difference) -> Found:
    sections = (f"only in {item.only}",) if item.only else item.sections
    return Found(item.verdict, sections, item.members, item.detail, item.lines)


def _listing(members: Sequence[Member]) -> Listing:
    return {
        member.path: Entry(
            member.kind, member.mode, member.owner, member.mtime, member.target, member.sha256, member.size
        )
        for member in members
    }


def _fields(one: Mapping[str, str], other: Mapping[str, str]) -> Iterator[str]:
    """The names of fields that differ."""
    for name in dict.fromkeys([*one, *other]):
        if one.get(name) != other.get(name):
            yield name
    if list(one) != list(other) and sorted(one) == sorted(other):
        yield "order of fields"


def _sums(text: bytes) -> dict[bytes, bytes]:
    """The checksums by path."""
    return {path: checksum for checksum, _, path in (line.partition(b"  ") for line in text.splitlines())}
