"""What takes time and is shown while it runs: what it is, how far, how long, what it said last. Writes nothing."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from xbuild.base.text import clean, human_size, human_time, one_line

_EVENTS_APART = 1.0
"""Seconds between two events about the same transfer."""
_END = 8192
"""Bytes at the end of a log in which its last line and how far it is are looked for."""
_LONGEST = 500
"""Characters of a line that are shown."""
# ninja's `[12/345]`, and the `[ 45%]` of makefiles that cmake writes, at the beginning of a line.
_COUNT = re.compile(r"^\[\s*(?:(?P<done>\d+)/(?P<total>\d+)|(?P<percent>\d+)%)\]", re.MULTILINE)


class Activity:
    """Something that takes time, shown while it runs and once more when it ends.

    file: what it says, a log. expected: the seconds that it took another time; None: nobody knows.
    """

    def __init__(self, title: str, file: Path | None = None, expected: float | None = None) -> None:
        self.title = one_line(title)
        self.file = file
        self._expected = expected
        self._start = time.monotonic()

    def _amount(self) -> str:
        return ""

    def facts(self) -> dict[str, Any]:
        """For events."""
        return {"name": self.title, **({"log": str(self.file)} if self.file else {})}

    @property
    def seconds(self) -> float:
        """How long it runs already."""
        return time.monotonic() - self._start

    def line(self) -> str:
        """The title, how much, and how long."""
        return "  ".join(part for part in (self.title, self._amount(), human_time(self.seconds)) if part)

    def now(self) -> tuple[str, str]:
        """As `line` with how far it is, as far as that is known; and the last line of its log, or lines, or nothing."""
        end = _end_of(self.file) if self.file else ""
        counts = [found[0] for found in _COUNT.finditer(end)][-1:]
        before = f" of about {human_time(self._expected)}" if self._expected and self.seconds < self._expected else ""
        said = next((line for line in reversed(end.split("\n")) if line.strip()), "")
        return "  ".join([self.line() + before, *counts]), said


class Progress(Activity):
    """The progress of a transfer. title: its name; total: its size in bytes, None if unknown. tell: gets the events."""

    def __init__(self, title: str, total: int | None, tell: Callable[..., None]) -> None:
        super().__init__(title)
        self.total = total
        self.done = 0
        self._tell = tell
        self._told = time.monotonic()

    def advance(self, count: int) -> None:
        """`count` more bytes have come."""
        self.done += count
        if (now := time.monotonic()) - self._told >= _EVENTS_APART or self.done == self.total:
            self._told = now
            self._tell("progress", name=self.title, done=self.done, total=self.total)

    def _amount(self) -> str:
        if self.total is None or self.done >= self.total:
            return human_size(self.done)
        share = f" ({100 * self.done // self.total} %)" if self.total else ""
        return f"{human_size(self.done)} of {human_size(self.total)}{share}"


def _lines_of(activity: Activity, depth: int, frame: str) -> Iterator[str]:
    text, said = activity.now()
    yield f"{'  ' * depth}{frame} {text}"
    yield from (f"{'  ' * depth}    {line}" for line in said.split("\n") if line)


def screen(active: Sequence[Activity], frame: str) -> list[str]:
    """Lines for a terminal: what runs, each inside the one before, and what the innermost says. frame: moves."""
    lines = [f"{'  ' * depth}  {activity.line()}" for depth, activity in enumerate(active[:-1])]
    return lines + [line for innermost in active[-1:] for line in _lines_of(innermost, len(lines), frame)]


def shown(line: str) -> str:
    """A line of a log as it can be shown: what a carriage return has written over is gone."""
    text = clean(line.rstrip("\r\n").rpartition("\r")[2]).expandtabs()
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


def _end_of(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, file.stat().st_size - _END))
            text = stream.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(map(shown, text.split("\n")))
