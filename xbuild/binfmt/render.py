"""Writes an entry in every form that something reads, and says why its flags are as they are."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xbuild.base.errors import UsageError
from xbuild.binfmt import architectures
from xbuild.binfmt.entry import Entry, check, escaped, explained_flags, register_line
from xbuild.formats.elf import ElfError, read_elf

DEFAULT_FLAGS = "FPO"
"""F and P as every distribution's; O so that programs run that may not be read. Not C: see `Rendered.explanation`."""

NOT_SET = {
    "F": "the interpreter is looked up, by its path, in the root of whoever starts a program",
    "P": "a program is told its path in the place of argv[0]; programs that act by their name (busybox) still see that",
    "O": "a program of mode 0111 does not run, since the interpreter cannot read it",
    "C": "setuid programs (sudo, su, ping) get no rights; with C every user could run the interpreter as root by them",
}


@dataclass(frozen=True)
class Rendered:
    """One entry in all forms. notes: what a user should know."""

    entry: Entry
    notes: tuple[str, ...]

    @property
    def register(self) -> str:
        """What is written to /proc/sys/fs/binfmt_misc/register."""
        return register_line(self.entry)

    @property
    def binfmt_d(self) -> str:
        """A file for /etc/binfmt.d, which systemd-binfmt reads at boot."""
        taken = self.entry.architecture or self.entry.name
        return f"# {taken}: written by xbuild (binfmt.d(5))\n{self.register}\n"

    @property
    def binfmt_support(self) -> str:
        """A file for `update-binfmts --import`, of the package binfmt-support. It knows no flag O alone."""
        entry = self.entry
        lines = ["package xbuild", f"interpreter {entry.interpreter}"]
        if entry.kind == "E":
            lines.append(f"extension {entry.extension}")
        else:
            lines += [f"magic {escaped(entry.magic)}", f"offset {entry.offset}", f"mask {escaped(entry.mask)}"]
        for key, flag in (("credentials", "C"), ("preserve", "P"), ("fix_binary", "F")):
            lines.append(f"{key} {'yes' if flag in entry.flags else 'no'}")
        return "".join(line + "\n" for line in lines)

    @property
    def explanation(self) -> list[str]:
        """One line for each flag."""
        said = [f"{flag}: {text}" for flag, text in explained_flags(self.entry.flags)]
        return said + [f"no {flag}: {text}" for flag, text in NOT_SET.items() if flag not in self.entry.flags]

    def as_json(self) -> dict[str, Any]:
        """Everything."""
        return {
            **self.entry.as_json(),
            "magic_escaped": escaped(self.entry.magic),
            "mask_escaped": escaped(self.entry.mask),
            "register": self.register,
            "binfmt.d": self.binfmt_d,
            "binfmt-support": self.binfmt_support,
            "explanation": self.explanation,
            "notes": list(self.notes),
        }


def render(entry: Entry) -> Rendered:
    """`entry` in all forms. Raises UsageError for one that the kernel refuses, MachineError for such a path."""
    try:
        check(entry)
    except ValueError as error:
        raise UsageError(str(error)) from error
    register_line(entry)
    return Rendered(entry, tuple(entry_notes(entry)))


def for_architecture(word: str, *, name: str = "", interpreter: str = "", flags: str | None = None) -> Entry:
    """The entry for an architecture, as QEMU or the distribution call it.

    name: of the entry, qemu-ARCH by default. interpreter: by default the machine's own qemu-ARCH. Raises UsageError.
    """
    found, facts = architectures.find(word)
    magic, mask = architectures.compared(facts)
    chosen = DEFAULT_FLAGS if flags is None else flags
    return Entry(
        name or f"qemu-{found}", "M", interpreter or default_interpreter(found), chosen, magic=magic, mask=mask
    )


def default_interpreter(architecture: str, folders: Sequence[Path] = (Path("/usr/bin"), Path("/usr/local/bin"))) -> str:
    """The static qemu for it in `folders`, else any qemu there, else what the first static one would be called."""
    found = [folder / f"qemu-{architecture}{end}" for folder in folders for end in ("-static", "")]
    there = [path for path in found if path.exists()]
    fit = [path for path in there if is_static(path)]
    return str(next(iter([*fit, *there, folders[0] / f"qemu-{architecture}-static"])))


def is_static(path: Path) -> bool | None:
    """Whether the program needs no libraries; None if that cannot be told."""
    with contextlib.suppress(OSError, ElfError):
        return read_elf(path).interpreter is None
    return None


def entry_notes(entry: Entry) -> list[str]:
    """What a user should know about it."""
    notes = []
    facts = architectures.known().get(entry.architecture or "")
    if facts is not None and facts.note:
        notes.append(facts.note)
    interpreter = Path(entry.interpreter)
    if not interpreter.is_absolute():
        notes.append("a path that is not absolute is looked up from the working directory of whoever starts a program")
    elif not interpreter.exists():
        text = f"{interpreter} is not there"
        notes.append(text + ("; with F the kernel refuses the entry" if "F" in entry.flags else ""))
    elif "F" in entry.flags and is_static(interpreter) is False:
        notes.append(f"{interpreter} is dynamic: in a chroot its libraries are missing, which F does not help")
    if interpreter.name.endswith("-binfmt-P") and "P" not in entry.flags:
        notes.append("an interpreter called ...-binfmt-P takes a second word for argv[0]: it needs the flag P")
    if "C" in entry.flags:
        notes.append("with C a fault of the interpreter is a fault of every setuid program")
    if entry.kind == "M" and entry.offset == 0 and entry.magic.startswith(b"\x7fELF"):
        if entry.mask[7:8] == b"\xff":
            notes.append("byte 7 (OSABI) is compared: static programs of glibc, which say 3 there, are not taken")
        if any(entry.mask[8:11]):
            notes.append("the bytes 8 to 10 are compared: AppImages, which say `AI` there, are not taken")
    return notes
