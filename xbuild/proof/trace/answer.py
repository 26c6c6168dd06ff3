"""How one program would run in a recipe's root, and why: for `why --exec`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from xbuild.base.errors import UsageError
from xbuild.base.yamlfile import did_you_mean
from xbuild.dispatcher.table import Entry
from xbuild.formats.elf import ElfError, is_elf, read_elf
from xbuild.model.toolchain import Toolchain
from xbuild.proof.trace.account import is_made
from xbuild.proof.trace.explain import Explanation, Surroundings, Why, explain
from xbuild.twins.pairing import Twin

_FIRST_LINE = 256
"""Bytes of a script that the kernel looks at for its interpreter (include/uapi/linux/binfmts.h, BINPRM_BUF_SIZE)."""
_DEEPEST = 4
"""Scripts that the kernel follows as interpreters of one another (fs/exec.c, exec_binprm)."""


@dataclass(frozen=True)
class Answer:
    """How the program `asked` runs. path: its real path. package: its package with the version.

    twin, entry: what runs instead, and by which rules; loads_modules: it may begin again emulated. next: of a script,
    its interpreter, and what that starts (env).
    """

    asked: str
    path: str | None
    package: str | None
    explanation: Explanation
    twin: Twin | None = None
    entry: Entry | None = None
    loads_modules: bool = False
    next: tuple[Answer, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """For --json."""
        twin, entry = self.twin, self.entry
        program = twin and {
            "path": twin.program,
            "architecture": twin.architecture,
            "package": f"{twin.package} {twin.version}",
            "tool": twin.tool,
        }
        return {
            "asked": self.asked,
            "path": self.path,
            "package": self.package,
            "native": twin is not None,
            "why": self.explanation.why,
            "reason": self.explanation.reason,
            "remedy": self.explanation.remedy,
            "twin": program,
            "other_twin": entry.other if entry else None,
            "loads_modules": self.loads_modules,
            "rules": entry.rules.model_dump(mode="json", exclude_defaults=True) if entry else {},
            "next": [answer.as_json() for answer in self.next],
        }

    def lines(self) -> Iterator[str]:
        """For people."""
        is_real = f" is {self.path}" if self.path and self.path != self.asked else ""
        yield f"{self.asked}{is_real}" + (f", of {self.package}" if self.package else "")
        if self.twin and self.entry:
            twin, entry = self.twin, self.entry
            yield f"  native: {twin.program}, of {twin.package} {twin.version} ({twin.architecture}, tool {twin.tool})"
            if entry.other:
                yield f"  with one of the arguments {' '.join(entry.rules.target_width_args)}: {entry.other}"
            yield from (f"  {line}" for line in entry.rules.told())
            if self.loads_modules:
                yield "  begins again emulated where it asks for a library that is only there for the target"
        else:
            word = "" if self.explanation.why in (Why.SCRIPT, Why.NOT_THERE, Why.NO_PROGRAM) else "emulated: "
            yield f"  {word}{self.explanation.reason}"
        if self.explanation.remedy:
            yield f"  hint: {self.explanation.remedy}"
        for answer in self.next:
            yield from answer.lines()


def answer(asked: str, around: Surroundings, search: Sequence[str]) -> Answer:
    """How the program `asked` runs: a path in the root, or a name that is looked for in the directories `search`.

    Raises UsageError for a relative path.
    """
    return _answer(asked, around, search, 0)


def _answer(asked: str, around: Surroundings, search: Sequence[str], depth: int) -> Answer:
    if "/" in asked and not asked.startswith("/"):
        raise UsageError(f"{asked!r} is a relative path", hint="name a program by its absolute path, or by its name")
    if is_made(asked):
        text = "what a build makes is emulated; of a script, the interpreter is what counts"
        return Answer(asked, None, None, Explanation(Why.MADE, text))
    tree = around.tree
    places = [asked] if "/" in asked else [f"{folder}/{asked}" for folder in search]
    real = next((real for place in places if (real := tree.real_path(place))), None)
    place = tree.find(real) if real else None
    if real is None or place is None:
        names = {PurePosixPath(path).name for path in tree.owners if "bin/" in path}
        suggestion = did_you_mean(PurePosixPath(asked).name, names)
        text = f"there is no such file in the root of this recipe{suggestion}"
        hint = "which package has it is not known here; depends.packages of the recipe brings packages into the root"
        return Answer(asked, None, None, Explanation(Why.NOT_THERE, text, hint))
    owner = tree.packages.get(around.package_of(real) or "")
    found = Answer(asked, real, f"{owner.name} {owner.version}" if owner else None, explain(real, around))
    try:
        words = interpreter(place)
        fault = None if words else fault_of(place, around.toolchain)
    except OSError as error:
        words, fault = (), f"it cannot be read: {error.strerror}"
    if words:
        following = [word for word in started(words) if depth < _DEEPEST]
        answers = tuple(_answer(word, around, search, depth + 1) for word in following if not is_relative(word))
        text = f"a script, so its interpreter is what runs: {' '.join(words)}"
        return replace(found, explanation=Explanation(Why.SCRIPT, text), next=answers)
    if fault:
        return replace(found, explanation=Explanation(Why.NO_PROGRAM, fault))
    if found.explanation.why is Why.TWIN:
        twin, entry = around.entries[real]
        return replace(found, twin=twin, entry=entry, loads_modules=around.policy.tools[twin.tool].loads_modules)
    return found


def is_relative(path: str) -> bool:
    """Is it a path that depends on the working directory?"""
    return "/" in path and not path.startswith("/")


def interpreter(place: Path) -> tuple[str, ...]:
    """The interpreter that the script at `place` names, and its argument if it gives one; () of what is no script.

    Raises OSError if the file cannot be read.
    """
    if not place.is_file() or not place.stat().st_mode & 0o111:
        return ()
    with place.open("rb") as stream:
        start = stream.read(_FIRST_LINE)
    if not start.startswith(b"#!"):
        return ()
    # The kernel takes all that follows the first space as one argument (execve(2), "Interpreter scripts").
    return tuple(start[2:].partition(b"\n")[0].decode(errors="replace").strip().split(None, 1))


def started(words: Sequence[str]) -> list[str]:
    """What runs for a script that begins with `#!` and `words`: the interpreter; of env also the program it starts."""
    if PurePosixPath(words[0]).name != "env":
        return [words[0]]
    rest = " ".join(words[1:]).split()
    return [words[0], *[word for word in rest if not word.startswith("-") and "=" not in word][:1]]


def fault_of(place: Path, toolchain: Toolchain) -> str | None:
    """Why the file at `place`, which is no script, is no program of the target; None if it is one.

    Raises OSError if the file cannot be read.
    """
    if place.is_dir():
        return "it is a directory"
    if not place.stat().st_mode & 0o111:
        return "it is not executable"
    if not is_elf(place):
        return "it is neither an ELF file nor a script with a `#!` line: the kernel refuses it, a shell may read it"
    try:
        info = read_elf(place)
    except ElfError as error:
        return str(error)
    if (info.machine, info.elf_class) != (toolchain.elf.machine, toolchain.elf.elf_class):
        return f"it is {info.machine}, {info.elf_class} bits: no program of the target, so it is none of xbuild's"
    return None
