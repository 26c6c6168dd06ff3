"""The header of an ELF file as the kernel reads it, also of one that is cut off or wrong (load_elf_binary)."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from xbuild.binfmt import architectures
from xbuild.formats.elf import ELF_MAGIC

# <elf.h>
_PT_LOAD, _PT_INTERP = 1, 3
_PROGRAM_HEADER: Final = {32: 32, 64: 56}
SIZE: Final = {32: 52, 64: 64}
"""Bytes of the header, by the class of the file."""
TYPES: Final = {1: "an object (ET_REL)", 2: "a program", 3: "a program or library", 4: "a core dump (ET_CORE)"}
RUNNABLE = (2, 3)
"""The e_type that the kernel takes: ET_EXEC, ET_DYN."""

_PATH_MAX = 4096


@dataclass(frozen=True)
class Header:
    """elf_class: 0 for an invalid one. fault: why no kernel would load it, None if that is not so.

    short: the file ends before what its header promises; why. interpreter: PT_INTERP.
    """

    elf_class: Literal[0, 32, 64]
    data: Literal["little", "big"]
    e_type: int
    machine: int
    entry: int
    interpreter: str | None
    fault: str | None
    short: str | None

    @property
    def architecture(self) -> str | None:
        """Its name, if it is a known one."""
        for name, facts in architectures.known().items():
            if (facts.machine, facts.elf_class, facts.data) == (self.machine, self.elf_class, self.data):
                return name
        return None

    def machine_name(self) -> str:
        """What e_machine says, in words."""
        # Only here: it takes long to load.
        from elftools.elf.enums import ENUM_E_MACHINE

        names = [name.removeprefix("EM_") for name, number in ENUM_E_MACHINE.items() if number == self.machine]
        return f"{names[0] if names else 'unknown'} ({self.machine})"

    def describe(self) -> str:
        """One line."""
        width = f"{self.elf_class}-bit" if self.elf_class else "no valid word size"
        return f"ELF, {self.machine_name()}, {width}, {self.data} endian, {TYPES.get(self.e_type, 'no program')}"


def read(path: Path) -> Header | None:
    """The header of the file, None if it is no ELF file. Raises OSError if it cannot be read."""
    with path.open("rb") as stream:
        start = stream.read(64)
        if not start.startswith(ELF_MAGIC):
            return None
        size = os.fstat(stream.fileno()).st_size
        elf_class: Literal[0, 32, 64] = {1: 32, 2: 64}.get(start[4] if len(start) > 4 else 0, 0)  # type: ignore[assignment]
        data: Literal["little", "big"] = "big" if start[5:6] == b"\2" else "little"
        order = "<" if data == "little" else ">"
        padded = start.ljust(64, b"\0")
        e_type, machine = struct.unpack_from(f"{order}HH", padded, 16)
        if not elf_class:
            return Header(0, data, e_type, machine, 0, None, "its class (byte 4) is neither 1 nor 2", None)
        if len(start) < SIZE[elf_class]:
            short = f"it has {size} bytes; the ELF header alone has {SIZE[elf_class]}"
            return Header(elf_class, data, e_type, machine, 0, None, short, short)
        layout = f"{order}3IIHHH" if elf_class == 32 else f"{order}3QIHHH"
        entry, offset, _, _, _, each, count = struct.unpack_from(layout, padded, 24)
        if e_type not in RUNNABLE:
            fault: str | None = f"it is {TYPES.get(e_type, f'of the unknown type {e_type}')}, not a program"
            return Header(elf_class, data, e_type, machine, entry, None, fault, None)
        if each != _PROGRAM_HEADER[elf_class] or count == 0:
            wanted = _PROGRAM_HEADER[elf_class]
            fault = f"it has {count} program headers of {each} bytes; there must be some, of {wanted}"
            return Header(elf_class, data, e_type, machine, entry, None, fault, None)
        stream.seek(offset)
        table = stream.read(each * count)
        if len(table) < each * count:
            short = f"it has {size} bytes; its program headers end at byte {offset + each * count}"
            return Header(elf_class, data, e_type, machine, entry, None, short, short)
        interpreter, fault, short_segment = _segments(path, table, order, elf_class, size)
        return Header(elf_class, data, e_type, machine, entry, interpreter, fault, short_segment)


def _segments(
    path: Path, table: bytes, order: str, elf_class: int, size: int
) -> tuple[str | None, str | None, str | None]:
    interpreter, fault, short = None, None, None
    for at in range(0, len(table), _PROGRAM_HEADER[elf_class]):
        kind = struct.unpack_from(f"{order}I", table, at)[0]
        if elf_class == 32:
            offset, _, _, length = struct.unpack_from(f"{order}4I", table, at + 4)
        else:
            offset, _, _, length = struct.unpack_from(f"{order}4Q", table, at + 8)
        if kind in (_PT_LOAD, _PT_INTERP) and length and offset + length > size:
            short = f"it has {size} bytes; a part that is to be loaded ends at byte {offset + length}"
        if kind == _PT_INTERP and interpreter is None and fault is None:
            with path.open("rb") as stream:
                stream.seek(offset)
                text = stream.read(min(length, _PATH_MAX))
            if not 2 <= length <= _PATH_MAX or not text.endswith(b"\0"):
                fault = "the name of its loader (PT_INTERP) is empty, too long or cut off"
            else:
                interpreter = os.fsdecode(text.partition(b"\0")[0])
    return interpreter, fault, short
