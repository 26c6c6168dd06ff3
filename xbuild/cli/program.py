"""The installed program `xbuild`: the same commands as `invoke` has in a checkout, by words of the table.

What it loads before it knows the command is little: completion and --help are asked for often.
"""

from __future__ import annotations

import gc
import importlib
import shutil
import signal
import sys
from collections.abc import Sequence

from xbuild.base import log
from xbuild.base.errors import UsageError, called
from xbuild.base.nearest import did_you_mean
from xbuild.cli import line, screens, table
from xbuild.cli.guard import outcome
from xbuild.cli.table import Command, Table
from xbuild.cli.task import Context

COMPLETE = "--complete"
"""What completion scripts ask by: a shell and the command line so far."""


def own_version() -> str:
    """The version of this xbuild; of a checkout also the commit, and `-dirty` if files of it were changed."""
    from importlib.metadata import PackageNotFoundError, version

    from xbuild.base import paths, process
    from xbuild.base.errors import MachineError

    try:
        number = version("xbuild")
    except PackageNotFoundError:
        number = "not installed"
    try:
        # Not of a repository around it, in which a venv may lie.
        git = ["git", "-C", str(paths.checkout()), "--git-dir", ".git", "describe", "--always", "--dirty"]
        found = process.run(git, capture=True, check=False).stdout.decode(errors="replace").strip()
    except (MachineError, UsageError):
        found = ""
    return f"{number} ({found})" if found else number


class XbuildProgram:
    """The program. A word that it does not know ends with our exit code and a suggestion."""

    def run(self, argv: Sequence[str] | None = None) -> None:
        """Do what the words say; end with our exit code."""
        words = list(sys.argv if argv is None else argv)[1:]
        own = words[: words.index("--")] if "--" in words else words
        log.configure(json="--json" in own)
        if code := outcome(lambda: _do(words, own)):
            sys.exit(code)


def _do(words: Sequence[str], own: Sequence[str]) -> int:
    known = table.load()
    if words[:1] == [COMPLETE]:
        from xbuild.cli.complete import candidates

        for candidate in candidates(known, *words[1:3]) if len(words) > 2 else ():
            log.output(candidate)
        return 0
    name = next((word for word in own if not word.startswith("-")), None)
    before = own[: own.index(name)] if name else own
    if "-V" in before or "--version" in before:
        log.output(f"xbuild {own_version()}")
        return 0
    if name == "help":
        return _help(known, [word for word in own if not word.startswith("-")][1:])
    if name is None or set(line.HELP) & set(before):
        return _screen(known, name, before)
    if name == "":
        raise UsageError("the name of the command is empty", hint=called("`invoke --help` shows the commands"))
    if before:
        raise UsageError(f"{before[0]!r} stands before the command", hint=called(f"`invoke {name} {before[0]}`"))
    return _perform(known, name, list(words)[list(words).index(name) + 1 :])


def _screen(known: Table, name: str | None, options: Sequence[str]) -> int:
    odd = [word for word in options if word not in (*line.HELP, "-l", "--list")]
    if odd:
        suggestion = did_you_mean(odd[0], ("--help", "--list", "--version"))
        raise UsageError(f"unknown option {odd[0]!r}{suggestion}", hint=called("`invoke --help` shows the commands"))
    return _help(known, [name] if name else [])


def _help(known: Table, names: Sequence[str]) -> int:
    width = shutil.get_terminal_size().columns
    for text in screens.first(known, width) if not names else ():
        log.output(text)
    for name in names:
        for text in screens.of(_command(known, name), width):
            log.output(text)
    return 0


def _command(known: Table, name: str) -> Command:
    """The command of that name; looked for among the tasks themselves if the table has none."""
    if name in known.commands:
        return known.commands[name]
    found = _fresh()
    if name in found.commands:
        return found.commands[name]
    suggestion = did_you_mean(name, found.commands)
    raise UsageError(f"unknown command {name!r}{suggestion}", hint=called("`invoke --help` shows the commands"))


def _fresh() -> Table:
    from xbuild.cli.namespace import namespace

    return table.of(namespace)


def _perform(known: Table, name: str, words: Sequence[str]) -> int:
    command = _command(known, name)
    try:
        read = line.read(command, words)
    except UsageError:
        # The table may be older than the task.
        command = _fresh().commands[name]
        read = line.read(command, words)
    if read.help:
        return _help(known, [name])
    task = getattr(importlib.import_module(command.module), command.attribute)
    # What is loaded stays: the collector need not look through it time and again.
    gc.freeze()
    task(Context(line.Remainder.of(read.rest)), **read.values)
    return 0


def main() -> None:
    """The entry point."""
    # Until a command begins, which ends in order, ^C ends us at once, as it does any program.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    XbuildProgram().run()
