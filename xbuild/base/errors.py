"""Every error a user can meet, each with the exit code that the README documents.

Anything that is not an `XbuildError` is a bug in xbuild: exit code 1, with a traceback.
"""

from __future__ import annotations

import copy
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self

EXIT_OK = 0
EXIT_BUG = 1
EXIT_USAGE = 2
EXIT_PHASE = 3
EXIT_MACHINE = 4
EXIT_CHECK = 5
EXIT_INTERRUPTED = 130


def called(text: str) -> str:
    """`text`, which names our commands as `invoke COMMAND`, with the program that the user has called."""
    return re.sub(r"\binvoke (?=[a-z])", "xbuild ", text) if Path(sys.argv[0]).name == "xbuild" else text


class XbuildError(Exception):
    """A fault that is not a bug in xbuild.

    message: one line that says what is wrong and where (`file:line:col: ...` when it is in a file).
    details: further lines, shown indented below the message (last lines of a log, all errors of a file ...).
    hint: what to do next, one line; commands in it as in `called`.
    """

    exit_code = EXIT_BUG

    def __init__(self, message: str, *, details: Sequence[str] = (), hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details = tuple(details)
        self.hint = called(hint) if hint else None

    def with_details(self, *more: str) -> Self:
        """The same error with further lines."""
        error = copy.copy(self)
        error.details = (*self.details, *more)
        return error


class UsageError(XbuildError):
    """The command line, a setting or a file given by the user is wrong."""

    exit_code = EXIT_USAGE


class RecipeError(UsageError):
    """A recipe, toolchain, preset or policy file is wrong."""


class SourceError(XbuildError):
    """A source could not be fetched, or what came is not what the recipe names."""

    exit_code = EXIT_PHASE


class ProjectSourceError(SourceError):
    """A source that is a file or directory of the project is not what the recipe names."""

    exit_code = EXIT_USAGE


class PhaseError(XbuildError):
    """A phase of a build failed. log: what it said, if it began at all; the details name the file too."""

    exit_code = EXIT_PHASE
    log: Path | None = None


class LateError(PhaseError):
    """Twins could neither go on nor begin again. programs: the target's own, by their real paths; phase: where."""

    programs: frozenset[str] = frozenset()
    phase: str = ""


class MachineError(XbuildError):
    """The machine lacks something: a kernel feature, a package, an id range, disk space, the network."""

    exit_code = EXIT_MACHINE


class CheckError(XbuildError):
    """A finished build does not hold what was promised: wrong ELF, leaked path, differing output."""

    exit_code = EXIT_CHECK
