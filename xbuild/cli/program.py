"""The installed program `xbuild`: the same tasks as `invoke`, with suggestions for what is mistyped."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from invoke.config import Config
from invoke.exceptions import ParseError
from invoke.program import Program

from xbuild.base import log, paths, process
from xbuild.base.errors import EXIT_USAGE, MachineError, UsageError
from xbuild.base.yamlfile import did_you_mean
from xbuild.cli.guard import outcome
from xbuild.cli.tasks import namespace


def help_first(words: Sequence[str]) -> list[str]:
    """The command line `words` with `--help` moved before the command: invoke takes it for a recipe after it."""
    own = list(words[: words.index("--")] if "--" in words else words)
    command = next((word for word in own[1:] if word in namespace.task_names), None)
    return [own[0], "--help", command] if command and {"--help", "-h"} & set(own) else list(words)


def usage_error(fault: ParseError) -> UsageError:
    """What invoke's parser says, in our words and with a suggestion."""
    unknown = re.fullmatch(r"No idea what '(.*)' is!", str(fault))
    if unknown is None:
        return UsageError(str(fault), hint="`xbuild --help COMMAND` shows what a command takes")
    word = unknown[1].partition("=")[0]
    if not word.startswith("-"):
        suggestion = did_you_mean(word, namespace.task_names)
        return UsageError(f"unknown command {word!r}{suggestion}", hint="`xbuild --list` shows the commands")
    context = fault.context
    suggestion = did_you_mean(word, context.flags) if context else ""
    command = context.name if context and context.name else "COMMAND"
    return UsageError(f"unknown option {word!r}{suggestion}", hint=f"`xbuild --help {command}` shows the options")


def own_version() -> str:
    """The version of this xbuild; of a checkout also the commit, and `-dirty` if files of it were changed."""
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


class _Settings(Config):
    """Without invoke's settings of the machine and of the user: xbuild has none there, and they may be unreadable."""

    def load_base_conf_files(self) -> None:
        """Load nothing."""


class XbuildProgram(Program):
    """invoke's Program; a word that it does not know ends with our exit code and a suggestion."""

    def print_version(self) -> None:
        """Print the version."""
        log.output(f"{self.name} {own_version()}")

    def run(self, argv: list[str] | None = None, exit: bool = True) -> None:
        """Do what the words say; end with our exit code, also where invoke writes (--help, --list)."""

        def work() -> int:
            with log.to_stdout():
                try:
                    super(XbuildProgram, self).run(argv, exit)
                except SystemExit as end:
                    return end.code if isinstance(end.code, int) else 0
            return 0

        if code := outcome(work):
            sys.exit(code)

    def parse_core(self, argv: list[str] | None) -> None:
        """Parse the options before the command."""
        super().parse_core(help_first(sys.argv if argv is None else argv))

    def parse_tasks(self) -> None:
        """Parse the words after the core options."""
        try:
            super().parse_tasks()
        except ParseError as error:
            log.error(usage_error(error))
            sys.exit(EXIT_USAGE)


def main() -> None:
    """The entry point."""
    # Until a command begins, which ends in order, ^C ends us at once, as it does any program.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    XbuildProgram(name="xbuild", namespace=namespace, config_class=_Settings).run()
