"""Every error a user can meet, each with the exit code that the README documents.

Anything that is not an `XbuildError` is a bug in xbuild: exit code 1, with a traceback.
"""

from __future__ import annotations

import copy
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

EXIT_OK = 0
EXIT_BUG = 1
EXIT_USAGE = 2
EXIT_PHASE = 3
EXIT_MACHINE = 4
EXIT_CHECK = 5
EXIT_INTERRUPTED = 130


def called(text: str) -> str:
    """`text`, which names our commands as `invoke COMMAND`, as the user can give them where he has given his."""
    return re.sub(r"\binvoke (?=[A-Za-z-])", lambda _: f"{_program()} ", text) if "invoke " in text else text


def _program() -> str:
    """The words that stand before a command, as they were given: `xbuild`, `.venv/bin/invoke`, `python3 -m xbuild`."""
    script = Path(sys.argv[0])
    if script.name == "__main__.py" and script.parent.name in _NAMES:
        words = [_typed(sys.orig_argv[0], sys.executable), "-m", script.parent.name]
    elif script.name in _NAMES:
        words = [_typed(sys.argv[0], sys.argv[0])]
    else:
        # Something else that uses us: a test, say.
        words = ["invoke"]
    return shlex.join(words if words[-1] == "xbuild" else [*words, *_places(sys.argv[1:])])


def _typed(word: str, file: str) -> str:
    """The program `word` without its directory, if the shell finds the same `file` by its name."""
    found = shutil.which(Path(word).name)
    same = found is not None and Path(found).exists() and Path(file).exists() and Path(found).samefile(file)
    return Path(word).name if same else word


def _places(words: Sequence[str]) -> list[str]:
    """invoke's options before its command that say where our commands are."""
    found: list[str] = []
    for number, word in enumerate(words):
        if not word.startswith("-"):
            if number == 0 or words[number - 1] not in _PLACES:
                break
            found += [words[number - 1], word]
        elif word.partition("=")[0] in _PLACES and "=" in word:
            found.append(word)
    return found


_NAMES = ("xbuild", "invoke", "inv")
_PLACES = ("-r", "--search-root", "-c", "--collection")


_WHERE = re.compile(r"(?P<file>[^\n]+?):(?P<line>[0-9]+):(?P<column>[0-9]+): ")


class XbuildError(Exception):
    """A fault that is not a bug in xbuild.

    message: one line that says what is wrong and where (`file:line:col: ...` when it is in a file).
    details: further lines, shown indented below the message (last lines of a log, all errors of a file ...).
    hint: what to do next, one line; commands in it as in `called`.
    """

    exit_code = EXIT_BUG
    kind = "bug"
    """In a word, for programs."""
    log: Path | None = None
    """What said more, if anything did."""

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


    def as_json(self) -> dict[str, Any]:
        """For --json. where: the file, line and column that the message begins with."""
        found = _WHERE.match(self.message)
        place = found and {"file": found["file"], "line": int(found["line"]), "column": int(found["column"])}
        return {
            "kind": self.kind,
            "code": self.exit_code,
            "message": self.message,
            "where": place,
            "details": list(self.details),
            "hint": self.hint,
            "log": str(self.log) if self.log else None,
        }


class UsageError(XbuildError):
    """The command line, a setting or a file given by the user is wrong."""

    exit_code = EXIT_USAGE
    kind = "usage"


class RecipeError(UsageError):
    """A recipe, toolchain, preset or policy file is wrong."""

    kind = "recipe"


class SourceError(XbuildError):
    """A source could not be fetched, or what came is not what the recipe names."""

    exit_code = EXIT_PHASE
    kind = "source"


class ProjectSourceError(SourceError):
    """A source that is a file or directory of the project is not what the recipe names."""

    exit_code = EXIT_USAGE


class PhaseError(XbuildError):
    """A phase of a build failed. log: what it said, if it began at all; the details name the file too.

    cut: it was ended by force, and may have left files half written.
    """

    cut: bool = False

    @property
    def next_time(self) -> str:
        """What the same command does."""
        return "from the beginning: it was ended by force" if self.cut else "resumes at this phase"

    exit_code = EXIT_PHASE
    kind = "phase"


class LateError(PhaseError):
    """Twins could neither go on nor begin again. programs: the target's own, by their real paths; phase: where."""

    programs: frozenset[str] = frozenset()
    phase: str = ""


class MachineError(XbuildError):
    """The machine lacks something: a kernel feature, a package, an id range, disk space, the network."""

    exit_code = EXIT_MACHINE
    kind = "machine"


class DiskFullError(MachineError):
    """There is no room for what has to be written: whatever else is tried would fail as well."""


class CheckError(XbuildError):
    """A finished build does not hold what was promised: wrong ELF, leaked path, differing output."""

    exit_code = EXIT_CHECK
    kind = "check"
