"""Rows of reproduced packages in tables and lines, for the terminal and for Markdown. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from xbuild.base.log import human_time
from xbuild.proof.compare.text import inside
from xbuild.proof.reproduce.verdict import Held, Row, Word, counts, mean_ratio

COLUMNS = ("source", "version", "target", "native", "built", "ratio", "emulated", "packages")

_ORDER = {word: place for place, word in enumerate(Word)}


def table(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """A line a row, in the order of `COLUMNS`."""
    return [
        (
            row.source,
            row.version,
            row.target,
            _time(row.seconds.get("native")),
            _time(row.seconds.get(row.mode)),
            f"{row.ratio:.2f}" if row.ratio else "",
            _emulated(row),
            "failed" if row.failed else verdicts(row.debs),
        )
        for row in rows
    ]


def _time(seconds: float | None) -> str:
    return "" if seconds is None else human_time(seconds)


def _emulated(row: Row) -> str:
    time = _time(row.seconds.get("emulated"))
    return f"{time} ({row.slower:.1f} x)" if row.slower else time


def verdicts(held: Sequence[Held]) -> str:
    """`3 identical, 1 cause proved (linker), 2 not held`."""
    found: dict[tuple[Word, str], int] = {}
    for one in held:
        key = (one.word, one.kinds if one.word is Word.CAUSE else "")
        found[key] = found.get(key, 0) + 1
    ordered = sorted(found.items(), key=lambda item: _ORDER[item[0][0]])
    return ", ".join(f"{number} {word}" + (f" ({kinds})" if kinds else "") for (word, kinds), number in ordered)


def named(held: Sequence[Held]) -> str:
    """`identical: bzip2, libbz2-dev; cause proved (linker): libbz2-1.0; 2 not held`, by names of packages."""
    found: dict[tuple[Word, str], list[str]] = {}
    for one in held:
        found.setdefault((one.word, one.kinds if one.word is Word.CAUSE else ""), []).append(one.name.partition("_")[0])
    parts = []
    for (word, kinds), names in sorted(found.items(), key=lambda item: _ORDER[item[0][0]]):
        title = f"{word} ({kinds})" if kinds else str(word)
        parts.append(f"{len(names)} {word}" if word is Word.NOT_HELD else f"{title}: {', '.join(names)}")
    return "; ".join(parts)


def lines(rows: Sequence[Row]) -> Iterator[str]:
    """All that follows the table."""
    for row in rows:
        told = list(_row_lines(row))
        if told:
            yield f"{row.title}:"
            yield from (f"  {line}" for line in told)
    if (mean := mean_ratio(rows)) and len(rows) > 1:
        yield f"geometric mean of built to native: {mean:.2f}"
    if len(rows) > 1:
        yield ", ".join(f"{number} {word}" for word, number in counts(rows).items())


def _row_lines(row: Row) -> Iterator[str]:
    if row.failed:
        yield f"not built: {row.failed}"
        yield from (f"  {line}" for line in row.details[-5:])
    for held in row.debs:
        yield from held_lines(held)
    if any(one.word is not Word.IDENTICAL and one.word is not Word.NOT_HELD for one in row.debs) and row.control:
        yield f"the native build beside the archive's own: {verdicts(row.control)}"
    yield from row.notes


def held_lines(held: Held) -> Iterator[str]:
    """A package's verdict, and what shows it."""
    notes = [held.note] if held.note else []
    if held.emulated is not None:
        notes.append("the emulated build gives " + ("the same bytes" if held.emulated else "OTHER bytes"))
    yield f"{held.name}: {held.word}" + (f" ({'; '.join(notes)})" if notes else "")
    for cause in held.explained.causes:
        yield f"  {cause.text}"
        yield from (f"    {line}" for line in cause.evidence)
        yield f"    explains {', '.join(cause.members[:6])}{', ...' if len(cause.members) > 6 else ''}"
    if held.explained.left and held.found:
        yield "  without a known cause:"
        left = [member for member in held.found.members if member[0] in held.explained.left]
        yield from inside(left)


def markdown(rows: Sequence[Row]) -> str:
    """A table for documents, with what each cause is below it."""
    head = ("source", "version", "target", "native", "built", "ratio", "emulated", "packages")
    text = [_line(head), _line(["---"] * 3 + ["---:"] * 4 + ["---"])]
    text += [
        _line([_plain(cell) for cell in (*cells[:-1], row.failed or named(row.debs))])
        for row, cells in zip(rows, table(rows), strict=True)
    ]
    if mean := mean_ratio(rows):
        total = ", ".join(f"{number} {word}" for word, number in counts(rows).items())
        text += ["", f"Geometric mean of built to native: {mean:.2f}. Packages: {total}."]
    causes = sorted({(row.source, cause.text) for row in rows for held in row.debs for cause in held.explained.causes})
    if causes:
        text += ["", *(f"- {_plain(source)}: {_plain(cause)}" for source, cause in causes)]
    return "\n".join(text) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
