"""Which version of a library a program was linked with: the versions of the symbols that it takes from it. Pure."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from xbuild.formats.elf import ELF_MAGIC, elf_file, parse_errors
from xbuild.proof.compare.verdict import printable

_INDEX = 0x7FFF
"""Without the bit that says that a version is hidden (VERSYM_HIDDEN, Linux Standard Base, Symbol Versioning)."""


def taken(data: bytes) -> dict[str, str]:
    """The version of each symbol that an ELF file takes from a library, such as `GLIBC_2.38`; {} of all else."""
    if not data.startswith(ELF_MAGIC):
        return {}
    try:
        elf: Any = elf_file(io.BytesIO(data))
        needs, versions, symbols = (
            elf.get_section_by_name(name) for name in (".gnu.version_r", ".gnu.version", ".dynsym")
        )
        if not (needs and versions and symbols):
            return {}
        names = {int(one["vna_other"]): str(one.name) for _, parts in needs.iter_versions() for one in parts}
        indexes = [int(one["ndx"]) & _INDEX if isinstance(one["ndx"], int) else 0 for one in versions.iter_symbols()]
        return {
            str(symbol.name): names[index]
            for symbol, index in zip(symbols.iter_symbols(), indexes, strict=True)
            if symbol["st_shndx"] == "SHN_UNDEF" and index in names
        }
    except parse_errors():
        return {}


def linked_anew(theirs: bytes, ours: bytes) -> Iterator[tuple[str, str]]:
    """Versions of libraries that ours was linked with, and theirs was not: `2.38`, and the symbol that tells it.

    Which of a symbol's versions a program gets is decided by the library that the linker sees.
    """
    old = taken(theirs)
    for name, version in sorted(taken(ours).items()):
        if old.get(name, version) != version:
            yield version.rpartition("_")[2], f"{name}@{old[name]} in the archive's, {name}@{version} here"


def libraries_of(
    paths: Iterable[str], theirs: Callable[[str], bytes], ours: Callable[[str], bytes]
) -> dict[str, str]:
    """As `linked_anew`, of all these members of two packages. theirs, ours: give a member's contents, or KeyError."""
    told: dict[str, str] = {}
    for path in paths:
        try:
            told |= {version: f"{printable(path)}: {text}" for version, text in linked_anew(theirs(path), ours(path))}
        except KeyError:
            continue
    return told
