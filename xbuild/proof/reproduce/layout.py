"""How a linker has laid out an ELF file, and whether it is the same one but for its debug symbols. Pure."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from xbuild.formats.elf import ELF_MAGIC, elf_file, parse_errors
from xbuild.proof.compare.verdict import Found, Verdict

# <elf.h>
_SHF_ALLOC: Final = 0x2

_CONTENTS: Final = (".text", ".rodata", ".data", ".bss", ".tdata", ".tbss", ".init_array", ".fini_array")
"""Sections whose sizes are what compilers gave, not the linker."""

_OF_DEBUGGING: Final = {".note.gnu.build-id", ".gnu_debuglink"}
"""Sections that say which debug symbols belong to a file (ld(1) --build-id, objcopy(1) --add-gnu-debuglink)."""


@dataclass(frozen=True)
class Layout:
    """order: the mapped sections by address. loads: flags and alignment of each loaded segment. sizes: of sections, in
    bytes.
    """

    order: tuple[str, ...]
    loads: tuple[tuple[str, int], ...]
    sizes: Mapping[str, int]

    @property
    def contents(self) -> dict[str, int]:
        """The sizes of what compilers gave."""
        return {name: size for name, size in self.sizes.items() if name in _CONTENTS}


def layout(data: bytes) -> Layout | None:
    """The layout of a program or library; None of all else, also of objects."""
    if not data.startswith(ELF_MAGIC):
        return None
    try:
        elf: Any = elf_file(io.BytesIO(data))
        if elf["e_type"] not in ("ET_EXEC", "ET_DYN"):
            return None
        mapped = [section for section in elf.iter_sections() if section["sh_flags"] & _SHF_ALLOC]
        loads = [(_flags(load["p_flags"]), int(load["p_align"])) for load in elf.iter_segments("PT_LOAD")]
        ordered = sorted(mapped, key=lambda section: int(section["sh_addr"]))
        sizes = {str(section.name): int(section["sh_size"]) for section in mapped}
        return Layout(tuple(str(section.name) for section in ordered), tuple(loads), sizes)
    except parse_errors():
        return None


def _flags(flags: int) -> str:
    return "".join(letter for bit, letter in ((4, "R"), (2, "W"), (1, "E")) if flags & bit)


def differences(theirs: Layout, ours: Layout) -> Iterator[str]:
    """What only another linker, or other words to it, explain."""
    if theirs.loads != ours.loads:
        yield f"loaded segments: {_loads(theirs)} in the archive's, {_loads(ours)} here"
    if theirs.order != ours.order:
        place = next(
            (at for at, (one, other) in enumerate(zip(theirs.order, ours.order, strict=False)) if one != other),
            min(len(theirs.order), len(ours.order)),
        )
        shown = [" ".join(known.order[max(0, place - 1) : place + 3]) for known in (theirs, ours)]
        yield f"order of sections: ... {shown[0]} ... in the archive's, ... {shown[1]} ... here"


def same_contents(theirs: Layout, ours: Layout) -> str:
    """That both have as much code and data, in words; "" if not."""
    if theirs.contents != ours.contents:
        return ""
    sizes = ", ".join(f"{name} {size}" for name, size in list(ours.contents.items())[:4])
    return f"as much code and data in both: {sizes} bytes"


def only_debug_symbols(found: Found) -> bool:
    """Whether two files only differ in the build id, a sum over the debug symbols too, and in what names these."""
    return found.verdict is Verdict.SAME and set(found.sections) <= _OF_DEBUGGING


def _loads(known: Layout) -> str:
    return " ".join(f"{flags}/{alignment:#x}" for flags, alignment in known.loads)
