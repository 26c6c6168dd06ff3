"""What the contents of two files have in common: ELF files by section, archives, .deb files and wheels by member, gzip
files by what is packed in them, all else byte by byte.
"""

from __future__ import annotations

import difflib
import itertools
import zlib
from collections import Counter
from dataclasses import replace
from typing import Final

from xbuild.formats.deb import MAGIC as DEB_MAGIC
from xbuild.formats.deb import DebError
from xbuild.formats.elf import ARCHIVE_MAGIC, ELF_MAGIC, ElfError, archive_members
from xbuild.formats.wheel import WheelError, is_wheel
from xbuild.proof.compare.debs import compare_debs
from xbuild.proof.compare.elfdiff import compare_elf
from xbuild.proof.compare.verdict import IDENTICAL, Found, Verdict, worst
from xbuild.proof.compare.wheels import compare_wheels

Key = tuple[str, int]
"""A member of an archive: its name, and which one of that name it is."""

_INDEX_NAMES: Final = {b"/": 4, b"/SYM64/": 8}
"""The first member of an archive with a symbol index, and the width of the index's numbers in bytes (ar(5))."""


_GZIP: Final = b"\x1f\x8b\x08"
"""RFC 1952: the magic number, and the one way of compression."""

_MOST_UNPACKED: Final = 64 << 20
"""Bytes; what is larger unpacked is compared as it is."""

_MOST_TEXT: Final = 1 << 20
"""Bytes of a text of which the differing lines are shown."""


def compare_contents(a: bytes, b: bytes) -> Found:
    """How two files compare, by what they begin with."""
    if a == b:
        return IDENTICAL
    if a.startswith(ELF_MAGIC) and b.startswith(ELF_MAGIC):
        return compare_elf(a, b)
    if a.startswith(DEB_MAGIC) and b.startswith(DEB_MAGIC):
        try:
            return compare_debs(a, b, compare_members)
        except DebError as error:
            return Found(Verdict.DIFFERENT, (f"broken .deb file: {error.reason}",))
    if is_wheel(a) and is_wheel(b):
        try:
            return compare_wheels(a, b, compare_members)
        except WheelError as error:
            return Found(Verdict.DIFFERENT, (f"broken wheel: {error.reason}",))
    if a.startswith(ARCHIVE_MAGIC) and b.startswith(ARCHIVE_MAGIC):
        return _compare_archives(a, b)
    if a.startswith(_GZIP) and b.startswith(_GZIP) and readable(a) == readable(b):
        return Found(Verdict.DIFFERENT, ("gzip's own header or packing",))
    return Found(Verdict.DIFFERENT, ("contents",))


def compare_members(a: bytes, b: bytes) -> Found:
    """As `compare_contents`, with the lines of texts, packed by gzip or not, that differ."""
    found = compare_contents(a, b)
    return replace(found, lines=tuple(text_difference(readable(a), readable(b), None)))


def readable(data: bytes) -> bytes:
    """What a gzip file holds, if it can be unpacked; all else as it is."""
    if not data.startswith(_GZIP):
        return data
    decoder = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        text = decoder.decompress(data, _MOST_UNPACKED)
    except zlib.error:
        return data
    return text if decoder.eof and not decoder.unused_data else data


def _members(data: bytes) -> dict[Key, bytes]:
    found: dict[Key, bytes] = {}
    seen: Counter[str] = Counter()
    for name, contents in archive_members(data, "archive"):
        found[name, seen[name]] = contents
        seen[name] += 1
    return found


def _compare_archives(a: bytes, b: bytes) -> Found:
    try:
        first, second = _members(a), _members(b)
    except ElfError:
        return Found(Verdict.DIFFERENT, ("broken archive",))
    own: list[str] = []
    if list(first) != list(second):
        own.append("order of members" if sorted(first) == sorted(second) else "list of members")
    if _indexed(a) != _indexed(b):
        own.append("symbol index")
    members = [(name, compare_contents(first[name, nth], second[name, nth])) for name, nth in first.keys() & second]
    members = sorted((name, found) for name, found in members if found.verdict is not Verdict.IDENTICAL)
    sections = [section for _, found in members for section in found.sections]
    if not own and not members:
        # All that is left are the dates, owners and modes in the members' headers.
        return Found(Verdict.SAME, ("headers of members",))
    verdict = worst([Verdict.DIFFERENT if own else Verdict.SAME, *(found.verdict for _, found in members)])
    return Found(verdict, tuple(dict.fromkeys([*own, *sections])), tuple(members))


def _indexed(data: bytes) -> bytes:
    """The names in an archive's symbol index; the places of members, which it also holds, shift with their sizes."""
    start = len(ARCHIVE_MAGIC)
    width = _INDEX_NAMES.get(data[start : start + 16].rstrip())
    if width is None:
        return b""
    size = int(data[start + 48 : start + 58])
    index = data[start + 60 : start + 60 + size]
    count = int.from_bytes(index[:width], "big")
    return index[width * (count + 1) :].rstrip(b"\0")


def is_text(data: bytes) -> bool:
    """Whether people can read it: UTF-8 without NUL."""
    try:
        return "\0" not in data.decode()
    except UnicodeDecodeError:
        return False


def text_difference(a: bytes, b: bytes, modes: tuple[str, str] | None, most: int = 40) -> list[str]:
    """The difference of two texts, as `diff -U1` shows it, at most so many lines; [] if one of them is no text.

    modes: for the lines that name the files; None: without these. Long texts give none.
    """
    if max(len(a), len(b)) > _MOST_TEXT or not (is_text(a) and is_text(b)):
        return []
    names = modes or ("", "")
    lines = difflib.unified_diff(
        a.decode().splitlines(), b.decode().splitlines(), fromfile=names[0], tofile=names[1], lineterm="", n=1
    )
    if modes is None:
        lines = itertools.islice(lines, 2, None)
    shown = [line[:300] for _, line in zip(range(most + 1), lines, strict=False)]
    return shown if len(shown) <= most else [*shown[:most], "... and more"]
