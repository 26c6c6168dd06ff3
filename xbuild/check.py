"""Whether a finished tree holds what was promised: target code only, complete, no trace of the machinery."""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final, Literal

from xbuild import paths
from xbuild.elf import ARCHIVE_MAGIC, ELF_MAGIC, ElfError, ElfInfo, archive_members, read_elf
from xbuild.model.toolchain import Toolchain

Rule = Literal[
    "broken", "float-abi", "interpreter", "machine", "needed", "private-string", "rpath", "unreadable"
]

_NEVER_SEARCHED: Final = (paths.PRIVATE, paths.BUILD)
"""Where no program may look for libraries: neither directory is there on the target."""

_SHOWN_BYTES: Final = 60
"""How much of a private text a message shows."""


@dataclass(frozen=True, order=True)
class Finding:
    """One broken promise.

    path: relative to the tree; `lib/libz.a(inflate.o)` for a member of an archive. message: one line.
    """

    path: str
    rule: Rule
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


@dataclass
class _Examination:
    toolchain: Toolchain
    private: tuple[bytes, ...]
    findings: list[Finding] = field(default_factory=list)
    # Files and links by their shown path; members of archives are neither libraries nor do they name any.
    elfs: dict[str, ElfInfo] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)

    def found(self, path: str, rule: Rule, message: str) -> None:
        self.findings.append(Finding(path, rule, message))


def check_tree(
    root: Path,
    toolchain: Toolchain,
    libraries: Callable[[str], bool] | AbstractSet[str],
    private: Sequence[str] = (paths.PRIVATE,),
) -> list[Finding]:
    """Examine all files below `root`, the tree that a build installed; no finding means that all is well.

    ELF files, also objects and members of archives, must have the toolchain's machine, class, byte order and
    float ABI, its interpreter if any, and no RPATH or RUNPATH into `/build` or `/.xbuild`. What they need
    must be in the tree or among `libraries`, the sonames in the target root. No file, and no link's target,
    holds one of the texts `private`. What cannot be read is a finding too. The result is sorted.
    """
    examination = _Examination(toolchain, tuple(os.fsencode(text) for text in private))
    for path, shown in _walk(examination, root, ""):
        try:
            _file(examination, path, shown)
        except ElfError as error:
            examination.found(shown, "broken", error.reason)
        except OSError as error:
            examination.found(shown, "unreadable", f"cannot be checked: {error.strerror}")
    _needed(examination, libraries if callable(libraries) else libraries.__contains__)
    return sorted(examination.findings)


def _walk(examination: _Examination, directory: Path, shown: str) -> Iterator[tuple[Path, str]]:
    # Not Path.walk or os.walk: they leave out unreadable directories without a word.
    try:
        entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
    except OSError as error:
        examination.found(shown.rstrip("/") or ".", "unreadable", f"cannot be checked: {error.strerror}")
        return
    for entry in entries:
        name = shown + os.fsencode(entry.name).decode(errors="backslashreplace")
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(examination, Path(entry.path), name + "/")
        elif entry.is_symlink() or entry.is_file(follow_symlinks=False):
            yield Path(entry.path), name


def _file(examination: _Examination, path: Path, shown: str) -> None:
    if path.is_symlink():
        target = path.readlink()
        examination.links[shown] = target.name
        _private(examination, os.fsencode(target), shown)
        return
    # An empty file cannot be mapped.
    if path.stat().st_size == 0:
        return
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as contents:
        _private(examination, contents, shown)
        if contents[: len(ELF_MAGIC)] == ELF_MAGIC:
            info = examination.elfs[shown] = read_elf(path)
            _elf(examination, info, shown)
        elif contents[: len(ARCHIVE_MAGIC)] == ARCHIVE_MAGIC:
            _archive(examination, contents, shown)


def _archive(examination: _Examination, contents: mmap.mmap, shown: str) -> None:
    for name, member in archive_members(contents, shown):
        if member.startswith(ELF_MAGIC):
            label = f"{shown}({name})"
            try:
                _elf(examination, read_elf(member), label)
            except ElfError as error:
                examination.found(label, "broken", error.reason)


def _private(examination: _Examination, contents: bytes | mmap.mmap, shown: str) -> None:
    for text in examination.private:
        at = contents.find(text)
        if at >= 0:
            seen = re.split(rb"[\0\n]", contents[at : at + _SHOWN_BYTES])[0].decode(errors="backslashreplace")
            examination.found(
                shown, "private-string", f"holds, at byte {at}, a path of the build's own: {seen!r}"
            )


def _elf(examination: _Examination, info: ElfInfo, shown: str) -> None:
    wanted, name = examination.toolchain.elf, examination.toolchain.name
    for kind, directories in (("RPATH", info.rpath), ("RUNPATH", info.runpath)):
        for directory in directories:
            if any(directory == never or directory.startswith(never + "/") for never in _NEVER_SEARCHED):
                examination.found(shown, "rpath", f"{kind} holds {directory}, which is not on the target")
    right = _kind(wanted.machine, wanted.elf_class, wanted.data)
    if (found := _kind(info.machine, info.elf_class, info.data)) != right:
        examination.found(shown, "machine", f"is code for {found}, not for {name}: {right}")
        # What is said below would be true, but no help.
        return
    if info.float_abi and wanted.float_abi and info.float_abi != wanted.float_abi:
        message = f"has the {info.float_abi}-float ABI, not {name}'s {wanted.float_abi}-float ABI"
        examination.found(shown, "float-abi", message)
    if info.interpreter and info.interpreter != wanted.interpreter:
        examination.found(shown, "interpreter", f"asks for {info.interpreter}, not for {wanted.interpreter}")


def _kind(machine: str, elf_class: int, data: str) -> str:
    return f"{machine}, {elf_class} bit, {data}-endian"


def _needed(examination: _Examination, in_root: Callable[[str], bool]) -> None:
    wanted = examination.toolchain.elf
    elfs = {shown: info for shown, info in examination.elfs.items() if info.machine == wanted.machine}
    # The loader goes by file names; by sonames too, since ldconfig makes the links for them.
    own = {PurePosixPath(shown).name for shown, info in elfs.items() if info.e_type == "DYN"}
    own.update(info.soname for info in elfs.values() if info.soname)
    links = [(PurePosixPath(shown).name, target) for shown, target in examination.links.items()]
    while more := {name for name, target in links if target in own} - own:
        own |= more
    for shown, info in elfs.items():
        for library in info.needed:
            if library not in own and not in_root(library):
                examination.found(shown, "needed", f"needs {library}, which is neither built nor in the root")
