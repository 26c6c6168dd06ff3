"""The record of a step's execs, as the dispatcher writes it (dispatcher/table.h, struct record), and as it is read.

Standard library only: the sandbox's pid 1 reads it too.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

_HEAD = struct.Struct("<HBBIQ")
_LONGEST = _HEAD.size + 4096
"""Bytes of a record with the longest path (PATH_MAX, <linux/limits.h>)."""
_PIECE = 1 << 20
MOST = 64 << 20
"""Bytes of a record that are read and kept: more than a million execs. The build can write into the file, or make it as
long as it likes; it is to cost nobody but itself."""
CUT = "user.xbuild.cut"
"""The extended attribute by which the dispatcher tells that it could not write an exec down (table.h)."""


class Choice(IntEnum):
    """What the dispatcher decided; the numbers are table.h's."""

    TWIN = 1
    WIDTH_TWIN = 2
    NO_ENTRY = 3
    CHANGED = 4
    ARGUMENT = 5
    VARIABLE = 6
    FAILED = 7
    PRELOADED = 8
    BEGUN_AGAIN = 9
    TOO_LATE = 10


_CORRECTING = (Choice.FAILED, Choice.BEGUN_AGAIN, Choice.TOO_LATE)


@dataclass(frozen=True, slots=True)
class Exec:
    """One exec of a target ELF file. time: nanoseconds, CLOCK_BOOTTIME. pid: in the sandbox. path: the real file."""

    time: int
    pid: int
    verdict: Choice
    path: str

    @property
    def native(self) -> bool:
        """Whether a twin ran."""
        return self.verdict in (Choice.TWIN, Choice.WIDTH_TWIN)


@dataclass(frozen=True)
class Record:
    """How often the programs of a step ran, by real path and verdict, in the order of their first time.

    whole: False if the file was cut short or damaged, or is longer than what is read; then what is missing is lost.
    """

    counts: Mapping[tuple[str, Choice], int]
    whole: bool

    def total(self, *, native: bool) -> Counter[str]:
        """How often programs ran natively or not, by real path."""
        found: Counter[str] = Counter()
        for (path, verdict), count in self.counts.items():
            if native is (verdict in (Choice.TWIN, Choice.WIDTH_TWIN)):
                found[path] += count
        return found


def parse(data: bytes) -> tuple[list[Exec], int]:
    """The execs that `data` begins with, and how many of its bytes they are: all, unless it is cut or damaged."""
    found: list[Exec] = []
    place = 0
    while place + _HEAD.size <= len(data):
        length, verdict, zero, pid, time = _HEAD.unpack_from(data, place)
        if not _HEAD.size < length <= _LONGEST or zero or not Choice.TWIN <= verdict <= Choice.TOO_LATE:
            break
        if place + length > len(data):
            break
        path = data[place + _HEAD.size : place + length].decode(errors="surrogateescape")
        found.append(Exec(time, pid, Choice(verdict), path))
        place += length
    return found, place


class Stream:
    """A record, read piece by piece, also while it is written. length: bytes of the whole records read so far."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._rest = b""
        self._ended = False
        self.length = 0

    def more(self) -> list[Exec]:
        """The next execs; none at the end of what is written, and none ever behind damage or the first MOST bytes."""
        room = min(_PIECE, MOST - self.length - len(self._rest))
        if self._ended or room <= 0:
            return []
        read = os.pread(self._descriptor, room, self.length + len(self._rest))
        execs, used = parse(self._rest + read)
        self._rest = (self._rest + read)[used:]
        self.length += used
        self._ended = len(self._rest) >= _LONGEST
        return execs


def execs(descriptor: int) -> Iterator[Exec]:
    """All execs that the open file tells of, corrections included; `read` heeds them."""
    stream = Stream(descriptor)
    while found := stream.more():
        yield from found


def read(path: Path) -> Record:
    """What the file holds; a file that is not there holds nothing.

    A twin that could not be started, or could not go on, counts once: as what a later exec of the same process tells.
    """
    counts: Counter[tuple[str, Choice]] = Counter()
    latest: dict[int, tuple[str, Choice]] = {}
    try:
        descriptor = _open(path)
    except FileNotFoundError:
        return Record(counts, whole=True)
    try:
        stream = Stream(descriptor)
        while found := stream.more():
            for known in found:
                key = (_printable(known.path), known.verdict)
                if known.verdict in _CORRECTING and (failed := latest.pop(known.pid, None)):
                    counts[failed] -= 1
                if known.native:
                    latest[known.pid] = key
                counts[key] += 1
        whole = _is_whole(descriptor, stream.length)
    finally:
        os.close(descriptor)
    return Record(+counts, whole)


class Marks:
    """The programs that ended since they could not begin again (TOO_LATE), as a record tells, also while it is written.

    The whole file counts, however long it is. A file that is not there tells of none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: set[str] = set()
        self._read = 0

    def programs(self) -> frozenset[str]:
        """Those up to now, by real path. What was read before is not read again."""
        try:
            descriptor = _open(self._path)
        except FileNotFoundError:
            return frozenset()
        with os.fdopen(descriptor, "rb") as stream:
            stream.seek(self._read)
            rest = b""
            while len(rest) < _LONGEST and (read := stream.read(_PIECE)):
                execs_, used = parse(rest + read)
                self._found |= {_printable(known.path) for known in execs_ if known.verdict is Choice.TOO_LATE}
                self._read += used
                rest = (rest + read)[used:]
        return frozenset(self._found)


def keep(source: Path, destination: Path) -> None:
    """Copy a record as far as it can be read; the copy tells if that is not all. A damaged one is longer by a byte."""
    descriptor = _open(source)
    try:
        stream = Stream(descriptor)
        while stream.more():
            pass
        with destination.open("wb") as copy:
            for place in range(0, stream.length, _PIECE):
                copy.write(os.pread(descriptor, min(_PIECE, stream.length - place), place))
            if not _is_whole(descriptor, stream.length):
                copy.write(b"\0")
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _is_whole(descriptor: int, length: int) -> bool:
    # File systems without such attributes have no mark.
    with contextlib.suppress(OSError):
        if CUT in os.listxattr(descriptor):
            return False
    return os.fstat(descriptor).st_size == length


def _printable(path: str) -> str:
    # Build systems may use any bytes in names; reports and JSON need text.
    return path.encode(errors="surrogateescape").decode(errors="replace")
