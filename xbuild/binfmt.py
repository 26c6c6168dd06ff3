"""How the kernel is told which program runs a target's ELF files (Linux: admin-guide/binfmt-misc.rst)."""

from __future__ import annotations

import os
import struct
from typing import Final

from elftools.elf.enums import ENUM_E_MACHINE

from xbuild.elf import ELF_MAGIC, Identity
from xbuild.errors import MachineError

MAX_REGISTRATION: Final = 1920
"""Longest registration, in bytes (binfmt-misc.rst; the kernel has no limit for the interpreter alone)."""

# <elf.h>
_EV_CURRENT = 1
_ET_EXEC = 2
_DELIMITER = ":"
_FLAGS = "POCF"
# Names of files that are always there, and what is no file name.
_RESERVED = ("", ".", "..", "register", "status")


def magic_mask(identity: Identity) -> tuple[bytes, bytes]:
    """The first 20 bytes of the target's programs, and which of their bits count.

    This is the general rule of QEMU's qemu-binfmt-conf.sh: byte 7 (OSABI) is free, since static glibc
    programs say 3 (GNU/Linux), others 0 (SYSV); the lowest bit of e_type is free: ET_EXEC is 2, ET_DYN 3.
    The machines for which QEMU makes exceptions (x86, MIPS, ppc64le and a few more) are not covered.
    Raises ValueError for a machine that pyelftools does not know.
    """
    number = ENUM_E_MACHINE.get(f"EM_{identity.machine}")
    if number is None:
        raise ValueError(f"unknown ELF machine {identity.machine!r}")
    order = "<" if identity.data == "little" else ">"
    ident = bytes([{32: 1, 64: 2}[identity.elf_class], {"little": 1, "big": 2}[identity.data], _EV_CURRENT])
    magic = ELF_MAGIC + ident + bytes(9) + struct.pack(f"{order}HH", _ET_EXEC, number)
    mask = b"\xff" * 7 + b"\x00" + b"\xff" * 8 + struct.pack(f"{order}HH", 0xFFFE, 0xFFFF)
    return magic, mask


def registration(name: str, magic: bytes, mask: bytes, interpreter: str, flags: str) -> str:
    """The line that, written to binfmt_misc's `register`, sends matching files to the program `interpreter`.

    magic, mask: from `magic_mask`. flags: letters of POCF, explained in binfmt-misc.rst.
    Raises ValueError for a name, mask or flag that the kernel refuses, MachineError for such a path.
    """
    if name in _RESERVED or any(character in name for character in "/\n" + _DELIMITER):
        raise ValueError(f"not a name for a binfmt_misc entry: {name!r}")
    if len(mask) != len(magic):
        raise ValueError(f"mask has {len(mask)} bytes, magic {len(magic)}")
    if not set(flags) <= set(_FLAGS):
        raise ValueError(f"binfmt_misc flags are letters of {_FLAGS}, not {flags!r}")
    hint = "set XBUILD_CACHE to a shorter, plain path"
    if _DELIMITER in interpreter or "\n" in interpreter:
        raise MachineError(f"binfmt_misc takes no path with ':' or a line break: {interpreter!r}", hint=hint)
    line = f":{name}:M::{_escaped(magic)}:{_escaped(mask)}:{interpreter}:{flags}"
    size = len(os.fsencode(line))
    if size > MAX_REGISTRATION:
        message = f"binfmt_misc takes {MAX_REGISTRATION} bytes, this registration has {size}: {interpreter}"
        raise MachineError(message, hint=hint)
    return line


def _escaped(data: bytes) -> str:
    # Every byte, so that none can be mistaken for the delimiter or end the string.
    return "".join(f"\\x{byte:02x}" for byte in data)
