"""What comes of starting a file, as `binfmt.explain` tells it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from xbuild.binfmt.entry import WINDOW, Entry

Forecast = Literal["runs", "refused", "dies", "unknown"]
FORECASTS: dict[Forecast, str] = {
    "runs": "runs",
    "refused": "execve fails",
    "dies": "starts, and ends at once",
    "unknown": "cannot be told",
}

_FIELDS = (
    (0, 4, "ELF magic"), (4, 1, "class"), (5, 1, "byte order"), (6, 1, "version"), (7, 1, "OSABI"),
    (8, 1, "ABI version"), (9, 7, "padding"), (16, 2, "type"), (18, 2, "machine"), (20, 4, "version"),
)  # fmt: skip
"""Fields at the start of every ELF header (<elf.h>): offset, size, name."""


@dataclass(frozen=True)
class Comparison:
    """A file's first bytes against an entry of type M."""

    entry: Entry
    start: bytes

    @property
    def takes(self) -> bool:
        """Whether all bytes that count are equal."""
        return self.entry.takes(self.start, "")

    def each(self) -> Iterator[tuple[int, str, int, int, int, bool]]:
        """For each byte: offset in the file, name of the field, the file's, magic, mask, whether equal."""
        is_elf = self.entry.offset == 0 and self.entry.magic.startswith(b"\x7fELF")
        window = self.start[:WINDOW].ljust(WINDOW, b"\0")
        for number, (wanted, bits) in enumerate(zip(self.entry.magic, self.entry.mask, strict=True)):
            place = self.entry.offset + number
            named = (name for first, size, name in _FIELDS if is_elf and first <= place < first + size)
            actual = window[place]
            name = next(named, "header" if is_elf else "magic")
            yield place, name, actual, wanted, bits, not (actual ^ wanted) & bits

    def lines(self) -> Iterator[str]:
        """For people: one line for each field, or for each run of bytes."""
        groups: list[list[tuple[int, str, int, int, int, bool]]] = []
        for item in self.each():
            if groups and groups[-1][0][1] == item[1]:
                groups[-1].append(item)
            else:
                groups.append([item])
        for group in groups:
            first, last = group[0][0], group[-1][0]
            where = f"byte {first}" if first == last else f"bytes {first}-{last}"
            file = bytes(item[2] for item in group).hex()
            magic = bytes(item[3] for item in group).hex()
            mask = bytes(item[4] for item in group).hex()
            verdict = "equal" if all(item[5] for item in group) else "DIFFERENT"
            if not any(item[4] for item in group):
                verdict = "free"
            yield f"{where:<12} {group[0][1]:<12} file {file}  magic {magic}  mask {mask}  {verdict}"

    def as_json(self) -> dict[str, Any]:
        """Each byte, in hex."""
        return {
            "entry": self.entry.name,
            "takes": self.takes,
            "bytes": [
                {
                    "offset": place,
                    "field": name,
                    "file": f"{actual:02x}",
                    "magic": f"{wanted:02x}",
                    "mask": f"{bits:02x}",
                    "equal": equal,
                }
                for place, name, actual, wanted, bits, equal in self.each()
            ],
        }


@dataclass
class Answer:
    """What comes of starting `file` in the root `root`.

    cause: a word for programs; text: the same for people. fault: the errno of execve, 0 if it works. chain: what the
    kernel does, step by step. hints: what to do next. certain: False if entries could not be read. comparisons: of the
    entries that decide.
    """

    file: str
    root: str
    verdict: Forecast = "unknown"
    cause: str = ""
    text: str = ""
    fault: int = 0
    certain: bool = True
    chain: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """For people."""
        inside = f" in the root {self.root}" if self.root != "/" else ""
        number = f": {errno.errorcode[self.fault]}, {os.strerror(self.fault)!r}" if self.fault else ""
        yield f"{self.file}{inside}: {FORECASTS[self.verdict]}{number}"
        yield f"cause: {self.text} [{self.cause}]"
        yield from (f"  {number}. {step}" for number, step in enumerate(self.chain, 1))
        for comparison in self.comparisons:
            state = "takes it" if comparison.takes else "does not take it"
            yield f"the entry {comparison.entry.name} {state}:"
            yield from (f"  {line}" for line in comparison.lines())
        yield from (f"note: {note}" for note in self.notes)
        yield from (f"hint: {hint}" for hint in self.hints)

    def as_json(self) -> dict[str, Any]:
        """Everything."""
        return {
            "file": self.file,
            "root": self.root,
            "verdict": self.verdict,
            "cause": self.cause,
            "text": self.text,
            "errno": errno.errorcode.get(self.fault),
            "certain": self.certain,
            "chain": self.chain,
            "notes": self.notes,
            "hints": self.hints,
            "comparisons": [comparison.as_json() for comparison in self.comparisons],
        }
