"""Strings that are moved: the references to them, and the room for others."""

from __future__ import annotations

import struct

import pytest

from xbuild.strings import moved

_BASE = 0x10000
_CODE, _TEXT = 0x1000, 0x2000
"""Where the two segments lie in the file; each has a page of it, and lies in memory above _BASE."""


def program(code: bytes, text: bytes) -> bytes:
    """An x86-64 program of a segment of code and a read-only one with `text`."""
    header = b"\x7fELF\2\1\1".ljust(16, b"\0")
    header += struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    segments = b""
    for offset, flags, contents in ((_CODE, 5, code), (_TEXT, 4, text)):
        at = offset + _BASE
        segments += struct.pack("<IIQQQQQQ", 1, flags, offset, at, at, len(contents), len(contents), 0x1000)
    data = (header + segments).ljust(_CODE, b"\0") + code
    return (data.ljust(_TEXT, b"\0") + text).ljust(_TEXT + 0x1000, b"\0")


def load(at: int, address: int, register: bytes = b"\x05") -> bytes:
    """lea ADDRESS(%rip), REG as the instruction at `at` in the code."""
    return b"\x48\x8d" + register + struct.pack("<i", address - (_BASE + _CODE + at + 7))


def texts(data: bytes) -> list[str]:
    """The strings that the instructions, of 7 bytes each, refer to."""
    found = []
    for at in range(_CODE, _CODE + 14, 7):
        place = at + 7 + struct.unpack_from("<i", data, at + 3)[0]
        found.append(data[place : data.index(b"\0", place)].decode())
    return found


TEXT = b"first\0x86_64-pc-linux-gnu\0last\0"
WHOLE, END = _BASE + _TEXT + 6, _BASE + _TEXT + 6 + 10


def test_all_references_are_changed_and_nothing_else() -> None:
    before = program(load(0, WHOLE) + load(7, END, b"\x35"), TEXT)
    assert texts(before) == ["x86_64-pc-linux-gnu", "linux-gnu"]
    after = moved(before, {"x86_64-pc-linux-gnu": "arm-unknown-linux-gnueabihf", "linux-gnu": "linux-gnueabihf"})
    assert texts(after) == ["arm-unknown-linux-gnueabihf", "linux-gnueabihf"]
    assert after[_TEXT : _TEXT + len(TEXT)] == TEXT
    assert len(after) == len(before)


def test_a_string_without_a_reference_is_refused() -> None:
    with pytest.raises(ValueError, match="does not refer to 'last'"):
        moved(program(load(0, WHOLE) + load(7, WHOLE), TEXT), {"last": "longer"})


def test_without_room_nothing_is_moved() -> None:
    full = TEXT.ljust(0x1000 - 4, b"\1")
    with pytest.raises(ValueError, match="no room for 'longer'"):
        moved(program(load(0, WHOLE) + load(7, WHOLE), full), {"x86_64-pc-linux-gnu": "longer"})
