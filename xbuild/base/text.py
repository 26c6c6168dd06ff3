"""Text as people read it: sizes and times, and names and logs without what steers a terminal. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

# Beside C0 and C1 controls those that turn the order of what is seen (UAX #9), and the other separators of lines.
_OTHERS = r"\x7f-\x9f\u2028-\u202e\u2066-\u2069"
# ECMA-48 control sequences, OSC strings (titles, links), and every control but tab and newline: what comes out of a
# build's log must not move the user's cursor. An OSC string that does not end hides no further line.
_CONTROL = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"
    r"|\x1b\][^\x07\x1b\n]*(?:\x07|\x1b\\)?"
    rf"|[\x00-\x08\x0b-\x1a\x1c-\x1f{_OTHERS}]+|\x1b"
)
_UNSEEN = re.compile(rf"[\x00-\x08\x0a-\x1f{_OTHERS}]")


def human_time(seconds: float) -> str:
    """`seconds` as `12.3 s`, `14m 02s` or `1h 05m`."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    if (whole := round(seconds)) < 3600:
        return f"{whole // 60}m {whole % 60:02}s"
    minutes = round(seconds / 60)
    return f"{minutes // 60}h {minutes % 60:02}m"


def human_size(size: int) -> str:
    """`size` in bytes as `512 B`, `1.5 KiB`, `40.0 MiB` ... (units of 1024)."""
    if size < 1024:
        return f"{size} B"
    amount = float(size)
    for unit in ("KiB", "MiB", "GiB"):
        amount /= 1024
        if round(amount, 1) < 1024:
            return f"{amount:.1f} {unit}"
    return f"{amount / 1024:.1f} TiB"


def clean(text: str) -> str:
    """Text of many lines, such as a log, without what steers a terminal."""
    return _CONTROL.sub("", text)


def one_line(text: str) -> str:
    """`text` as one line, what cannot be seen in it as in Python: a file's name may hold anything."""
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def aligned(lines: Sequence[Sequence[object]], width: Callable[[str], int]) -> Iterator[str]:
    """The cells of `lines` in columns. width: how many places of a terminal a text takes."""
    cells = [[one_line(str(cell)) for cell in line] for line in lines]
    widths = [max(map(width, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        padded = (cell + " " * (wide - width(cell)) for cell, wide in zip(line, widths, strict=True))
        yield "  ".join(padded).rstrip()
