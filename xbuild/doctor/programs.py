"""The smallest programs for other machines, as bytes: they do nothing but exit with a code of their own."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from xbuild.model.native import here
from xbuild.model.toolchain import Elf

EXIT: Final = 42
"""The exit code of all of them: no shell and no failing exec gives it."""

# <elf.h>
_EM_386 = 3
_EM_ARM = 40
_EF_ARM_EABI_VER5 = 0x05000000
_EM_X86_64 = 62
_HEADER, _HEADER_64 = 52, 64
_PROGRAM_HEADER, _PROGRAM_HEADER_64 = 32, 56
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


def static_i386(code: bytes) -> bytes:
    """A 32-bit x86 program of this code."""
    return _static(_EM_386, 0, code)


def i386() -> bytes:
    """A 32-bit x86 program: mov eax, 1 (exit); mov ebx, 42; int 0x80."""
    return static_i386(b"\xb8\x01\x00\x00\x00" + b"\xbb" + struct.pack("<I", EXIT) + b"\xcd\x80")


def x86_64() -> bytes:
    """A 64-bit x86 program: mov edi, 42; mov eax, 60 (exit); syscall."""
    code = b"\xbf" + struct.pack("<I", EXIT) + b"\xb8\x3c\x00\x00\x00\x0f\x05"
    start = _HEADER_64 + _PROGRAM_HEADER_64
    size = start + len(code)
    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    header = (2, _EM_X86_64, 1, _BASE + start, _HEADER_64, 0, 0, _HEADER_64, _PROGRAM_HEADER_64, 1, 0, 0, 0)
    segment = (1, _READ_EXECUTE, 0, _BASE, _BASE, size, size, _PAGE)
    return ident + struct.pack("<HHIQQQIHHHHHH", *header) + struct.pack("<2I6Q", *segment) + code


@dataclass(frozen=True)
class Foreign:
    """A program that the machine does not run by itself. qemu: the name of its emulator."""

    kind: str
    elf: Elf
    qemu: str
    data: bytes


ARM: Final = Foreign(
    "ARM",
    Elf(machine="ARM", elf_class=32, data="little", float_abi="hard", interpreter="/lib/ld-linux-armhf.so.3"),
    "qemu-arm",
    arm(),
)
X86_64: Final = Foreign(
    "x86-64",
    Elf(machine="X86_64", elf_class=64, data="little", float_abi=None, interpreter="/lib64/ld-linux-x86-64.so.2"),
    "qemu-x86_64",
    x86_64(),
)


def foreign() -> Foreign:
    """One that is foreign here."""
    machine = here()
    own = {machine.elf_machine, machine.partner.elf_machine}
    return next(known for known in (ARM, X86_64) if known.elf.machine not in own)


def partner() -> bytes:
    """One of the other word size that the machine should run by itself."""
    return {"386": i386, "ARM": arm}[here().partner.elf_machine]()
