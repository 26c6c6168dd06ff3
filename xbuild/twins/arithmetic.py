"""C libraries that compute as the target's do, on every machine.

glibc's libm has variants of many functions for processors with fused multiply-add, which rounds once where the others
round twice, so that last digits differ. 32-bit ARM's has none of them. The library is changed, since the variable by
which glibc can be told (GLIBC_TUNABLES) would reach what a twin starts.
"""

from __future__ import annotations

import io
import struct
from typing import Any, Final

from xbuild.formats.elf import elf_file
from xbuild.twins.limits import redirected

_SYMBOL: Final = "_rtld_global_ro"
"""The loader's own data, in which a libm for x86-64 looks up what the processor has (glibc's ldsodefs.h), and nothing
else."""
_GLOB_DAT, _RELATIVE = 6, 8  # R_X86_64_GLOB_DAT, R_X86_64_RELATIVE (the psABI)
_RELA: Final = struct.Struct("<QQq")
_PAGE: Final = 4096
_ROOM: Final = 0x400
"""Bytes; the highest that glibc 2.36 to 2.41 asks for is the one at 0xde."""


def fuses(program: bytes) -> bool:
    """Whether the code of the target's ELF file `program` may multiply and add with one rounding by itself.

    That is known of 64-bit ARM's: FMADD and its kin, FMLA and FMLS of vectors (Arm ARM, C4.1); of others it may.
    """
    elf = elf_file(io.BytesIO(program))
    if elf["e_machine"] != "EM_AARCH64":
        return True
    codes = (segment.data() for segment in elf.iter_segments("PT_LOAD") if segment["p_flags"] & 1)
    # The second and the last byte of each instruction; the lowest is first.
    pairs = {pair for code in codes for pair in zip(code[1::4], code[3::4], strict=False)}
    return any(last == 0x1F or (last in (0x0E, 0x4E) and second & 0xFC == 0xCC) for second, last in pairs)


def imported(program: bytes) -> frozenset[str]:
    """The names that the ELF file `program` takes from libraries, without versions."""
    symbols: Any = elf_file(io.BytesIO(program)).get_section_by_name(".dynsym")
    if symbols is None:
        return frozenset()
    return frozenset(symbol.name for symbol in symbols.iter_symbols() if symbol["st_shndx"] == "SHN_UNDEF")


def without_fused(library: bytes) -> bytes:
    """The libm `library`, for x86-64, that always takes the variant for a processor with nothing special.

    It is made to look into zeros of its own instead. Raises ValueError if it does not look where such libraries do, or
    has no room for zeros.
    """
    elf = elf_file(io.BytesIO(library))
    section: Any = elf.get_section_by_name(".rela.dyn")
    symbols: Any = elf.get_section_by_name(".dynsym")
    if elf["e_machine"] != "EM_X86_64" or section is None or symbols is None:
        raise ValueError("it is no libm for x86-64")
    places = [
        section["sh_offset"] + number * _RELA.size
        for number, relocation in enumerate(section.iter_relocations())
        if relocation["r_info_type"] == _GLOB_DAT and symbols.get_symbol(relocation["r_info_sym"]).name == _SYMBOL
    ]
    if len(places) != 1:
        raise ValueError(f"it refers {len(places)} times to {_SYMBOL}")
    data = bytearray(library)
    where, _, _ = _RELA.unpack_from(data, places[0])
    _RELA.pack_into(data, places[0], where, _RELATIVE, _zeros(elf, library))
    return bytes(data)


def with_short_strtold(library: bytes) -> bytes:
    """The libc `library`, for x86-64, whose strtold(3) reads a number as strtod(3) does.

    That is all that bash needs to print it as where `long double` has 64 bits, unless in hexadecimal. Raises
    ValueError as `redirected` does, or if it is for another machine.
    """
    elf = elf_file(io.BytesIO(library))
    table: Any = elf.get_section_by_name(".dynsym")
    strtod = next(
        (symbol["st_value"] for symbol in (table.iter_symbols() if table else ()) if symbol.name == "strtod"), 0
    )
    if elf["e_machine"] != "EM_X86_64" or not strtod:
        raise ValueError("it is no libc for x86-64")

    def code(at: int, _original: int) -> bytes:
        # endbr64; sub $24,%rsp; call strtod; movsd %xmm0,8(%rsp); fldl 8(%rsp); add $24,%rsp; ret (Intel SDM, volume 2)
        start = bytes.fromhex("f30f1efa 4883ec18 e8")
        return (
            start
            + struct.pack("<i", strtod - (at + len(start) + 4))
            + bytes.fromhex("f20f11442408 dd442408 4883c418 c3")
        )

    return redirected(library, ("strtold",), code)


def _zeros(elf: Any, library: bytes) -> int:
    """The address of zeros: where a read-only segment ends, its last page is mapped whole."""
    for load in (segment.header for segment in elf.iter_segments("PT_LOAD")):
        end = load.p_offset + load.p_filesz
        start = -(-end // 16) * 16
        if not load.p_flags & 2 and -start % _PAGE >= _ROOM and not any(library[end : start + _ROOM]):
            return int(start - load.p_offset + load.p_vaddr)
    raise ValueError("it has no room for zeros")
