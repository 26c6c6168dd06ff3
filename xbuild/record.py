"""The record of a step's execs, as the dispatcher writes it (dispatcher/table.h, struct record), and as it is read.

Standard library only: the sandbox's pid 1 reads it too.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path

_HEAD = struct.Struct("<HBBIQ")


class Verdict(IntEnum):
    """What the dispatcher decided; the numbers are table.h's."""

    TWIN = 1
    WIDTH_TWIN = 2
    NO_ENTRY = 3
    CHANGED = 4
    ARGUMENT = 5
    VARIABLE = 6
    FAILED = 7


@dataclass(frozen=True, slots=True)
class Exec:
    """One exec of a target ELF file. time: nanoseconds, CLOCK_BOOTTIME. pid: in the sandbox. path: the real file."""

    time: int
    pid: int
    verdict: Verdict
    path: str

    @property
    def native(self) -> bool:
        """Whether a twin ran."""
        return self.verdict in (Verdict.TWIN, Verdict.WIDTH_TWIN)


@dataclass(frozen=True)
class Record:
    """The execs of a step in order. whole: False if the file was cut short or damaged; then what is missing is lost."""

    execs: tuple[Exec, ...]
    whole: bool


def parse(data: bytes) -> tuple[list[Exec], int]:
    """The execs that `data` begins with, and how many of its bytes they are: all, unless it is cut or damaged."""
    found: list[Exec] = []
    place = 0
    while place + _HEAD.size <= len(data):
        length, verdict, zero, pid, time = _HEAD.unpack_from(data, place)
        if length <= _HEAD.size or zero or not Verdict.TWIN <= verdict <= Verdict.FAILED or place + length > len(data):
            break
        path = data[place + _HEAD.size : place + length].decode(errors="surrogateescape")
        found.append(Exec(time, pid, Verdict(verdict), path))
        place += length
    return found, place


def corrected(execs: list[Exec]) -> list[Exec]:
    """`execs` without those of twins that could not be started, which FAILED records tell afterwards."""
    failed: set[int] = set()
    kept: list[Exec] = []
    for known in reversed(execs):
        if known.verdict is Verdict.FAILED:
            failed.add(known.pid)
        elif known.pid in failed and known.native:
            failed.discard(known.pid)
            continue
        kept.append(known)
    return kept[::-1]


def read(path: Path) -> Record:
    """What the file holds; a file that is not there holds nothing."""
    data = path.read_bytes() if path.exists() else b""
    execs, length = parse(data)
    printable = (replace(known, path=_printable(known.path)) for known in corrected(execs))
    return Record(tuple(printable), length == len(data))


def _printable(path: str) -> str:
    # Build systems may use any bytes in names; reports and JSON need text.
    return path.encode(errors="surrogateescape").decode(errors="replace")
