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
    "FILE": ("against", "events", "file", "html", "interpreter", "junit", "markdown", "page", "require", "summary",
             "svg", "tar"),
    "DIR": ("certificates", "index", "oci", "output", "prefix", "repo", "sysroot"),
    "DIRS": ("bind",),
    "PATH": ("program",),
    "PATHS": ("without",),
    "NAME": ("keep", "name", "preset"),
    "NAMES": ("emulate", "trials"),
    "N": ("at-once", "jobs", "number", "partition", "repeat", "slots", "top", "workers"),
    "PORT": ("dashboard", "port"),
    "ADDRESS": ("listen",),
    "MACHINES": ("distcc-hosts",),
    "NETWORKS": ("allow",),
    "SIZE": ("ccache", "size"),
    "MIB": ("memory",),
    "BYTES": ("magic", "mask", "offset"),
    "DAYS": ("days", "older"),
    "DAY": ("snapshot",),
    "URL": ("cluster", "store"),
    "TARGET": ("target",),
    "TARGET,...": ("targets",),
    "MODE": ("fallback", "mode"),
    "MODE,...": ("modes",),
    "RECIPE,...": ("recipes",),
    "PHASE": ("from", "phase"),
    "SUITE": ("suite",),
    "ROOT": ("root",),
    "KIND": ("kind", "strip"),
    "FORM": ("compression", "format"),
    "PROGRAM": ("exec",),
    "PACKAGES": ("depends", "packages"),
    "PATTERNS": ("data",),
    "PROFILES": ("profiles",),
    "PYTHONS": ("python",),
    "ENTRY": ("binnmu",),
    "REQUIREMENT": ("build-requires", "test-requires"),
    "KEY=VALUE": ("config-settings",),
    "ARGUMENT": ("repair-args",),
    "TEXT": ("extension", "match", "test-command"),
    "KEY": ("sign",),
    "FLAGS": ("flags",),
    "on|off": ("native",),
}  # fmt: skip
"""What stands for the value of an option, and the options that it does so for."""
_WORD = {name: word for word, names in _WORDS.items() for name in names} | {"store.pack --output": "FILE"}
"""The same by option; by command and option where it means something else there."""


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
    words = [placeholder(option) for option in command.words]
    further = [option for option in command.options if option.further]
    words += ["..."] if further else []
    rest = " PROGRAM ..." if command.name in PROGRAMS else " [-- COMMAND ...]" if command.name in REST else ""
    rest = f" [gdb's options]{rest}" if command.name == DEBUGGER else rest
    yield f"usage: {' '.join([called(f'invoke {command.name}'), *words])} [options]{rest}"
    yield ""
    yield from textwrap.wrap(command.summary, _within(width))
    options = [option for option in command.options if not option.positional and not option.further]
    # A further word is given as it is, so its option is for invoke alone.
    rows = [(placeholder(option), _right(option)) for option in command.words]
    rows += [("...", option.help) for option in further]
    for title, shown in (("", rows), ("Options:", [(_left(command, one), _right(one)) for one in options])):
        if shown:
            yield ""
            yield from [title] if title else ()
            yield from _columns(shown, width)


def _short(command: Command, room: int) -> str:
    """The longest beginning of what the command does, up to a mark, that one line has room for."""
    text = command.summary.rstrip(".")
    for marks in ("$", "; ", "[:,] "):
        fitting = [text[: found.start()] for found in re.finditer(marks, text) if found.start() <= room]
        if fitting:
            return fitting[-1]
    return textwrap.shorten(text, room, placeholder=" ...")


def placeholder(option: Option) -> str:
    """The positional word as a command's usage has it."""
    word = option.name.upper()
    return word if option.default is None else f"[{word}]"


def value_word(command: Command, option: Option) -> str:
    """What stands for the value of an option."""
    return _WORD.get(f"{command.name} {option.shown}") or _WORD[option.name]


def _left(command: Command, option: Option) -> str:
    letter = f"-{option.letter}, " if option.letter else "    "
    value = "" if option.kind == "flag" else f" {value_word(command, option)}"
    return f"{letter}{option.shown}{value}"


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
