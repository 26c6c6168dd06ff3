"""Writes the table that dispatcher.c looks twins up in; the layout is told in table.h."""

from __future__ import annotations

import hashlib
import os
import struct
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from xbuild.base.errors import XbuildError
from xbuild.formats.elf import section_location
from xbuild.model.rules import Rules

MAGIC = 0x36544258
SIZE = 2048 * 1024
"""Bytes; some 6,000 modules beside the programs. What is not used takes no room on the disk, nor time at an exec."""

COPY_MARK, COPY_MARK_AT = b"xbuild\1", 9
"""In e_ident of a copy that goes to the emulator itself (copied.h), and its offset there."""

SECTION = ".xbuild_table"
_HEADER = struct.Struct("<11I")
_SLOT = struct.Struct("<4I3q4I")


@dataclass(frozen=True)
class Entry:
    """A twin. path: real path of the target's file; program: path of the twin; both as seen inside.

    other: path of the twin of the target's width, if the rules can ask for it.
    size (bytes) and ctime (seconds, nanoseconds): of the distribution's own file; None: any file at the path will do.
    script: no program, but what an interpreter's rules let its twin run.
    module: no program, but what a twin is to open in place of a library of the target: the dispatcher never runs it.
    digest: of its contents (`content_digest`), by which it is known where its change time is another one.
    cache: path of a native program, as seen inside, that may answer in its place (cached.h).
    """

    path: str
    program: str
    rules: Rules = field(default_factory=Rules)
    size: int | None = None
    ctime: tuple[int, int] = (0, 0)
    digest: bytes = b""
    other: str | None = None
    module: bool = False
    script: bool = False
    cache: str | None = None


@dataclass(frozen=True)
class Caching:
    """What holds for all entries with a `cache`, as NAME=VALUE. env: what it gets besides. given: whole variables, of
    which one must be in the environment of a call that it may answer.
    """

    env: tuple[str, ...]
    given: tuple[str, ...]


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
        self._places: dict[tuple[str, ...], int] = {(): 0}

    def add(self, data: bytes, align: int = 1) -> int:
        while len(self.data) % align:
            self.data.append(0)
        place = len(self.data)
        self.data += data
        return place

    def text(self, text: str) -> int:
        return self.add(os.fsencode(text) + b"\0")

    def texts(self, texts: tuple[str, ...]) -> int:
        """The place of a list; many tools have the same one."""
        if texts not in self._places:
            self._places[texts] = self.add(b"".join(os.fsencode(text) + b"\0" for text in texts) + b"\0")
        return self._places[texts]

    def rules(self, rules: Rules) -> int:
        if rules == Rules():
            return 0
        places = [self.texts(words) for _, words in rules.lists()]
        return self.add(struct.pack(f"<{len(places)}I", *places), 8)


def encode(
    entries: Sequence[Entry], *, near: str, far: str, record: bool, caching: Caching | None = None
) -> bytes:
    """The table as bytes. near: the directory, as seen inside, that holds `qemu` and the file `record`.

    far: the same one for where it is not seen, as in a chroot that the build made. record: write down each exec,
    not only of twins that ask for a library of the target.

    Raises XbuildError if it does not fit into the room that the dispatcher has for it.
    """
    slots = 8
    # At most half full, so that a search for what is not there ends soon.
    while slots < 2 * len(entries) + 1:
        slots *= 2
    writer = _Writer(_HEADER.size)
    table = writer.add(bytes(_SLOT.size * slots), 8)
    names = [f"{place}/{name}" for place in (near, far) for name in ("qemu", "record")]
    qemu, marks, far_qemu, far_marks = map(writer.text, names)
    noted, far_noted = (marks, far_marks) if record else (0, 0)
    files = (qemu, noted, far_qemu, far_noted, marks, far_marks)
    for entry in sorted(entries, key=lambda entry: entry.path):
        value = fnv1a(entry.path)
        place = value & (slots - 1)
        while writer.data[table + place * _SLOT.size + 4 : table + place * _SLOT.size + 8] != bytes(4):
            place = (place + 1) & (slots - 1)
        size = -1 if entry.size is None else entry.size
        program = writer.text(entry.program)
        texts = (writer.text(entry.path), 0 if entry.module or entry.script else program)
        digest = writer.add(entry.digest, 8) if entry.digest else 0
        other = program if entry.module else writer.text(entry.other) if entry.other else 0
        cache = writer.text(entry.cache) if entry.cache and caching else 0
        fields = (value, *texts, writer.rules(entry.rules), size, *entry.ctime, digest, other, cache, 0)
        _SLOT.pack_into(writer.data, table + place * _SLOT.size, *fields)
    cached = (writer.texts(caching.env), writer.texts(caching.given)) if caching else (0, 0)
    _HEADER.pack_into(writer.data, 0, MAGIC, slots - 1, table, *files, *cached)
    if len(writer.data) > SIZE:
        raise XbuildError(f"the table of {len(entries)} twins needs {len(writer.data)} bytes; there is room for {SIZE}")
    return bytes(writer.data)


def install(dispatcher: Path, destination: Path, table: bytes) -> None:
    """Write a copy of the compiled `dispatcher` that decides by `table` to `destination`, executable by all."""
    offset, size = section_location(dispatcher, SECTION)
    program = dispatcher.read_bytes()
    # Never over what is there: it may be registered, and then the kernel runs it or refuses the writing (ETXTBSY).
    with tempfile.NamedTemporaryFile(dir=destination.parent, prefix=f".{destination.name}.", delete=False) as stream:
        beside = Path(stream.name)
        try:
            stream.write(program[:offset] + table)
            # The compiled table is all zeros, and so is a hole.
            stream.seek(offset + size)
            stream.write(program[offset + size :])
            stream.close()
            beside.chmod(0o755)
            beside.replace(destination)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
