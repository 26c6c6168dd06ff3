"""The smallest programs for other machines, as bytes: they do nothing but exit with a code of their own."""

from __future__ import annotations

import struct
from typing import Final

EXIT: Final = 42
"""The exit code of both programs: no shell and no failing exec gives it."""

# <elf.h>
_EM_386 = 3
_EM_ARM = 40
_EF_ARM_EABI_VER5 = 0x05000000
_HEADER = 52
_PROGRAM_HEADER = 32
_READ_EXECUTE = 5
# Above what vm.mmap_min_addr keeps free, below anything else.
_BASE = 0x100000
_PAGE = 0x1000


def _static(machine: int, flags: int, code: bytes) -> bytes:
    start = _HEADER + _PROGRAM_HEADER
    size = start + len(code)
    ident = b"\x7fELF" + bytes([1, 1, 1]) + bytes(9)
    header = (2, machine, 1, _BASE + start, _HEADER, 0, flags, _HEADER, _PROGRAM_HEADER, 1, 0, 0, 0)
    segment = (1, 0, _BASE, _BASE, size, size, _READ_EXECUTE, _PAGE)
    return ident + struct.pack("<HHIIIIIHHHHHH", *header) + struct.pack("<8I", *segment) + code


def arm() -> bytes:
    """An ARM program: mov r0, #42; mov r7, #1 (exit); svc 0."""
    return _static(_EM_ARM, _EF_ARM_EABI_VER5, struct.pack("<3I", 0xE3A00000 | EXIT, 0xE3A07001, 0xEF000000))


def i386() -> bytes:
    """A 32-bit x86 program: mov eax, 1 (exit); mov ebx, 42; int 0x80."""
    return _static(_EM_386, 0, b"\xb8\x01\x00\x00\x00" + b"\xbb" + struct.pack("<I", EXIT) + b"\xcd\x80")
