"""Runs the canaries in a sandbox as builds have it, and says what became of each."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from xbuild.base import process
from xbuild.base.paths import BUILD
from xbuild.build.canary.cases import CASES, COMPILER, Case
from xbuild.build.environment import FIXED_VARIABLES, Root, WorkPlace, sandbox
from xbuild.dispatcher.table import Entry
from xbuild.roots.distribution import Roots
from xbuild.sandbox.run import Sandbox, remove_tree, started

SOURCE = Path(__file__).with_name("canary.c")

SECONDS = 120.0
"""How long one canary may take; on an idle machine each takes less than a second, compiling under qemu some seconds."""

_FLAGS = ("-O1", "-pthread")
# What Debian's compilers for 32-bit targets define by themselves since trixie; glibc refuses one without the other.
_NARROW = ("-DNARROW", "-U_FILE_OFFSET_BITS", "-U_TIME_BITS")
# The exit code by which automake's tests say that they could not be tried.
_SKIP = 77
_COMPILE = f'command -v cc >/dev/null || exit {_SKIP}; exec cc "$@"'
_LONGEST = 300
"""Characters of what a canary said that a finding tells: the end, which for a compiler too says what is wrong."""

Status = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True)
class Examined:
    """What became of one canary.

    detail: what was seen instead, or why it was skipped; "" if it passed. remedy: for one that failed. required:
    whether builds must not start if it failed; else only what a recipe itself compiles in a special way is affected.
    """

    name: str
    proves: str
    status: Status
    detail: str = ""
    remedy: str | None = None
    required: bool = True

    def __str__(self) -> str:
        return f"{self.name}: {self.status}" + (f": {self.detail}" if self.detail else "")


def cage(roots: Roots, entries: Sequence[Entry], place: WorkPlace, layers: Sequence[Path] = ()) -> Sandbox:
    """The sandbox of a build at `place`, which is made anew.

    entries: the twins that it has. layers: what it sees as `/`; the target root alone by default.
    """
    remove_tree(place.path)
    place.make()
    place.give_to_builder("obj")
    dispatcher = roots.dispatcher(entries, place.dispatcher, record=False)
    registrations, shown = roots.hook(dispatcher)
    root = Root(tuple(layers) or (roots.base(),), roots.natives().private, registrations, dispatcher=shown)
    return sandbox(root, place, FIXED_VARIABLES, cwd=f"{BUILD}/obj")


def examine(
    where: Sandbox,
    place: WorkPlace,
    *,
    cases: Sequence[Case] = CASES,
    source: Path = SOURCE,
    seconds: float = SECONDS,
) -> list[Examined]:
    """Run the compiler's canary, and `cases`, in `where`, which is from `cage` for `place`.

    source: of their program. seconds: how long each of `cases` may take. Raises OSError if the disk is full.
    """
    shutil.copyfile(source, place.scripts / SOURCE.name)
    examiner = _Examiner(where, seconds)
    compiled, widths = examiner.compiler()
    return [compiled, *(examiner.case(case, compiled.status, widths) for case in cases)]


class _Examiner:
    def __init__(self, where: Sandbox, seconds: float) -> None:
        self._where = where
        self._seconds = seconds

    def compiler(self) -> tuple[Examined, tuple[int, int]]:
        """Compile the program; the bits of its pointers and file offsets, if that went well."""
        compiled = self._compile("canary", COMPILER)
        if compiled.status != "passed":
            return compiled, (0, 0)
        returncode, said = self._run(("./canary", "widths"))
        match said.split():
            case [pointer, offset] if returncode == 0 and pointer.isdigit() and offset.isdigit():
                return compiled, (int(pointer), int(offset))
        return _finding(COMPILER, "failed", f"its program: {_ending(returncode, said)}"), (0, 0)

    def case(self, case: Case, compiler: Status, widths: tuple[int, int]) -> Examined:
        """Run one; compiler and widths are what `compiler` gave."""
        if case.command[0].startswith("./") and compiler != "passed":
            return _finding(case, "skipped", f"its program is missing: canary {COMPILER.name} {compiler}")
        if case.narrow:
            pointer, offset = widths
            if pointer != 32:
                return _finding(case, "skipped", f"{pointer}-bit programs have no 32-bit file offsets")
            if offset == 32:
                return _finding(case, "skipped", "all programs of this root's compiler are such: see canary readdir")
            compiled = self._compile("canary-narrow", case, *_NARROW)
            if compiled.status != "passed":
                return compiled
        # What one leaves behind must not meet the next.
        script = 'mkdir "$1"; cd "$1"; ln -s ../canary* .; shift; exec "$@"'
        words = ("sh", "-euc", script, "sh", f"of-{case.name}", *case.command)
        returncode, said = self._run(words, root=case.root, seconds=self._seconds)
        return _finding(case, "passed") if returncode == 0 else _finding(case, "failed", _ending(returncode, said))

    def _compile(self, program: str, case: Case, *flags: str) -> Examined:
        words = (*_FLAGS, *flags, "-o", program, f"{BUILD}/run/{SOURCE.name}")
        returncode, said = self._run(("sh", "-euc", _COMPILE, "sh", *words))
        if returncode == _SKIP:
            return _finding(case, "skipped", "the root has no C compiler")
        return _finding(case, "passed") if returncode == 0 else _finding(case, "failed", _ending(returncode, said))

    def _run(
        self, command: Sequence[str], *, root: bool = False, seconds: float = SECONDS
    ) -> tuple[int | None, str]:
        """As sandbox.run.capture; no returncode if it took too long: what hangs is an answer too.

        Raises OSError if the disk is full, which is no fault of what the canary tries.
        """
        where = replace(self._where, uid=0, gid=0, locked=False) if root else self._where
        with tempfile.TemporaryFile() as output:
            with started(where, command, output=output) as running:
                ended = running.child.wait(seconds)
                returncode = running.result() if ended is not None else None
            output.seek(0)
            said = output.read().decode(errors="replace")
        if returncode != 0 and os.strerror(errno.ENOSPC) in said:
            raise OSError(errno.ENOSPC, said.strip()[-_LONGEST:])
        return returncode, said


def _finding(case: Case, status: Status, detail: str = "") -> Examined:
    remedy = case.remedy if status == "failed" else None
    return Examined(case.name, case.proves, status, detail, remedy, required=not case.narrow)


def _ending(returncode: int | None, said: str) -> str:
    ending = "no end in time" if returncode is None else process.describe_exit(returncode)
    text = " ".join(said.split())[-_LONGEST:]
    return f"{text} ({ending})" if text else ending
