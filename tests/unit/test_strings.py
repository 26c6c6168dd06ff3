"""Strings that are moved: the references to them, and the room for others."""

from __future__ import annotations

import struct

import pytest

from xbuild.twins.strings import moved

_BASE = 0x10000
_CODE, _TEXT = 0x1000, 0x2000
"""Where the two segments lie in the file; each has a page of it, and lies in memory above _BASE."""


def program(code: bytes, text: bytes, machine: int = 62) -> bytes:
    """A program, for x86-64 unless told, of a segment of code and a read-only one with `text`."""
    header = b"\x7fELF\2\1\1".ljust(16, b"\0")
    header += struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
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


def test_a_string_that_need_not_be_there() -> None:
    before = program(load(0, WHOLE) + load(7, END, b"\x35"), TEXT)
    strings = {"x86_64-pc-linux-gnu": "arm-unknown-linux-gnueabihf", "last": "longer", "linux-gnu": "linux-gnueabihf"}
    after = moved(before, strings, optional={"last"})
    assert texts(after) == ["arm-unknown-linux-gnueabihf", "linux-gnueabihf"]


def test_without_room_nothing_is_moved() -> None:
    full = TEXT.ljust(0x1000 - 4, b"\1")
    longer = "longer-than-x86_64-pc-linux-gnu"
    with pytest.raises(ValueError, match=f"no room for '{longer}'"):
        moved(program(load(0, WHOLE) + load(7, WHOLE), full), {"x86_64-pc-linux-gnu": longer})
    after = moved(program(load(0, WHOLE) + load(7, WHOLE), full), {"x86_64-pc-linux-gnu": "shorter"})
    assert texts(after) == ["shorter", "shorter"]


def count(length: int) -> bytes:
    """mov LENGTH, %edx."""
    return b"\xba" + struct.pack("<I", length)


def test_lengths_change_with_their_strings() -> None:
    old, new = "x86_64-pc-linux-gnu", "arm-unknown-linux-gnueabihf"
    before = program(count(len(old)) + count(3) + load(10, WHOLE) + count(len(old)), TEXT)
    after = moved(before, {}, {old: new})[_CODE:]
    assert after[:10] == count(len(new)) + count(3)
    assert after[17:22] == count(len(old)), "what comes behind the reference belongs to another call"
    with pytest.raises(ValueError, match="no length beside a reference to 'x86_64-pc-linux-gnu'"):
        moved(program(count(5) + load(5, WHOLE), TEXT), {}, {old: new})


def test_an_unknown_machine_is_refused() -> None:
    with pytest.raises(ValueError, match="not known how a program for EM_RISCV refers"):
        moved(program(load(0, WHOLE), TEXT, 243), {"last": "longer"})


ARM = 183
RETURN = 0xD65F03C0
"""ret"""


def page(at: int, address: int, register: int) -> int:
    """adrp REGISTER, PAGE as the instruction at `at` in the code."""
    distance = (address >> 12) - (_BASE + _CODE + at >> 12)
    return 0x90000000 | (distance & 3) << 29 | (distance >> 2 & 0x7FFFF) << 5 | register


def add(number: int, base: int, register: int) -> int:
    """add REGISTER, BASE, #NUMBER."""
    return 0x91000000 | (number & 0xFFF) << 10 | base << 5 | register


def arm(*words: int) -> bytes:
    return struct.pack(f"<{len(words)}I", *words)


def offset(data: bytes, number: int) -> int:
    """What the instruction ADD of this number adds."""
    return int(struct.unpack_from("<I", data, _CODE + 4 * number)[0] >> 10 & 0xFFF)


def text_at(data: bytes, place: int) -> str:
    return data[_TEXT + place : data.index(b"\0", _TEXT + place)].decode()


OLD = b"aarch64-unknown-linux-gnu"
ARM_TEXT = b"first\0\0\0" + OLD.ljust(32, b"\0") + b"last\0"
ARM_WHOLE, ARM_END = _BASE + _TEXT + 8, _BASE + _TEXT + 8 + len(OLD) - 9
MOVES = {OLD.decode(): "arm-unknown-linux-gnueabihf", "linux-gnu": "linux-gnueabihf"}


def test_references_of_arm_code_stay_in_their_page() -> None:
    # One page serves two addresses, and once a string of another kind.
    code = arm(page(0, ARM_WHOLE, 25), add(ARM_WHOLE, 25, 1), add(ARM_END, 25, 2), add(_TEXT, 25, 3), RETURN)
    before = program(code, ARM_TEXT, ARM)
    after = moved(before, MOVES)
    assert [text_at(after, offset(after, number)) for number in (1, 2, 3)] == [*MOVES.values(), "first"]
    assert after[_CODE : _CODE + 4] == before[_CODE : _CODE + 4]
    assert (text_at(after, 40), len(after)) == ("last", len(before))


def test_shorter_strings_in_arm_code() -> None:
    code = arm(page(0, ARM_WHOLE, 4), 0x52800021, add(ARM_WHOLE, 4, 4), page(12, ARM_END, 1), add(ARM_END, 1, 1))
    after = moved(program(code, ARM_TEXT, ARM), {OLD.decode(): "x86_64-pc-linux-gnu", "linux-gnu": "linux-gnu"})
    assert [text_at(after, offset(after, number)) for number in (2, 4)] == ["x86_64-pc-linux-gnu", "linux-gnu"]


@pytest.mark.parametrize("between", [0xAA0103F9, 0xF9400059, 0xA9404059])
def test_a_register_that_was_changed_holds_no_page(between: int) -> None:
    # mov x25, x1; ldr x25, [x2]; ldp x25, x16, [x2]
    first = (page(0, ARM_WHOLE, 6), add(ARM_WHOLE, 6, 6))
    code = arm(*first, page(8, ARM_END, 25), add(ARM_END, 25, 1), between, add(ARM_END, 25, 2))
    before = program(code, ARM_TEXT, ARM)
    after = moved(before, MOVES)
    assert text_at(after, offset(after, 3)) == "linux-gnueabihf"
    assert offset(after, 5) == offset(before, 5) != offset(after, 3)


def test_a_call_keeps_what_it_must() -> None:
    call = 0x94000010
    code = arm(page(0, ARM_END, 3), page(4, ARM_END, 25), call, add(ARM_END, 3, 1), add(ARM_END, 25, 1))
    before = program(code, ARM_TEXT, ARM)
    code = arm(page(0, ARM_WHOLE, 6), add(ARM_WHOLE, 6, 6)) + code
    after = moved(program(code, ARM_TEXT, ARM), MOVES)
    assert [text_at(after, offset(after, number)) for number in (1, 6)] == [*MOVES.values()]
    assert offset(after, 5) == offset(before, 3)


def test_what_an_epilogue_restores_is_still_there_behind_it() -> None:
    restore = 0xA94157F9  # ldp x25, x21, [sp, #16]
    first = (page(0, ARM_WHOLE, 6), add(ARM_WHOLE, 6, 6))
    code = arm(*first, page(8, ARM_END, 25), restore, RETURN, add(ARM_END, 25, 1))
    before = program(code, ARM_TEXT, ARM)
    after = moved(before, MOVES)
    assert offset(after, 5) != offset(before, 5)
    assert text_at(after, offset(after, 5)) == "linux-gnueabihf"


def test_a_shared_place_is_refused() -> None:
    empty = ARM_WHOLE + len(OLD)
    code = arm(page(0, ARM_WHOLE, 4), add(ARM_WHOLE, 4, 4), page(8, empty, 5), add(empty, 5, 5))
    with pytest.raises(ValueError, match="the place of a string is shared"):
        moved(program(code, ARM_TEXT, ARM), {OLD.decode(): "x86_64-pc-linux-gnu"})


def test_too_long_for_its_place() -> None:
    code = arm(page(0, ARM_WHOLE, 4), add(ARM_WHOLE, 4, 4))
    with pytest.raises(ValueError, match="no room for"):
        moved(program(code, ARM_TEXT, ARM), {OLD.decode(): "x" * 32})


def test_the_end_of_a_string_that_stays_has_no_room() -> None:
    code = arm(page(0, ARM_END, 4), add(ARM_END, 4, 4))
    with pytest.raises(ValueError, match="no room for"):
        moved(program(code, ARM_TEXT, ARM), {"linux-gnu": "linux"})
