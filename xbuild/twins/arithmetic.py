"""A mathematical library that computes as the target's does, on every machine.

glibc's libm has variants of many functions for processors with fused multiply-add, which rounds once where the others
round twice, so that last digits differ. 32-bit ARM's has none of them. The library is changed, since the variable by
which glibc can be told (GLIBC_TUNABLES) would reach what a twin starts.
"""

from __future__ import annotations

import io
import struct
from typing import Any, Final

from elftools.elf.elffile import ELFFile

_SYMBOL: Final = "_rtld_global_ro"
"""The loader's own data, in which a libm for x86-64 looks up what the processor has (glibc's ldsodefs.h), and nothing
else."""
_GLOB_DAT, _RELATIVE = 6, 8  # R_X86_64_GLOB_DAT, R_X86_64_RELATIVE (the psABI)
_RELA: Final = struct.Struct("<QQq")
_PAGE: Final = 4096
_ROOM: Final = 0x400
"""Bytes; the highest that glibc 2.36 to 2.41 asks for is the one at 0xde."""


def without_fused(library: bytes) -> bytes:
    """The libm `library`, for x86-64, that always takes the variant for a processor with nothing special.

    It is made to look into zeros of its own instead. Raises ValueError if it does not look where such libraries do, or
    has no room for zeros.
    """
    elf = ELFFile(io.BytesIO(library))
    section: Any = elf.get_section_by_name(".rela.dyn")
    symbols: Any = elf.get_section_by_name(".dynsym")
    if elf["e_machine"] != "EM_X86_64" or section is None or symbols is None:
        raise ValueError("it is no libm for x86-64")
    places = [
        section["sh_offset"] + number * _RELA.size
        for number, relocation in enumerate(section.iter_relocations())
        if relocation["r_info_type"] == _GLOB_DAT
        and symbols.get_symbol(relocation["r_info_sym"]).name == _SYMBOL
    ]
    if len(places) != 1:
        raise ValueError(f"it refers {len(places)} times to {_SYMBOL}")
    data = bytearray(library)
    where, _, _ = _RELA.unpack_from(data, places[0])
    _RELA.pack_into(data, places[0], where, _RELATIVE, _zeros(elf, library))
    return bytes(data)


def _zeros(elf: Any, library: bytes) -> int:
    """The address of zeros: where a read-only segment ends, its last page is mapped whole."""
    for load in (segment.header for segment in elf.iter_segments("PT_LOAD")):
        end = load.p_offset + load.p_filesz
        start = -(-end // 16) * 16
        if not load.p_flags & 2 and -start % _PAGE >= _ROOM and not any(library[end : start + _ROOM]):
            return int(start - load.p_offset + load.p_vaddr)
    raise ValueError("it has no room for zeros")
