"""The filter of system calls, run here as the kernel runs it (Documentation/networking/filter.rst)."""

from __future__ import annotations

import errno
import struct

import pytest

from xbuild.sandbox import seccomp

X86_64, I386, AARCH64, ARM = 0xC000003E, 0x40000003, 0xC00000B7, 0x40000028
ALLOWED, REFUSED = 0x7FFF0000, 0x00050000


def answer(machine: str, audit: int, number: int, *arguments: int) -> int | None:
    """The errno that the filter answers with; None: the call goes on."""
    words = (*arguments, *[0] * (6 - len(arguments)))
    data = struct.pack("=IIQ6Q", number, audit, 0, *words)
    steps = list(struct.iter_unpack("=HBBI", seccomp.program(machine)))
    place, held = 0, 0
    while True:
        code, so, not_so, value = steps[place]
        place += 1
        match code:
            case 0x20:
                (held,) = struct.unpack_from("=I", data, value)
            case 0x15:
                place += so if held == value else not_so
            case 0x35:
                place += so if held >= value else not_so
            case 0x06:
                assert value == ALLOWED or value & 0xFFFF0000 == REFUSED
                return None if value == ALLOWED else value & 0xFFFF
            case _:
                raise AssertionError(f"step {place - 1} is of no known kind: {code:#x}")


# Machine, AUDIT_ARCH, socket, ioctl, and numbers that are refused, as the kernel's tables have them.
KINDS = [
    ("x86_64", X86_64, 41, 16, [248, 249, 250, 425, 426, 427]),
    ("x86_64", I386, 359, 54, [286, 287, 288, 425, 426, 427]),
    ("aarch64", AARCH64, 198, 29, [217, 218, 219, 425, 426, 427]),
    ("aarch64", ARM, 281, 54, [309, 310, 311, 425, 426, 427]),
]


@pytest.mark.parametrize(("machine", "audit", "socket", "ioctl", "refused"), KINDS)
def test_what_is_refused(machine: str, audit: int, socket: int, ioctl: int, refused: list[int]) -> None:
    assert [number for number in range(600) if answer(machine, audit, number)] == refused
    assert {answer(machine, audit, number) for number in refused} == {errno.ENOSYS}
    assert [family for family in range(64) if answer(machine, audit, socket, family, 1)] == [40]
    assert answer(machine, audit, socket, 40) == errno.EAFNOSUPPORT
    # The kernel takes an int, and so must we: what stands above it does not make it another family.
    assert answer(machine, audit, socket, (1 << 32) + 40) == errno.EAFNOSUPPORT
    asked = [number for number in range(0x5400, 0x5500) if answer(machine, audit, ioctl, 0, number)]
    assert asked == [0x5412, 0x541C]
    assert answer(machine, audit, ioctl, 0, (7 << 32) + 0x5412) == errno.EIO


def test_other_ways_in() -> None:
    """By x32's numbers, and by i386's one call for all about sockets."""
    assert {answer("x86_64", X86_64, 0x40000000 + number) for number in (0, 41, 425, 547)} == {errno.ENOSYS}
    assert [call for call in range(32) if answer("x86_64", I386, 102, call, 0x1000)] == [1]
    assert answer("x86_64", ARM, 0) == errno.ENOSYS
    assert answer("x86_64", I386, 0x40000000 + 41) is None


def test_a_machine_that_is_not_known_has_none() -> None:
    assert seccomp.program("m68k") == b""
