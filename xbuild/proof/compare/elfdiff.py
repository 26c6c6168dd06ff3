"""Where two ELF files differ, and whether that is code and data, or only what is said about them.

Code and data are what the kernel maps and what a linker makes of an object: the ELF header, the program headers, all
sections with SHF_ALLOC, and of an object also the relocations of those sections, its section groups, its global symbols
and the compiler's own words for link-time optimization. What they refer to by number is compared by name, since
numbers shift with sections that do not matter. Debug information, .comment, and a linked file's .symtab are what is
said about the code. So is the build id: it is mapped, but it is a hash of the file, debug information included, and
differs wherever anything does.
"""

from __future__ import annotations

import io
import struct
from collections import Counter
from collections.abc import Hashable, Iterator
from typing import Any, Final

from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import StringTableSection, SymbolTableSection

from xbuild.formats.elf import elf_file, parse_errors
from xbuild.proof.compare.verdict import IDENTICAL, Found, Verdict

# <elf.h>
_SHF_ALLOC: Final = 0x2
_SHF_LINK_ORDER: Final = 0x80
_UNMAPPED = ("SHT_NULL", "SHT_NOBITS")

_BUILD_ID: Final = ".note.gnu.build-id"
_STACK: Final = ".note.GNU-stack"
"""Without contents; whether it is there, and its flags, decide whether the stack can be executed (ld(1))."""

_GROUP: Final = ".group "

_COMPILER_WORDS: Final = (".gnu.lto_", ".llvmbc", ".llvm.lto")
"""Sections that a linker compiles: as good as code, though nothing maps them."""

_HEADER_FIELDS = ("e_type", "e_machine", "e_version", "e_entry", "e_flags")

Key = tuple[str, int]
"""A section: its name, and which one of that name it is."""


def compare_elf(a: bytes, b: bytes) -> Found:
    """How two ELF files compare; one that cannot be read is `different`."""
    if a == b:
        return IDENTICAL
    try:
        first, second = _Elf(a), _Elf(b)
        code = list(dict.fromkeys(_code_differences(first, second)))
        other = list(dict.fromkeys(_other_differences(first, second)))
    except parse_errors():
        return Found(Verdict.DIFFERENT, ("broken ELF file",))
    sections = tuple(dict.fromkeys([*code, *other]))
    if code:
        return Found(Verdict.DIFFERENT, sections)
    return Found(Verdict.SAME, sections or ("places of sections in the file",))


def _shown(name: str) -> str:
    return _GROUP.strip() if name.startswith(_GROUP) else name


class _Elf:
    """An ELF file, its sections by key."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.elf: Any = elf_file(io.BytesIO(data))
        self.sections: dict[Key, Any] = {}
        self.keys: list[Key] = []
        seen: Counter[str] = Counter()
        for section in self.elf.iter_sections():
            # All groups have one name; what tells them apart is their signature.
            name = f"{_GROUP}{self.signature(section)}" if section["sh_type"] == "SHT_GROUP" else section.name
            key = (name, seen[name])
            seen[name] += 1
            self.keys.append(key)
            self.sections[key] = section

    def raw(self, section: Any) -> bytes:
        """The contents as they stand in the file."""
        if section["sh_type"] in _UNMAPPED:
            return b""
        return self.data[section["sh_offset"] : section["sh_offset"] + section["sh_size"]]

    def key_of(self, index: Any) -> Hashable:
        """The key of the section with this index; the special ones (SHN_ABS ...) are their own."""
        return self.keys[index] if isinstance(index, int) and index < len(self.keys) else index

    def is_mapped(self, section: Any) -> bool:
        """Whether its contents are code and data by themselves."""
        if section.name == _BUILD_ID:
            return False
        return bool(section["sh_flags"] & _SHF_ALLOC) or section.name.startswith(_COMPILER_WORDS)

    def is_code(self, section: Any) -> bool:
        """Whether a difference in this section is one of code and data."""
        if section["sh_type"] in ("SHT_REL", "SHT_RELA"):
            return self.is_mapped(section) or self.is_mapped(self.elf.get_section(section["sh_info"]))
        if section["sh_type"] == "SHT_GROUP":
            return any(self.is_mapped(self.elf.get_section(index)) for index in self.group(section)[1:])
        return self.is_mapped(section) or section.name == _STACK

    def group(self, section: Any) -> list[int]:
        """The words of a section group: its flags, and the indices of its sections."""
        words = struct.iter_unpack("<I" if self.elf.little_endian else ">I", self.raw(section))
        return [word for (word,) in words]

    def signature(self, section: Any) -> str:
        """The name of the symbol by which a linker knows a section group."""
        return str(self.elf.get_section(section["sh_link"]).get_symbol(section["sh_info"]).name)

    def symbol(self, symbol: Any) -> Hashable:
        """What a symbol is to who refers to it. A local one's name is nothing to the linker."""
        entry = symbol.entry
        local = entry["st_info"]["bind"] == "STB_LOCAL"
        return (
            "" if local else symbol.name,
            entry["st_info"]["bind"],
            entry["st_info"]["type"],
            entry["st_other"]["visibility"],
            self.key_of(entry["st_shndx"]),
            entry["st_value"],
            entry["st_size"],
        )

    def attributes(self, section: Any) -> tuple[Hashable, ...]:
        """What a section header says, but for the place in the file."""
        own = tuple(section[field] for field in ("sh_type", "sh_flags", "sh_addr", "sh_addralign", "sh_entsize"))
        refers: Hashable = None
        if section["sh_type"] == "SHT_GROUP":
            refers = self.signature(section)
        elif section["sh_type"] in ("SHT_REL", "SHT_RELA"):
            refers = self.key_of(section["sh_info"])
        elif section["sh_flags"] & _SHF_LINK_ORDER:
            refers = self.key_of(section["sh_link"])
        return (*own, refers)

    def meaning(self, section: Any) -> Hashable:
        """The contents of a section that is code, with names in the place of numbers that may shift."""
        if section["sh_type"] == "SHT_GROUP":
            flags, *members = self.group(section)
            return (flags, tuple(self.key_of(index) for index in members))
        if isinstance(section, RelocationSection) and not section["sh_flags"] & _SHF_ALLOC:
            return tuple(self._relocations(section))
        return self.raw(section)

    def _relocations(self, section: Any) -> Iterator[Hashable]:
        table = self.elf.get_section(section["sh_link"])
        known: dict[int, Hashable] = {}
        for relocation in section.iter_relocations():
            fields = dict(relocation.entry)
            number = fields["r_info_sym"]
            if number not in known:
                known[number] = self.symbol(table.get_symbol(number))
            yield (fields["r_offset"], fields["r_info_type"], fields.get("r_addend"), known[number])

    def linked_symbols(self) -> Counter[Hashable]:
        """What a linker heeds: the symbols that are not local, and ARM's marks of code and data ($a, $t, $d, $x)."""
        tables = (section for section in self.sections.values() if isinstance(section, SymbolTableSection))
        return Counter(
            (symbol.name, self.symbol(symbol))
            for table in tables
            for symbol in table.iter_symbols()
            if symbol.entry["st_info"]["bind"] != "STB_LOCAL" or self._is_mark(symbol)
        )

    def _is_mark(self, symbol: Any) -> bool:
        # AAELF32 and AAELF64, "mapping symbols".
        if symbol.name[:2] not in ("$a", "$t", "$d", "$x"):
            return False
        index = symbol.entry["st_shndx"]
        return isinstance(index, int) and self.is_mapped(self.elf.get_section(index))

    def segments(self) -> list[dict[str, Any]]:
        """The program headers."""
        return [dict(segment.header) for segment in self.elf.iter_segments()]

    def mapped_bytes(self) -> list[bytes]:
        """The contents of all loaded segments, without what shifts with sections that do not matter."""
        data = bytearray(self.data)
        wide = self.elf.elfclass == 64
        # e_shoff, e_shnum, e_shstrndx of Elf32_Ehdr and Elf64_Ehdr.
        blanks = [(0x28, 8), (0x3C, 4)] if wide else [(0x20, 4), (0x30, 4)]
        blanks += [(s["sh_offset"], s["sh_size"]) for s in self.sections.values() if s.name == _BUILD_ID]
        for place, length in blanks:
            data[place : place + length] = bytes(length)
        loads = (segment for segment in self.elf.iter_segments("PT_LOAD"))
        return [bytes(data[load["p_offset"] : load["p_offset"] + load["p_filesz"]]) for load in loads]


def _code_differences(a: _Elf, b: _Elf) -> Iterator[str]:
    if a.data[:16] != b.data[:16] or any(a.elf[field] != b.elf[field] for field in _HEADER_FIELDS):
        yield "ELF header"
        if (a.elf.elfclass, a.elf.little_endian) != (b.elf.elfclass, b.elf.little_endian):
            return
    code_a = [key for key, section in a.sections.items() if a.is_code(section)]
    code_b = [key for key, section in b.sections.items() if b.is_code(section)]
    if code_a != code_b and sorted(code_a) == sorted(code_b):
        yield "order of sections"
    numbered = _same_numbers(a, b)
    changed = list(_changed(a, b, [*code_a, *code_b], numbered))
    yield from changed
    if a.elf["e_type"] == "ET_REL" and not numbered and a.linked_symbols() != b.linked_symbols():
        yield "symbols"
    if a.segments() != b.segments():
        yield "program headers"
    elif not changed and a.mapped_bytes() != b.mapped_bytes():
        yield "mapped bytes outside of sections"


def _same_numbers(a: _Elf, b: _Elf) -> bool:
    """Whether the numbers of sections and symbols mean the same in both files, so that equal bytes do too."""
    if a.keys != b.keys:
        return False
    tables = [key for key in a.keys if isinstance(a.sections[key], SymbolTableSection | StringTableSection)]
    return all(a.raw(a.sections[key]) == b.raw(b.sections[key]) for key in tables)


def _changed(a: _Elf, b: _Elf, keys: list[Key], numbered: bool) -> Iterator[str]:
    """The names of the sections among `keys` that differ in what they mean. numbered: as `_same_numbers` says."""
    for key in dict.fromkeys(keys):
        one, other = a.sections.get(key), b.sections.get(key)
        if one is None or other is None or a.attributes(one) != b.attributes(other):
            yield _shown(key[0])
        elif one["sh_type"] == "SHT_NOBITS":
            if one["sh_size"] != other["sh_size"]:
                yield _shown(key[0])
        elif a.raw(one) == b.raw(other) if numbered else a.meaning(one) == b.meaning(other):
            continue
        else:
            yield _shown(key[0])


def _other_differences(a: _Elf, b: _Elf) -> Iterator[str]:
    for key in dict.fromkeys([*a.keys, *b.keys]):
        one, other = a.sections.get(key), b.sections.get(key)
        if one is not None and other is not None:
            same = a.attributes(one) == b.attributes(other) and a.raw(one) == b.raw(other)
            if same or a.is_code(one):
                continue
        yield _shown(key[0])
