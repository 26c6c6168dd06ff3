"""Words that can come next on a command line, for the shells' completion. Looks only at names of files."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence

from xbuild.base import paths
from xbuild.base.errors import XbuildError
from xbuild.cli.table import PROGRAMS, Command, Option, Table

SHELLS = ("bash", "zsh", "fish")
FILES = ":files"
"""The one answer that means: names of files."""

_KINDS = {
    "recipe": "recipe", "recipes": "recipe", "target": "target", "targets": "target", "mode": "mode", "modes": "mode",
    "fallback": "mode", "from": "phase", "phase": "phase", "kind": "kind", "root": "root", "keep": "kept",
}  # fmt: skip
"""What the value of an option is, by its name; of all others the shell offers files."""
_FIXED = {"native": ("on", "off"), "compression": ("gzip", "zstd"), "suite": ("bookworm", "trixie", "forky", "sid")}
_MANY = ("recipes", "targets", "modes")
"""Options whose value is a list with commas."""


def candidates(table: Table, shell: str, line: str) -> list[str]:
    """What the last word of `line` can become, for `shell`; FILES alone for names of files."""
    words = _split(line)
    if not words:
        return []
    *before, word = words[1:] or [""]
    known = _candidates(table, before, word)
    fitting = [(name, text) for name, text in known if name.startswith(word) and name != FILES]
    if not fitting and (FILES, "") in known:
        return [FILES]
    if shell == "bash":
        # bash completes what stands behind = by itself (COMP_WORDBREAKS).
        return [name.rpartition("=")[2] if "=" in word else name for name, _ in fitting]
    return [f"{name}\t{text}" if text else name for name, text in fitting]


def _split(line: str) -> list[str]:
    """The words so far, the last one perhaps empty, with its quotes taken away; [] behind a pipe and the like."""
    line = re.split(r"[;&|](?!.*['\"])", line)[-1].lstrip()
    for end in ("", "'", '"'):
        try:
            words = shlex.split(line + end)
        except ValueError:
            continue
        return [*words, ""] if not end and (not line or line[-1].isspace()) else words
    return []


def _candidates(table: Table, before: Sequence[str], word: str) -> list[tuple[str, str]]:
    name = next((given for given in before if not given.startswith("-")), None)
    if name is None or name == "help":
        commands = [(known.name, known.summary.partition("; ")[0]) for known in table.commands.values()]
        return [*commands, *([] if name else [("help", ""), ("--help", ""), ("--version", "")])]
    command = table.commands.get(name)
    if command is None:
        return []
    after = list(before[before.index(name) + 1 :])
    if "--" in after or (name in PROGRAMS and _programs(command, after)):
        return [(FILES, "")]
    if after and (option := _waiting(command, after[-1])):
        return [(value, "") for value in _values(table, option, word)]
    if word.startswith("--") and "=" in word:
        flag, _, value = word.partition("=")
        named = _named(command, flag)
        return [(f"{flag}={known}", "") for known in _values(table, named, value)] if named else []
    if word.startswith("-") or not (own := _place(command, after)):
        files = [(FILES, "")] if name in PROGRAMS else []
        return [*(_flags(command) if word.startswith("-") or not files else []), *files]
    return [(value, "") for value in _values(table, own, word)]


def _flags(command: Command) -> list[tuple[str, str]]:
    return [(option.shown, option.help) for option in command.options if not option.positional]


def _named(command: Command, flag: str) -> Option | None:
    return next(
        (
            option
            for option in command.options
            if not option.positional and flag in (f"--{option.name}", f"-{option.letter}") and flag != "-"
        ),
        None,
    )


def _waiting(command: Command, word: str) -> Option | None:
    """The option that wants a value, if the word before is one."""
    option = _named(command, word)
    return option if option and option.kind != "flag" else None


def _free(command: Command, after: Sequence[str]) -> list[str]:
    """The words that are neither options nor their values."""
    return [
        word
        for number, word in enumerate(after)
        if not word.startswith("-") and not (number and _waiting(command, after[number - 1]))
    ]


def _programs(command: Command, after: Sequence[str]) -> bool:
    return bool(_free(command, after))


def _place(command: Command, after: Sequence[str]) -> Option | None:
    """The positional word that comes next, if there is one."""
    given = len(_free(command, after))
    return command.words[given] if given < len(command.words) else None


def _values(table: Table, option: Option, word: str) -> list[str]:
    kind = _KINDS.get(option.name, "")
    found = list(_FIXED.get(option.name) or table.values.get(kind) or _looked_up(kind))
    if option.name in _MANY:
        head, comma, _ = word.rpartition(",")
        chosen = head.split(",") if comma else []
        return [f"{head}{comma}{name}" for name in found if name not in chosen]
    return found if found and kind not in ("recipe", "root", "") else [*found, FILES]


def _looked_up(kind: str) -> Iterable[str]:
    try:
        if kind in ("recipe", "target"):
            part = {"recipe": "recipes", "target": "toolchains"}[kind]
            folders = (paths.project() / part, paths.shipped(part))
            return sorted({file.stem for folder in folders for file in paths.definitions(folder)})
        if kind in ("kept", "root"):
            # As xbuild.session.kept and xbuild.roots.imported lay them out.
            folder = paths.named_cache() / {"kept": "kept", "root": "names"}[kind]
            return sorted(path.name.removesuffix(".json") for path in folder.iterdir()) if folder.is_dir() else ()
    except (OSError, XbuildError):
        # Completion has nothing to say about faults.
        return ()
    return ()
