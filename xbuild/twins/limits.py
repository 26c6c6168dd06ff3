"""A C library whose programs set no limit on their address space, which the emulators below them could not start with.

A shell's `ulimit -v` is for what the shell starts. Emulators reserve the whole address space of a program and more, so
they ignore these limits where a program of theirs sets them (qemu's linux-user/syscall.c: RLIMIT_AS, RLIMIT_DATA). A
native shell would set them in earnest. The library is changed, since a library loaded before it would cost each start.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Collection
from typing import Any, Final

from xbuild.formats.elf import elf_file

_PAGE: Final = 4096
_ALIGNED: Final = 16
_SYMBOLS: Final = ("setrlimit", "setrlimit64")
_AS, _DATA = 9, 2  # RLIMIT_AS, RLIMIT_DATA: <asm-generic/resource.h>
_VALUE: Final = 8
"""Offset of st_value in struct Elf64_Sym (<elf.h>)."""


def _x86_64(at: int, original: int) -> bytes:
    # endbr64; cmp $9,%edi; je; cmp $2,%edi; je; jmp original; xor %eax,%eax; ret (Intel SDM, volume 2)
    start = bytes([0xF3, 0x0F, 0x1E, 0xFA, 0x83, 0xFF, _AS, 0x74, 10, 0x83, 0xFF, _DATA, 0x74, 5, 0xE9])
    return start + struct.pack("<i", original - (at + len(start) + 4)) + bytes([0x31, 0xC0, 0xC3])


def _aarch64(at: int, original: int) -> bytes:
    # bti c; cmp w0,#9; b.eq +16; cmp w0,#2; b.eq +8; b original; mov w0,#0; ret (Arm ARM, C6.2)
    compares = [0x7100001F | _AS << 10, 0x54000080, 0x7100001F | _DATA << 10, 0x54000040]
    jump = 0x14000000 | ((original - (at + 20)) // 4 & 0x3FFFFFF)
    return struct.pack("<8I", 0xD503245F, *compares, jump, 0x52800000, 0xD65F03C0)


_CODE: Final = {"EM_X86_64": _x86_64, "EM_AARCH64": _aarch64}


def without_address_limits(library: bytes) -> bytes:
    """The 64-bit libc `library` with a setrlimit(2) that does nothing for those two, and says that it did.

    Raises ValueError if the library has no such function, no room for one, or is for another machine.
    """
    elf = elf_file(io.BytesIO(library))
    if elf["e_machine"] not in _CODE:
        raise ValueError(f"no code is known for {elf['e_machine']}")
    return redirected(library, _SYMBOLS, _CODE[elf["e_machine"]])


def redirected(library: bytes, names: Collection[str], code: Callable[[int, int], bytes]) -> bytes:
    """The 64-bit `library` whose one function of these `names` is `code`, given its address and the original's.

    Raises ValueError if the library has no such function, or no room for one.
    """
    elf = elf_file(io.BytesIO(library))
    table: Any = elf.get_section_by_name(".dynsym")
    places = [
        table["sh_offset"] + number * table["sh_entsize"] + _VALUE
        for number, symbol in enumerate(table.iter_symbols() if table else ())
        if symbol.name in names and symbol["st_value"]
    ]
    originals = {struct.unpack_from("<Q", library, place)[0] for place in places}
    if len(originals) != 1:
        raise ValueError(f"the library has no {min(names)}, or more than one")
    data = bytearray(library)
    offset, address, room = _room(elf)
    # What was changed before is followed by more zeros than our functions have within them.
    while room > _ALIGNED and any(data[offset : offset + _ALIGNED]):
        offset, address, room = offset + _ALIGNED, address + _ALIGNED, room - _ALIGNED
    added = code(address, originals.pop())
    if len(added) > room or any(data[offset : offset + len(added)]):
        raise ValueError("the library has no room for code")
    data[offset : offset + len(added)] = added
    for place in places:
        struct.pack_into("<Q", data, place, address)
    return bytes(data)


def _room(elf: Any) -> tuple[int, int, int]:
    """Where, in the file and in memory, the code ends in its last page, which is mapped whole; bytes to its end."""
    code = next(header for header in (segment.header for segment in elf.iter_segments("PT_LOAD")) if header.p_flags & 1)
    end = -(-code.p_filesz // _ALIGNED) * _ALIGNED
    address = code.p_vaddr + end
    return code.p_offset + end, address, -(code.p_vaddr + code.p_filesz) % _PAGE - (end - code.p_filesz)
