"""What the contents of two files have in common: ELF files by section, archives by member, all else byte by byte."""

from __future__ import annotations

import difflib
from collections import Counter
from typing import Final

from xbuild.formats.elf import ARCHIVE_MAGIC, ELF_MAGIC, ElfError, archive_members
from xbuild.proof.compare.elfdiff import compare_elf
from xbuild.proof.compare.verdict import IDENTICAL, Found, Verdict, worst

Key = tuple[str, int]
"""A member of an archive: its name, and which one of that name it is."""

_INDEX_NAMES: Final = {b"/": 4, b"/SYM64/": 8}
"""The first member of an archive with a symbol index, and the width of the index's numbers in bytes (ar(5))."""


def compare_contents(a: bytes, b: bytes) -> Found:
    """How two files compare, by what they begin with."""
    if a == b:
        return IDENTICAL
    if a.startswith(ELF_MAGIC) and b.startswith(ELF_MAGIC):
        return compare_elf(a, b)
    if a.startswith(ARCHIVE_MAGIC) and b.startswith(ARCHIVE_MAGIC):
        return _compare_archives(a, b)
    return Found(Verdict.DIFFERENT, ("contents",))


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


def text_difference(a: bytes, b: bytes, modes: tuple[str, str], most: int = 40) -> list[str]:
    """The difference of two texts, as `diff -U1` shows it, at most so many lines; [] if one of them is no text."""
    if not (is_text(a) and is_text(b)):
        return []
    lines = difflib.unified_diff(
        a.decode().splitlines(), b.decode().splitlines(), fromfile=modes[0], tofile=modes[1], lineterm="", n=1
    )
    shown = [line[:300] for _, line in zip(range(most + 1), lines, strict=False)]
    return shown if len(shown) <= most else [*shown[:most], "... and more"]
