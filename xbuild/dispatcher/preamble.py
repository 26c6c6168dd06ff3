"""Puts preamble.c in front of a static qemu, so that one entry of binfmt_misc serves every build of the machine."""

from __future__ import annotations

import io
import shutil
import struct
import tempfile
from pathlib import Path
from typing import Any, Final

from xbuild.base import paths, process
from xbuild.base.errors import MachineError
from xbuild.formats.elf import ElfError, elf_file, parse_errors

COMPILE: Final = (
    "gcc -std=gnu11 -O2 -Wall -Wextra -Werror -ffreestanding -fno-stack-protector -fno-asynchronous-unwind-tables "
    "-fcf-protection=none -fPIE -nostdlib -static -Wl,--build-id=none -Wl,-N "
    "-o {0} {0}.c"
)
"""Makes a program to be put before another, in the working directory. -N: code and constants lie in one segment."""

SOURCES: Final = ("preamble.c", "ahead.h", "kernel.h", "table.h")

NAMED_SOURCES: Final = ("named.c", "named.h", "ahead.h", "kernel.h")

MARK: Final = b"\x7fxbuild preamble 1\0"
"""Ends the added segment: whoever looks at a program can tell that it has one."""

_SECTION = ".xbuild_entry"
# The largest that a kernel of a machine of ours may have: 64-bit ARM's ("ELF for the Arm 64-bit Architecture").
_PAGE = 0x10000
_PT_LOAD, _READ_EXECUTE = 1, 5
_PHDR = struct.Struct("<IIQQQQQQ")
_E_ENTRY = 24


def has_preamble(program: bytes) -> bool:
    """Whether `prefixed` made this program."""
    return program.endswith(MARK)


def prefixed(qemu: bytes, preamble: bytes, mark: bytes = MARK) -> bytes:
    """The static program `qemu` with the compiled `preamble` before it; mark: ends it.

    The code is added behind the program's end, in the place of a note among its program headers: nothing else moves,
    so that both static and static-pie programs work. Raises ElfError if one of the two is not as expected.
    """
    try:
        first = elf_file(io.BytesIO(preamble))
        code, start, slot = _code(first)
        elf = elf_file(io.BytesIO(qemu))
        index, address = _room(elf, first["e_machine"])
    except parse_errors() as error:
        raise ElfError(f"cannot put the preamble before this program: {error}") from error
    result = bytearray(qemu)
    result += bytes(-len(result) % _PAGE)
    offset = len(result)
    struct.pack_into("<q", code, slot, elf["e_entry"] - (address + slot))
    segment = bytes(code) + mark
    result += segment
    size = len(segment)
    place = elf["e_phoff"] + index * elf["e_phentsize"]
    _PHDR.pack_into(result, place, _PT_LOAD, _READ_EXECUTE, offset, address, address, size, size, _PAGE)
    struct.pack_into("<Q", result, _E_ENTRY, address + start)
    return bytes(result)


def _code(elf: Any) -> tuple[bytearray, int, int]:
    """The pages of the preamble's one segment; in it: where it begins, and where the way to qemu is to be written.

    Code of 64-bit ARM speaks of places in their pages (ADRP), so it keeps its own place in a page.
    """
    loads = [segment for segment in elf.iter_segments() if segment["p_type"] == "PT_LOAD" and segment["p_memsz"]]
    section = elf.get_section_by_name(_SECTION)
    if len(loads) != 1 or section is None or loads[0]["p_filesz"] != loads[0]["p_memsz"]:
        raise ValueError("the compiler made more than one segment of it")
    before = loads[0]["p_vaddr"] % _PAGE
    base = loads[0]["p_vaddr"] - before
    return bytearray(before) + loads[0].data(), elf["e_entry"] - base, section["sh_addr"] - base


def _room(elf: Any, machine: str) -> tuple[int, int]:
    """The number of a program header that can be done without, and the first free address."""
    if elf["e_machine"] != machine or elf["e_type"] not in ("ET_EXEC", "ET_DYN"):
        raise ValueError("it is no program for this machine")
    headers = [segment.header for segment in elf.iter_segments()]
    if any(header["p_type"] == "PT_INTERP" for header in headers):
        raise ValueError("it is dynamic; a static one is needed")
    loads = [number for number, header in enumerate(headers) if header["p_type"] == "PT_LOAD"]
    # Segments to load stand in the order of their addresses (ELF specification), so it must be a later one.
    notes = [number for number, header in enumerate(headers) if header["p_type"] == "PT_NOTE" and number > max(loads)]
    if not notes:
        raise ValueError("it has no note whose place could be taken")
    end = max(headers[number]["p_vaddr"] + headers[number]["p_memsz"] for number in loads)
    return notes[0], (end + _PAGE - 1) // _PAGE * _PAGE


def compiled() -> bytes:
    """preamble.c, compiled by the machine's own gcc. Raises MachineError if it is not there or fails."""
    if shutil.which("gcc") is None:
        raise MachineError("gcc is needed to make the program of the entry", hint="apt-get install gcc")
    with tempfile.TemporaryDirectory() as folder:
        for name in SOURCES:
            shutil.copy(paths.DISPATCHER / name, folder)
        done = process.run(["sh", "-euc", COMPILE.format("preamble")], cwd=Path(folder), capture=True, check=False)
        if done.returncode != 0:
            lines = done.stderr.decode(errors="replace").splitlines()
            raise MachineError("gcc cannot compile preamble.c", details=lines[-20:])
        return (Path(folder) / "preamble").read_bytes()
