"""Magic and mask of every architecture, computed from facts about its ELF files."""

from __future__ import annotations

import functools
import struct
from collections.abc import Mapping
from typing import Final, Protocol

from xbuild.base import paths
from xbuild.base.errors import UsageError
from xbuild.base.yamlfile import did_you_mean, load_model
from xbuild.formats.elf import ELF_MAGIC
from xbuild.model.architectures import Architecture, Architectures, HeaderField

FACTS = paths.PACKAGE / "binfmt/architectures.yml"

FIELDS: Final = {
    (32, "data"): (5, 1),
    (32, "version"): (6, 1),
    (32, "type"): (16, 2),
    (32, "machine"): (18, 2),
    (32, "file-version"): (20, 4),
    (32, "flags"): (36, 4),
    (64, "data"): (5, 1),
    (64, "version"): (6, 1),
    (64, "type"): (16, 2),
    (64, "machine"): (18, 2),
    (64, "file-version"): (20, 4),
    (64, "flags"): (48, 4),
}
"""Where a field lies in the header of a 32-bit or 64-bit ELF file (<elf.h>): offset and size in bytes."""

_HEADER = 20
"""Bytes that the general rule compares: up to the end of e_machine."""
_FREE = slice(7, 16)
"""OSABI, ABI version and padding, which Linux's own loader does not look at (fs/binfmt_elf.c)."""
_ET_EXEC = 2
_EV_CURRENT = 1


class Elf(Protocol):
    """What of a target's `elf` decides about the magic; see xbuild.elf.Identity."""

    @property
    def machine(self) -> str: ...
    @property
    def elf_class(self) -> int: ...
    @property
    def data(self) -> str: ...


@functools.cache
def known() -> Mapping[str, Architecture]:
    """All architectures by name, as the file of facts has them."""
    return load_model(FACTS, Architectures).architectures


def find(word: str) -> tuple[str, Architecture]:
    """The architecture that QEMU or the distribution calls `word` (arm, armhf), with QEMU's name for it.

    Raises UsageError if there is none.
    """
    word = word.removeprefix("qemu-")
    if word in known():
        return word, known()[word]
    for name, facts in known().items():
        if word in facts.debian:
            return name, facts
    names = [*known(), *(debian for facts in known().values() for debian in facts.debian)]
    message = f"unknown architecture {word!r}{did_you_mean(word, names)}"
    raise UsageError(message, hint=f"known: {' '.join(known())}")


def magic_mask(identity: Elf) -> tuple[bytes, bytes]:
    """The first bytes of the programs of a target, and which of their bits count; see `compared`.

    Raises ValueError for a machine that pyelftools does not know.
    """
    # Only here: it takes long to load.
    from elftools.elf.enums import ENUM_E_MACHINE

    number = ENUM_E_MACHINE.get(f"EM_{identity.machine}")
    if number is None:
        raise ValueError(f"unknown ELF machine {identity.machine!r}")
    key = (number, identity.elf_class, identity.data)
    for facts in known().values():
        if key == (facts.machine, facts.elf_class, facts.data):
            return compared(facts)
    values = {"machine": number, "class": identity.elf_class, "data": identity.data}
    return compared(Architecture.model_validate(values, by_alias=True, by_name=False))


def compared(facts: Architecture) -> tuple[bytes, bytes]:
    """The first bytes of the architecture's programs, and which of their bits count.

    The general rule is that of QEMU's qemu-binfmt-conf.sh, but for the bytes 8 to 15: it demands that they are zero,
    while any kernel runs the programs that have something there, as every AppImage has. Byte 7 (OSABI) is free in both:
    static glibc programs say 3 (GNU/Linux), others 0 (SYSV). The lowest bit of e_type is free: ET_EXEC is 2, ET_DYN 3.
    The magic ends with e_machine, or with the last field that an exception compares.
    """
    values: dict[HeaderField, int] = {
        "data": {"little": 1, "big": 2}[facts.data],
        "version": _EV_CURRENT,
        "type": _ET_EXEC,
        "machine": facts.machine,
        "file-version": _EV_CURRENT,
    }
    masks: dict[HeaderField, int] = {"type": 0xFFFE}
    size = max([_HEADER, *(sum(FIELDS[facts.elf_class, name]) for name in facts.exceptions)])
    magic = bytearray(ELF_MAGIC + bytes([{32: 1, 64: 2}[facts.elf_class]]))
    magic += bytes(size - len(magic))
    mask = bytearray(b"\xff" * _HEADER + bytes(size - _HEADER))
    mask[_FREE] = bytes(_FREE.stop - _FREE.start)
    for name, exception in facts.exceptions.items():
        masks[name] = exception.mask
        values[name] = exception.value if exception.value is not None else values.get(name, 0)
    for name, value in values.items():
        if sum(FIELDS[facts.elf_class, name]) <= size:
            _put(magic, facts, name, value)
    for name, bits in masks.items():
        _put(mask, facts, name, bits)
    return bytes(magic), bytes(mask)


def _put(header: bytearray, facts: Architecture, field: HeaderField, value: int) -> None:
    offset, size = FIELDS[facts.elf_class, field]
    order = "<" if facts.data == "little" else ">"
    struct.pack_into(order + {1: "B", 2: "H", 4: "I"}[size], header, offset, value)


def of_file(start: bytes) -> str | None:
    """Name of the architecture of the ELF file that begins with `start` (64 bytes or more); None for no known one.

    Where the exceptions of several fit, as those of MIPS may, the first one counts.
    """
    for name, facts in known().items():
        magic, mask = compared(facts)
        # Without e_type: an object or a core file is of an architecture too, and one entry has it wrong.
        kept = [place for place in range(len(magic)) if place not in (16, 17)]
        if all((start[place] ^ magic[place]) & mask[place] == 0 for place in kept if place < len(start)):
            return name
    return None


def of_entry(magic: bytes, mask: bytes, offset: int) -> str | None:
    """Name of the architecture whose programs an entry with this magic and mask takes; None for no known one."""
    if offset or not magic.startswith(ELF_MAGIC) or len(magic) < _HEADER:
        return None
    for name, facts in known().items():
        own, own_mask = compared(facts)
        size = min(len(own), len(magic))
        bits = bytes(a & b for a, b in zip(own_mask[:size], mask[:size], strict=True))
        same = all((a ^ b) & c == 0 for a, b, c in zip(own[:size], magic[:size], bits, strict=True))
        # A longer magic of ours tells ABIs apart that a shorter one of theirs cannot.
        if same and mask[18:20] != b"\0\0":
            return name
    return None


def runs_natively(name: str, uname: str) -> bool:
    """Whether a machine that says `uname` (as `uname -m` does) runs programs of the architecture by itself."""
    return uname in known()[name].uname
