"""Whether a finished tree holds what was promised: target code only, complete, no trace of the machinery."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Final, Literal

from xbuild.base import paths
from xbuild.base.walk import LONGEST_PATH, Node, Visit, kind_of, shown, walk
from xbuild.formats.debian import Tree
from xbuild.formats.elf import ARCHIVE_MAGIC, ELF_MAGIC, ElfError, ElfInfo, open_members, read_elf
from xbuild.model.toolchain import Toolchain

Rule = Literal[
    "broken", "data", "float-abi", "interpreter", "kind", "machine", "name", "needed", "private-string", "rpath",
    "unreadable",
]  # fmt: skip

FOREIGN: Final = ("broken", "float-abi", "interpreter", "machine")
"""The rules that a file can break which is no program or library for the target, but data."""

_NEVER_SEARCHED: Final = (paths.PRIVATE, paths.BUILD)
"""Where no program may look for libraries: neither directory is there on the target."""

_SHOWN_BYTES: Final = 60
"""How much of a private text a message shows."""

_CHUNK: Final = 1 << 20


@dataclass(frozen=True, order=True)
class Finding:
    """One broken promise.

    path: relative to the tree; `lib/libz.a(inflate.o)` for a member of an archive. message: one line. file: a member's
    archive, else "".
    """

    path: str
    rule: Rule
    message: str
    file: str = ""

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


@dataclass(frozen=True)
class Checked:
    """What was looked at. nodes: all of the tree, in the order of a walk. data: the files that are data, sorted."""

    findings: list[Finding]
    nodes: list[Node]
    data: list[str]


@dataclass
class _Examination:
    toolchain: Toolchain
    private: tuple[bytes, ...]
    # What is data, with all below it; as the paths of nodes.
    data: frozenset[bytes]
    findings: list[Finding] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    called_data: list[str] = field(default_factory=list)
    # Files and links by their shown path; members of archives are neither libraries nor do they name any.
    elfs: dict[str, ElfInfo] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)

    def found(self, path: str, rule: Rule, message: str, file: str = "") -> None:
        self.findings.append(Finding(path, rule, shown(message), file))

    def unreadable(self, path: bytes, error: OSError) -> None:
        self.found(shown(path), "unreadable", f"cannot be checked: {error.strerror}")

    def is_data(self, path: bytes) -> bool:
        return any(folder in self.data for folder in _and_above(path))


def check_tree(
    root: Path,
    toolchain: Toolchain,
    libraries: Callable[[str], bool] | AbstractSet[str],
    private: Sequence[str] = (paths.PRIVATE,),
    data: Sequence[str] = (),
) -> Checked:
    """Examine all below `root`, the tree that a build installed; no finding means that all is well.

    ELF files, also objects and members of archives, must have the toolchain's machine, class, byte order and
    float ABI, its interpreter if any, and no RPATH or RUNPATH into `/build` or `/.xbuild`. What they need
    must be in the tree or among `libraries`, the sonames in the target root. That does not hold for what one of the
    patterns `data` matches, nor for what is below it. No file, and no link's target, holds one of the texts `private`.
    What an archive cannot hold, or a system not open, and what cannot be read is a finding too. Findings are sorted.
    """
    tree = Tree((root,))
    matched = {pattern: tree.matching(pattern) for pattern in data}
    files = frozenset(os.fsencode(path) for found in matched.values() for path in found)
    examination = _Examination(toolchain, tuple(map(os.fsencode, private)), files)
    for pattern in (pattern for pattern, found in matched.items() if not found):
        examination.found(shown(pattern), "data", "the recipe calls it data, but it was not installed")
    for visit in walk(root, examination.unreadable):
        examination.nodes.append(visit.node)
        try:
            _examine(examination, visit)
        except ElfError as error:
            if not examination.is_data(visit.node.path):
                examination.found(shown(visit.node.path), "broken", error.reason)
        except OSError as error:
            examination.unreadable(visit.node.path, error)
    _needed(examination, libraries if callable(libraries) else libraries.__contains__)
    return Checked(sorted(examination.findings), examination.nodes, sorted(examination.called_data))


def _and_above(path: bytes) -> Iterator[bytes]:
    while path:
        yield path
        path = path.rpartition(b"/")[0]


def _examine(examination: _Examination, visit: Visit) -> None:
    node, name = visit.node, shown(visit.node.path)
    # An artifact is unpacked to `/`.
    if len(node.path) + 1 > LONGEST_PATH:
        examination.found(name, "name", f"a path of {len(node.path)} bytes, which nothing can open by its name")
    if node.kind == stat.S_IFLNK:
        examination.links[name] = PurePosixPath(shown(node.target)).name
        _private(examination, name, 0, node.target, set())
    elif node.kind == stat.S_IFREG:
        with visit.open() as stream:
            _file(examination, stream, name, data=examination.is_data(node.path))
    elif node.kind != stat.S_IFDIR:
        examination.found(name, "kind", f"is {kind_of(node.mode)}, which cannot be part of an artifact")


def _file(examination: _Examination, stream: IO[bytes], name: str, *, data: bool) -> None:
    _search(examination, stream.fileno(), name)
    start = stream.read(len(ARCHIVE_MAGIC))
    if data:
        examination.called_data.append(name)
    elif start.startswith(ELF_MAGIC):
        info = examination.elfs[name] = read_elf(stream)
        _elf(examination, info, name)
    elif start == ARCHIVE_MAGIC:
        _archive(examination, stream, name)


def _archive(examination: _Examination, stream: IO[bytes], name: str) -> None:
    for member, contents in open_members(stream, name):
        if contents.read(len(ELF_MAGIC)) == ELF_MAGIC:
            label = shown(f"{name}({member})")
            try:
                _elf(examination, read_elf(contents), label, name)
            except ElfError as error:
                examination.found(label, "broken", error.reason, name)


def _search(examination: _Examination, file: int, name: str) -> None:
    """Look for private texts in an open file, whatever its length: in pieces, and not in holes."""
    seen: set[bytes] = set()
    # What a message shows of a text, and a text itself, may begin in one piece and end in the next.
    overlap = max(_SHOWN_BYTES, *map(len, examination.private))
    for at, end in _extents(file):
        piece = b""
        while at < end and (more := os.pread(file, min(_CHUNK, end - at), at)):
            piece = piece[-overlap:] + more
            at += len(more)
            _private(examination, name, at - len(piece), piece, seen)


def _extents(file: int) -> Iterator[tuple[int, int]]:
    """Where an open file has data, as start and end; all else is holes (lseek(2)). It is left at its beginning."""
    start, end = 0, os.fstat(file).st_size
    try:
        while start < end:
            start = os.lseek(file, start, os.SEEK_DATA)
            stop = os.lseek(file, start, os.SEEK_HOLE)
            yield start, stop
            start = stop
    except OSError as error:
        # Nothing but a hole is left.
        if error.errno != errno.ENXIO:
            raise
    finally:
        os.lseek(file, 0, os.SEEK_SET)


def _private(examination: _Examination, name: str, offset: int, contents: bytes, seen: set[bytes]) -> None:
    """Note each private text once. offset: of `contents` in the file. seen: those that were noted."""
    for text in examination.private:
        at = contents.find(text)
        if at >= 0 and text not in seen:
            seen.add(text)
            told = re.split(rb"[\0\n]", contents[at : at + _SHOWN_BYTES])[0].decode(errors="backslashreplace")
            message = f"holds, at byte {offset + at}, a path of the build's own: {told!r}"
            examination.found(name, "private-string", message)


def _elf(examination: _Examination, info: ElfInfo, name: str, archive: str = "") -> None:
    wanted, target = examination.toolchain.elf, examination.toolchain.name
    for kind, directories in (("RPATH", info.rpath), ("RUNPATH", info.runpath)):
        for directory in directories:
            if any(directory == never or directory.startswith(never + "/") for never in _NEVER_SEARCHED):
                examination.found(name, "rpath", f"{kind} holds {directory}, which is not on the target", archive)
    right = _kind(wanted.machine, wanted.elf_class, wanted.data)
    if (found := _kind(info.machine, info.elf_class, info.data)) != right:
        examination.found(name, "machine", f"is code for {found}, not for {target}: {right}", archive)
        # What is said below would be true, but no help.
        return
    if info.float_abi and wanted.float_abi and info.float_abi != wanted.float_abi:
        message = f"has the {info.float_abi}-float ABI, not {target}'s {wanted.float_abi}-float ABI"
        examination.found(name, "float-abi", message, archive)
    if info.interpreter and info.interpreter != wanted.interpreter:
        examination.found(name, "interpreter", f"asks for {info.interpreter}, not for {wanted.interpreter}", archive)


def _kind(machine: str, elf_class: int, data: str) -> str:
    return f"{machine}, {elf_class} bit, {data}-endian"


def _needed(examination: _Examination, in_root: Callable[[str], bool]) -> None:
    wanted = examination.toolchain.elf
    elfs = {path: info for path, info in examination.elfs.items() if info.machine == wanted.machine}
    # The loader goes by file names; by sonames too, since ldconfig makes the links for them.
    own = {PurePosixPath(path).name for path, info in elfs.items() if info.e_type == "DYN"}
    own.update(info.soname for info in elfs.values() if info.soname)
    links = [(PurePosixPath(path).name, target) for path, target in examination.links.items()]
    while more := {name for name, target in links if target in own} - own:
        own |= more
    for path, info in elfs.items():
        for library in info.needed:
            if library not in own and not in_root(library):
                examination.found(path, "needed", f"needs {library}, which is neither built nor in the root")
