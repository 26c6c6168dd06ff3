"""Strings compiled into a program that are replaced by longer ones, for which there is no room in their places."""

from __future__ import annotations

import io
import re
import struct

from elftools.elf.elffile import ELFFile

_PAGE = 4096
# lea disp32(%rip), REG (Intel SDM, volume 2, "LEA", "ModR/M Byte"): REX.W with or without REX.R, 8d, mod 00, r/m 101.
_LEA = re.compile(rb"[\x48\x4c]\x8d[\x05\x0d\x15\x1d\x25\x2d\x35\x3d]", re.DOTALL)
_RELATIVE = 8  # R_X86_64_RELATIVE (psABI of x86-64)


def moved(program: bytes, strings: dict[str, str]) -> bytes:
    """The x86-64 program with all its references to C strings made ones to others: `strings`, old to new.

    The new ones are put where a read-only segment ends, into what the last page of it has left. A string may be the end
    of another one, as linkers share them. Raises ValueError if there is no room, or a string without a reference.
    """
    image = _Image(program)
    places = {old: image.references(old) for old in strings}
    missing = [old for old, found in places.items() if not found]
    if missing:
        raise ValueError(f"the program does not refer to {', '.join(map(repr, missing))}")
    for old, new in strings.items():
        address = image.put(new)
        for at, base, form in places[old]:
            struct.pack_into(form, image.data, at, address - base)
    return bytes(image.data)


class _Image:
    def __init__(self, program: bytes) -> None:
        self.data = bytearray(program)
        elf = ELFFile(io.BytesIO(program))
        self._loads = [segment.header for segment in elf.iter_segments("PT_LOAD")]
        section = elf.get_section_by_name(".rela.dyn")
        self._relocations = [(section["sh_offset"], section["sh_size"])] if section else []
        last = max((load for load in self._loads if not load.p_flags & 2), key=lambda load: load.p_vaddr)
        self._shift = last.p_vaddr - last.p_offset
        self._free = last.p_offset + last.p_filesz
        self._end = -(-self._free // _PAGE) * _PAGE

    def references(self, text: str) -> list[tuple[int, int, str]]:
        """Where the program refers to the C string `text`: offset, what the address there is relative to, its form."""
        wanted = {self._address(match.start()) for match in re.finditer(re.escape(text.encode() + b"\0"), self.data)}
        return [*self._in_code(wanted - {None}), *self._in_data(wanted - {None})]

    def _address(self, offset: int) -> int | None:
        for load in self._loads:
            if load.p_offset <= offset < load.p_offset + load.p_filesz:
                return int(offset - load.p_offset + load.p_vaddr)
        return None

    def _in_code(self, wanted: set[int | None]) -> list[tuple[int, int, str]]:
        found = []
        for load in self._loads:
            if load.p_flags & 1:
                for match in _LEA.finditer(self.data, load.p_offset, load.p_offset + load.p_filesz - 4):
                    at = match.end()
                    base = at + 4 - load.p_offset + load.p_vaddr
                    if base + struct.unpack_from("<i", self.data, at)[0] in wanted:
                        found.append((at, base, "<i"))
        return found

    def _in_data(self, wanted: set[int | None]) -> list[tuple[int, int, str]]:
        # struct Elf64_Rela (<elf.h>): where, kind, and what to add to the program's base: the address.
        found = []
        for offset, size in self._relocations:
            for at in range(offset, offset + size, 24):
                _, kind, address = struct.unpack_from("<QQq", self.data, at)
                if kind == _RELATIVE and address in wanted:
                    found.append((at + 16, 0, "<q"))
        return found

    def put(self, text: str) -> int:
        """Put the C string `text` into the free room; give its address."""
        raw = text.encode() + b"\0"
        place = self._free
        if place + len(raw) > self._end or any(self.data[place : place + len(raw)]):
            raise ValueError(f"no room for {text!r}")
        self.data[place : place + len(raw)] = raw
        self._free += len(raw)
        return int(place + self._shift)
