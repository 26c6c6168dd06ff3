"""The installed program `xbuild`: the same tasks as `invoke`, with suggestions for what is mistyped."""

from __future__ import annotations

import sys
from importlib.metadata import version

from invoke import Program
from invoke.exceptions import ParseError

from xbuild import log
from xbuild.cli.tasks import namespace
from xbuild.errors import EXIT_USAGE, UsageError
from xbuild.yamlfile import did_you_mean


class XbuildProgram(Program):
    """invoke's Program; a word that is no task ends with our exit code and a suggestion."""

    def parse_tasks(self) -> None:
        """Parse the words after the core options."""
        try:
            super().parse_tasks()
        except ParseError as error:
            words = [word for word in sys.argv[1:] if not word.startswith("-")]
            known = list(namespace.task_names)
            first = words[0] if words else ""
            suggestion = "" if first in known else did_you_mean(first, known)
            log.error(UsageError(f"{error}{suggestion}", hint="`xbuild --list` shows the commands"))
            sys.exit(EXIT_USAGE)


def main() -> None:
    """The entry point."""
    XbuildProgram(name="xbuild", namespace=namespace, version=version("xbuild")).run()
