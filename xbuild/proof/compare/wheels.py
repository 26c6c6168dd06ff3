"""Where two wheels differ: members, each by its own contents, and what RECORD says of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from xbuild.formats.wheel import Wheel, opened
from xbuild.proof.compare.files import Difference, Entry, Listing, compare_listings
from xbuild.proof.compare.verdict import Found, Verdict, worst

Examine = Callable[[bytes, bytes], Found]
"""How the contents of two files compare."""

_SIDES: Final = ("the first", "the second")
_MOST: Final = 512 << 20
"""Bytes of a member; a larger one is not examined."""


def compare_wheels(a: bytes, b: bytes, examine: Examine) -> Found:
    """How two wheels compare. Raises WheelError if one cannot be read."""
    with opened(a) as one, opened(b) as other:
        listings = _listing(one), _listing(other)

        def examined(path: str) -> Found:
            if max(listing[path].size for listing in listings) > _MOST:
                return Found(Verdict.DIFFERENT, ("contents",))
            found = examine(one.read(path), other.read(path))
            if path == f"{one.information}/RECORD" and one.record.keys() == other.record.keys():
                # It says again what is said of those files.
                return Found(Verdict.SAME, ("digests",))
            return found

        _, differences = compare_listings("artifact", _SIDES, *listings, examined)
        members = [(item.path, _found(item)) for item in differences]
        order = one.paths() != other.paths() and sorted(one.paths()) == sorted(other.paths())
    own = ["order of members"] if order else []
    if not own and not members:
        # The same names and contents: what is left is how they were packed, and when.
        return Found(Verdict.DIFFERENT, ("packing",))
    sections = [section for _, found in members for section in found.sections]
    verdict = worst([Verdict.DIFFERENT if own else Verdict.SAME, *(found.verdict for _, found in members)])
    return Found(verdict, tuple(dict.fromkeys([*own, *sections])), tuple(members))


def _listing(wheel: Wheel) -> Listing:
    return {
        member.path: Entry("file", member.mode, sha256=member.sha256, size=member.size) for member in wheel.members
    }


def _found(item: Difference) -> Found:
    sections = (f"only in {item.only}",) if item.only else item.sections
    return Found(item.verdict, sections, item.members, item.detail, item.lines)
