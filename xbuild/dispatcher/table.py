"""Writes the table that dispatcher.c looks twins up in; the layout is told in table.h."""

from __future__ import annotations

import hashlib
import os
import struct
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from xbuild.base.errors import XbuildError
from xbuild.formats.elf import section_location

MAGIC = 0x34544258
SIZE = 256 * 1024
SECTION = ".xbuild_table"
_HEADER = struct.Struct("<7I")
_SLOT = struct.Struct("<4I3q2I")
_RULES = struct.Struct("<7I")


@dataclass(frozen=True)
class Rules:
    """When another program than the twin runs, and what its environment gets; see model.policy.Tool."""

    emulate_args: tuple[str, ...] = ()
    emulate_env: tuple[str, ...] = ()
    other_args: tuple[str, ...] = ()
    other: str | None = None
    set_env: Mapping[str, str] = field(default_factory=dict)
    emulate_without: tuple[str, ...] = ()
    linker_words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entry:
    """A twin. path: real path of the target's file; program: path of the twin; both as seen inside.

    size (bytes) and ctime (seconds, nanoseconds): of the distribution's own file; None: any file at the path will do.
    digest: of its contents (`content_digest`), by which it is known where its change time is another one.
    """

    path: str
    program: str
    rules: Rules = Rules()
    size: int | None = None
    ctime: tuple[int, int] = (0, 0)
    digest: bytes = b""


def fnv1a(text: str) -> int:
    """The 32-bit FNV-1a hash of `text` (draft-eastlake-fnv)."""
    value = 2166136261
    for byte in os.fsencode(text):
        value = ((value ^ byte) * 16777619) & 0xFFFFFFFF
    return value


def content_digest(data: bytes) -> bytes:
    """What `Entry.digest` is: BLAKE2b with 32 bytes of output, as content.h computes it."""
    return hashlib.blake2b(data, digest_size=32).digest()


class _Writer:
    def __init__(self, reserved: int) -> None:
        self.data = bytearray(reserved)

    def add(self, data: bytes, align: int = 1) -> int:
        while len(self.data) % align:
            self.data.append(0)
        place = len(self.data)
        self.data += data
        return place

    def text(self, text: str) -> int:
        return self.add(os.fsencode(text) + b"\0")

    def texts(self, texts: Sequence[str]) -> int:
        return self.add(b"".join(os.fsencode(text) + b"\0" for text in texts) + b"\0") if texts else 0

    def rules(self, rules: Rules) -> int:
        if rules == Rules():
            return 0
        fields = (
            self.texts(rules.emulate_args),
            self.texts(rules.emulate_env),
            self.texts(rules.other_args) if rules.other else 0,
            self.text(rules.other) if rules.other else 0,
            self.texts([f"{name}={value}" for name, value in sorted(rules.set_env.items())]),
            self.texts(rules.emulate_without),
            self.texts(rules.linker_words),
        )
        return self.add(_RULES.pack(*fields), 8)


def encode(entries: Sequence[Entry], *, near: str, far: str, record: bool) -> bytes:
    """The table as bytes. near: the directory, as seen inside, that holds `qemu` and the file `record`.

    far: the same one for where it is not seen, as in a chroot that the build made. record: write down each exec.

    Raises XbuildError if it does not fit into the room that the dispatcher has for it.
    """
    slots = 8
    # At most half full, so that a search for what is not there ends soon.
    while slots < 2 * len(entries) + 1:
        slots *= 2
    writer = _Writer(_HEADER.size)
    table = writer.add(bytes(_SLOT.size * slots), 8)
    names = [f"{place}/{name}" for place in (near, far) for name in ("qemu", "record")]
    files = [writer.text(name) if record or name.endswith("qemu") else 0 for name in names]
    for entry in sorted(entries, key=lambda entry: entry.path):
        value = fnv1a(entry.path)
        place = value & (slots - 1)
        while writer.data[table + place * _SLOT.size + 4 : table + place * _SLOT.size + 8] != bytes(4):
            place = (place + 1) & (slots - 1)
        size = -1 if entry.size is None else entry.size
        texts = (writer.text(entry.path), writer.text(entry.program))
        digest = writer.add(entry.digest, 8) if entry.digest else 0
        fields = (value, *texts, writer.rules(entry.rules), size, *entry.ctime, digest, 0)
        _SLOT.pack_into(writer.data, table + place * _SLOT.size, *fields)
    _HEADER.pack_into(writer.data, 0, MAGIC, slots - 1, table, *files)
    if len(writer.data) > SIZE:
        raise XbuildError(f"the table of {len(entries)} twins needs {len(writer.data)} bytes; there is room for {SIZE}")
    return bytes(writer.data)


def install(dispatcher: Path, destination: Path, table: bytes) -> None:
    """Write a copy of the compiled `dispatcher` that decides by `table` to `destination`, executable by all."""
    offset, size = section_location(dispatcher, SECTION)
    program = bytearray(dispatcher.read_bytes())
    program[offset : offset + size] = table.ljust(size, b"\0")
    # Never over what is there: it may be registered, and then the kernel runs it or refuses the writing (ETXTBSY).
    with tempfile.NamedTemporaryFile(dir=destination.parent, prefix=f".{destination.name}.", delete=False) as stream:
        beside = Path(stream.name)
        try:
            stream.write(program)
            stream.close()
            beside.chmod(0o755)
            beside.replace(destination)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
