from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xbuild.base.errors import MachineError
from xbuild.twins.gcctable import as_native

CXX = "/usr/include/arm-linux-gnueabihf/c++/14"
LOCAL, FIXED = "/usr/local/include", "/usr/lib/gcc-cross/include-fixed"
BASE = 0x400000

# cplusplus, cxx_aware, add_sysroot, multilib
Flags = tuple[int, int, int, int]
DEBIAN: tuple[tuple[str, Flags], ...] = (
    ("/usr/include/c++/14", (1, 1, 0, 0)),
    (CXX, (1, 1, 0, 1)),
    ("/usr/include/c++/14/backward", (1, 1, 0, 0)),
    ("/usr/lib/gcc-cross/include", (0, 0, 0, 0)),
    (LOCAL, (0, 1, 1, 2)),
    (FIXED, (0, 0, 0, 2)),
    (FIXED, (0, 0, 0, 0)),
    ("/usr/include", (0, 1, 1, 2)),
)
"""The table of Debian's gcc 14 for a target."""
OLDER: tuple[tuple[str, Flags], ...] = (
    *DEBIAN[:3],
    ("/usr/libc++_include/c++/12/v1", (2, 1, 0, 0)),
    *DEBIAN[3:5],
    *DEBIAN[6:],
)
"""That of gcc 12."""


def compiler(entries: tuple[tuple[str, Flags], ...], bits: int = 64) -> bytes:
    """An ELF program with nothing but cppdefault.h's table `entries`, strings first, in its only segment."""
    wide = bits == 64
    start = 120 if wide else 84
    offsets, strings = dict[str, int](), b"\0"
    for name, _ in entries:
        offsets.setdefault(name, start + len(strings))
        strings += name.encode() + b"\0"
    strings += b"\0" * (-len(strings) % 8)
    # Padded as the compiler pads: the flags are four bytes, the structure is a multiple of a pointer's size.
    form = struct.Struct("<QQ4B4x" if wide else "<II4B")
    rows = b"".join(form.pack(BASE + offsets[name], 0, *flags) for name, flags in entries)
    size = start + len(strings) + len(rows)
    identity = b"\x7fELF" + bytes([2 if wide else 1, 1, 1]) + bytes(9)
    if wide:
        head = identity + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 64, 0, 0, 64, 56, 1, 64, 0, 0)
        head += struct.pack("<IIQQQQQQ", 1, 5, 0, BASE, BASE, size, size, 4096)
    else:
        head = identity + struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, 0, 52, 0, 0, 52, 32, 1, 40, 0, 0)
        head += struct.pack("<IIIIIIII", 1, 0, BASE, BASE, size, size, 5, 4096)
    return head + strings + rows


def table(program: bytes, count: int, bits: int = 64) -> list[tuple[str, Flags]]:
    """What stands in the table at the end of `program`."""
    form = struct.Struct("<QQ4B4x" if bits == 64 else "<II4B")
    found = []
    for at in range(len(program) - count * form.size, len(program), form.size):
        address, _, *flags = form.unpack_from(program, at)
        text = program[address - BASE : program.index(b"\0", address - BASE)]
        found.append((text.decode(), (flags[0], flags[1], flags[2], flags[3])))
    return found


@pytest.mark.parametrize("bits", [32, 64])
def test_it_searches_as_a_native_compiler(bits: int) -> None:
    program = compiler(DEBIAN, bits)
    assert table(program, len(DEBIAN), bits) == list(DEBIAN)
    changed = as_native(program, CXX)
    wanted = dict(enumerate(DEBIAN))
    wanted[1] = (CXX, (1, 1, 0, 0))
    wanted[5] = (LOCAL, (0, 1, 1, 0))
    assert table(changed, len(DEBIAN), bits) == list(wanted.values())
    assert len(changed) == len(program)


@pytest.mark.parametrize("bits", [32, 64])
def test_gcc_12_gives_up_the_headers_of_another_library(bits: int) -> None:
    changed = as_native(compiler(OLDER, bits), CXX)
    wanted = [DEBIAN[0], (CXX, (1, 1, 0, 0)), *DEBIAN[2:5], (LOCAL, (0, 1, 1, 0)), *DEBIAN[6:]]
    assert table(changed, len(OLDER), bits) == wanted


@pytest.mark.parametrize("number", [3, 4, 6])
def test_only_what_is_known_of_gcc_12_is_given_up(number: int) -> None:
    entries = list(OLDER)
    entries[number] = (entries[number][0], (1, 0, 1, 0))
    with pytest.raises(MachineError, match="not the known one"):
        as_native(compiler(tuple(entries)), CXX)


def test_only_the_two_entries_change() -> None:
    program = compiler(DEBIAN)
    changed = as_native(program, CXX)
    form = struct.calcsize("<QQ4B4x")
    start = len(program) - len(DEBIAN) * form
    entries = {(at - start) // form for at in range(len(program)) if program[at] != changed[at]}
    assert entries == {1, 5}


def test_it_is_not_done_twice() -> None:
    with pytest.raises(MachineError):
        as_native(as_native(compiler(DEBIAN), CXX), CXX)


@pytest.mark.parametrize("missing", [LOCAL, CXX])
def test_a_table_without_an_entry_is_refused(missing: str) -> None:
    left = tuple(entry for entry in DEBIAN if entry[0] != missing)
    with pytest.raises(MachineError, match=f"no known entry for {missing.replace('+', '.')}"):
        as_native(compiler(left), CXX)


@pytest.mark.parametrize(
    ("number", "flags"),
    [(1, (1, 1, 0, 0)), (4, (0, 1, 1, 0)), (4, (0, 1, 0, 2)), (5, (0, 0, 0, 0)), (5, (0, 1, 1, 2))],
)
def test_a_table_with_other_flags_is_refused(number: int, flags: Flags) -> None:
    entries = list(DEBIAN)
    entries[number] = (entries[number][0], flags)
    with pytest.raises(MachineError, match="table of include directories"):
        as_native(compiler(tuple(entries)), CXX)


def test_another_order_is_refused() -> None:
    entries = (*DEBIAN[:4], DEBIAN[5], DEBIAN[4], *DEBIAN[6:])
    with pytest.raises(MachineError, match="not the known one"):
        as_native(compiler(entries), CXX)


def test_a_directory_is_found_whole() -> None:
    # The directory's name as the end or the beginning of others is not the directory.
    entries = (("/opt/usr/local/include", (0, 1, 1, 2)), ("/usr/local/include/x", (0, 1, 1, 2)), *DEBIAN)
    changed = as_native(compiler(entries), CXX)
    assert table(changed, len(entries))[:2] == list(entries[:2])


@given(st.integers(0, 120))
def test_what_is_no_table_is_refused(padding: int) -> None:
    with pytest.raises(MachineError):
        as_native(compiler((("/nothing" * (padding + 1), (0, 0, 0, 0)),)), CXX)
