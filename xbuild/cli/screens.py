"""What --help shows, from the table. Pure."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence

from xbuild.base.errors import called
from xbuild.cli.groups import GROUPS, grouped
from xbuild.cli.table import DEBUGGER, PROGRAMS, REST, Command, Option, Table

_MAINTAINERS = list(GROUPS)[-1]
_NARROWEST, _WIDEST = 40, 120
_WORDS = {
    "target": "TARGET", "targets": "TARGET,...", "mode": "MODE", "modes": "MODE,...", "jobs": "N", "from": "PHASE",
    "phase": "PHASE", "events": "FILE", "summary": "FILE", "html": "FILE", "suite": "SUITE", "root": "ROOT",
    "snapshot": "DAY", "kind": "KIND", "keep": "NAME", "repeat": "N", "top": "N", "recipes": "RECIPE,...",
}  # fmt: skip
"""What stands for the value of an option; VALUE for all others."""


def first(table: Table, width: int) -> Iterator[str]:
    """The first screen: what there is, in groups. width: columns of the terminal."""
    yield called("usage: invoke COMMAND [options] ...")
    for heading, names in grouped(list(table.commands)).items():
        if heading == _MAINTAINERS:
            yield ""
            yield f"{heading}: {', '.join(names)}"
            continue
        yield ""
        yield f"{heading}:"
        room = _within(width) - max(map(len, names)) - 4
        yield from _columns([(name, _short(table.commands[name], room)) for name in names], width)
    yield ""
    yield from _columns(
        [
            (called("invoke --help COMMAND"), "what a command takes"),
            (called("invoke --version"), "which xbuild this is"),
            ("-t, -j, -v, -y", "short for --target, --jobs, --verbose, --yes, where a command has them"),
        ],
        width,
    )


def of(command: Command, width: int) -> Iterator[str]:
    """The screen of one command."""
    words = [_placeholder(option) for option in command.words]
    words += ["..."] if any(option.further for option in command.options) else []
    rest = " PROGRAM ..." if command.name in PROGRAMS else " [-- COMMAND ...]" if command.name in REST else ""
    rest = f" [gdb's options]{rest}" if command.name == DEBUGGER else rest
    yield f"usage: {' '.join([called(f'invoke {command.name}'), *words])} [options]{rest}"
    yield ""
    yield from textwrap.wrap(command.summary, _within(width))
    for title, options in (
        ("", command.words),
        ("Options:", [option for option in command.options if not option.positional]),
    ):
        if options:
            yield ""
            yield from [title] if title else ()
            yield from _columns([(_left(option), _right(option)) for option in options], width)


def _short(command: Command, room: int) -> str:
    """The longest beginning of what the command does, up to a mark, that one line has room for."""
    text = command.summary.rstrip(".")
    for marks in ("$", "; ", "[:,] "):
        fitting = [text[: found.start()] for found in re.finditer(marks, text) if found.start() <= room]
        if fitting:
            return fitting[-1]
    return textwrap.shorten(text, room, placeholder=" ...")


def _placeholder(option: Option) -> str:
    word = option.name.upper()
    return word if option.default is None else f"[{word}]"


def _left(option: Option) -> str:
    if option.positional:
        return _placeholder(option)
    letter = f"-{option.letter}, " if option.letter else "    "
    if option.kind == "flag":
        return f"{letter}--{'no-' if option.default is True else ''}{option.name}"
    return f"{letter}--{option.name} {_WORDS.get(option.name, 'VALUE')}"


def _right(option: Option) -> str:
    known = "" if option.kind == "flag" or option.positional or not option.default else f" [{option.default}]"
    return f"{option.help}{known}"


def _within(width: int) -> int:
    return max(_NARROWEST, min(width, _WIDEST) - 1)


def _columns(rows: Sequence[tuple[str, str]], width: int) -> Iterator[str]:
    whole = _within(width)
    left = min(max(len(row[0]) for row in rows), whole // 3) + 4
    for name, text in rows:
        lines = textwrap.wrap(text, whole - left, break_on_hyphens=False) or [""]
        head = f"  {name}"
        if len(head) > left - 2:
            yield head
            head = ""
        yield f"{head:<{left}}{lines[0]}".rstrip()
        yield from (f"{'':<{left}}{line}" for line in lines[1:])
