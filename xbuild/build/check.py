"""Whether a finished tree holds what was promised: target code only, complete, no trace of the machinery."""

from __future__ import annotations

import errno
import io
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import IO, Final, Literal

from xbuild.base import paths
from xbuild.base.walk import LONGEST_PATH, Node, Visit, kind_of, shown, walk
from xbuild.formats import deb, wheel
from xbuild.formats.debian import Tree
from xbuild.formats.elf import ARCHIVE_MAGIC, ELF_MAGIC, ElfError, ElfInfo, open_members, read_elf
from xbuild.model.toolchain import Toolchain

Rule = Literal[
    "broken", "data", "float-abi", "interpreter", "kind", "machine", "name", "needed", "private-string", "rpath", "tag",
    "unreadable",
]  # fmt: skip

FOREIGN: Final = ("broken", "float-abi", "interpreter", "machine")
"""The rules that a file can break which is no program or library for the target, but data."""

_NEVER_SEARCHED: Final = (paths.PRIVATE, paths.BUILD)
"""Where no program may look for libraries: neither directory is there on the target."""

_IN_PACKAGE: Final = ": ./"
"""Between the name of a .deb and the path of what it installs."""

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

    @property
    def installed(self) -> str:
        """The file, as a recipe's `data` names it: without the .deb that it is in."""
        return (self.file or self.path).rpartition(_IN_PACKAGE)[2]


@dataclass(frozen=True)
class Checked:
    """What was looked at. nodes: all of the tree, in the order of a walk. data: the files that are data, sorted.

    needed: the libraries that ELF files want of the root. debug: all of the tree with debug information, if there is
    one. libraries: the package that each of `needed` came from, as far as that is known.
    """

    findings: list[Finding]
    nodes: list[Node]
    data: list[str]
    needed: frozenset[str] = frozenset()
    debug: Sequence[Node] = ()
    libraries: Mapping[str, str] = field(default_factory=dict)


@dataclass
class _Examination:
    toolchain: Toolchain
    private: tuple[bytes, ...]
    # What is data, with all below it; as the paths of nodes.
    data: frozenset[bytes]
    # What says so, of members of packages too; and what of it was true of nothing yet.
    patterns: tuple[str, ...] = ()
    unmatched: set[str] = field(default_factory=set)
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
        return is_below(path, self.data)


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
    patterns `data` matches, nor for what is below it. What a .deb would install is looked at as if it lay in the tree,
    with the package's name before its path, and so is a wheel at the top, whose tag must be the target's too. No file,
    and no link's target, holds one of the texts `private`.
    What an archive cannot hold, or a system not open, and what cannot be read is a finding too. Findings are sorted.
    """
    tree = Tree((root,))
    matched = {pattern: tree.matching(pattern) for pattern in data}
    files = frozenset(os.fsencode(path) for found in matched.values() for path in found)
    examination = _Examination(toolchain, tuple(map(os.fsencode, private)), files, tuple(data))
    examination.unmatched.update(pattern for pattern, found in matched.items() if not found)
    for visit in walk(root, examination.unreadable):
        examination.nodes.append(visit.node)
        try:
            _examine(examination, visit)
        except ElfError as error:
            if not examination.is_data(visit.node.path):
                examination.found(shown(visit.node.path), "broken", error.reason)
        except OSError as error:
            examination.unreadable(visit.node.path, error)
    for pattern in sorted(examination.unmatched):
        examination.found(shown(pattern), "data", "the recipe calls it data, but it was not installed")
    needed = _needed(examination, libraries if callable(libraries) else libraries.__contains__)
    return Checked(sorted(examination.findings), examination.nodes, sorted(examination.called_data), needed)


def is_below(path: bytes, places: AbstractSet[bytes]) -> bool:
    """Whether `path` is one of `places`, or lies below one."""
    return any(folder in places for folder in _and_above(path))


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
            data = examination.is_data(node.path)
            _file(examination, stream, name, _pieces(stream.fileno()), data=data)
            if not data and name.endswith(deb.SUFFIXES):
                _package(examination, stream, name)
            # Those further down are somebody's data: of an installer, of tests.
            if not data and "/" not in name and name.endswith(wheel.SUFFIX):
                _wheel(examination, stream, name)
    elif node.kind != stat.S_IFDIR:
        examination.found(name, "kind", f"is {kind_of(node.mode)}, which cannot be part of an artifact")


def _package(examination: _Examination, stream: IO[bytes], name: str) -> None:
    """What a .deb would install, as if it lay in the tree under the package's name."""
    try:
        # The open file itself, whatever has its name by now.
        with deb.opened(Path(f"/proc/self/fd/{stream.fileno()}"), name=name) as package:
            for member in package.members:
                _member(examination, package, member, f"{PurePosixPath(name).name}{_IN_PACKAGE}{shown(member.path)}")
    except deb.DebError as error:
        examination.found(name, "broken", error.reason)


def _member(examination: _Examination, package: deb.Deb, member: deb.Member, label: str) -> None:
    if member.kind == "link":
        target = os.fsencode(member.target)
        examination.links[label] = PurePosixPath(shown(target)).name
        _private(examination, label, 0, target, set())
    if member.kind != "file":
        return
    data = _called_data(examination, member.path)
    with package.open(member.path) as contents:
        try:
            _file(examination, contents, label, _read(contents), data=data)
        except ElfError as error:
            examination.found(label, "broken", error.reason)


def _wheel(examination: _Examination, stream: IO[bytes], name: str) -> None:
    """What a wheel would install, likewise; and whether its tag is true of that."""
    before = len(examination.elfs)
    try:
        tags = wheel.name_of(name)
        with wheel.opened(Path(f"/proc/self/fd/{stream.fileno()}"), label=name) as opened:
            for path in opened.paths():
                label, data = f"{name}{_IN_PACKAGE}{shown(path)}", _called_data(examination, path)
                contents = io.BytesIO(opened.read(path))
                try:
                    _file(examination, contents, label, _read(contents), data=data)
                except ElfError as error:
                    examination.found(label, "broken", error.reason)
    except wheel.WheelError as error:
        examination.found(name, "broken", error.reason)
        return
    machine = examination.toolchain.uname_machine
    if tags.kind == "pure" and len(examination.elfs) > before:
        examination.found(name, "tag", "its tag says that it is for any machine, and it holds machine code")
    for tag in tags.platforms:
        if wheel.wrong_platform(tag, machine):
            examination.found(name, "tag", f"its tag {tag} is not for {machine}")


def _called_data(examination: _Examination, path: str) -> bool:
    """Whether a member of a package or wheel is data."""
    places = [os.fsdecode(place).split("/") for place in _and_above(os.fsencode(path))]
    matched = [text for text in examination.patterns if any(_fits(place, text.split("/")) for place in places)]
    examination.unmatched.difference_update(matched)
    return bool(matched)


def _fits(parts: Sequence[str], words: Sequence[str]) -> bool:
    """Whether a path matches a pattern, as `Tree.matching` has them."""
    if not words or not parts:
        return not parts and all(word == "**" for word in words)
    if words[0] == "**":
        return _fits(parts, words[1:]) or _fits(parts[1:], words)
    return fnmatchcase(parts[0], words[0]) and _fits(parts[1:], words[1:])


def _read(stream: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """As `_pieces`, of what need not be a file of its own."""
    at = 0
    while more := stream.read(_CHUNK):
        yield at, more
        at += len(more)
    stream.seek(0)


def _file(
    examination: _Examination, stream: IO[bytes], name: str, pieces: Iterable[tuple[int, bytes]], *, data: bool
) -> None:
    _search(examination, pieces, name)
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


def _search(examination: _Examination, pieces: Iterable[tuple[int, bytes]], name: str) -> None:
    """Look for private texts in the pieces of a file, whatever its length."""
    seen: set[bytes] = set()
    # What a message shows of a text, and a text itself, may begin in one piece and end in the next.
    overlap = max(_SHOWN_BYTES, *map(len, examination.private))
    piece, end = b"", 0
    for at, more in pieces:
        piece = (piece[-overlap:] if at == end else b"") + more
        end = at + len(more)
        _private(examination, name, end - len(piece), piece, seen)


def _pieces(file: int) -> Iterator[tuple[int, bytes]]:
    """What an open file holds, but for holes: each piece with its place."""
    for start, end in _extents(file):
        at = start
        while at < end and (more := os.pread(file, min(_CHUNK, end - at), at)):
            yield at, more
            at += len(more)


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


def _needed(examination: _Examination, in_root: Callable[[str], bool]) -> frozenset[str]:
    """Find libraries that are nowhere; give those of the root."""
    wanted = examination.toolchain.elf
    elfs = {path: info for path, info in examination.elfs.items() if info.machine == wanted.machine}
    # The loader goes by file names; by sonames too, since ldconfig makes the links for them.
    own = {PurePosixPath(path).name for path, info in elfs.items() if info.e_type == "DYN"}
    own.update(info.soname for info in elfs.values() if info.soname)
    links = [(PurePosixPath(path).name, target) for path, target in examination.links.items()]
    while more := {name for name, target in links if target in own} - own:
        own |= more
    outside = {library for info in elfs.values() for library in info.needed if library not in own}
    there = frozenset(library for library in outside if in_root(library))
    for path, info in elfs.items():
        for library in info.needed:
            if library in outside - there:
                examination.found(path, "needed", f"needs {library}, which is neither built nor in the root")
    return there
