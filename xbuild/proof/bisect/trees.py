"""What a build's tree holds, as digests, so that trees can be compared long after they are gone."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from xbuild.base.errors import MachineError
from xbuild.sandbox.run import machine_view, run

# What a build's users own can only be read from inside. /build/run holds the phases' scripts: they are ours.
_LIST = r"""cd -- "$1"; find . -mindepth 1 -path ./run -prune -o -printf '%P\0%y %m %l\0'"""
_SUMS = r"""cd -- "$1"; find . -path ./run -prune -o -type f -print0 | xargs -0r sha256sum -z --"""
_KINDS = {"f": "a file", "d": "a directory", "l": "a link"}


@dataclass(frozen=True)
class Item:
    """One name of a tree. kind: as find's %y. mode: octal digits. content: sha256 of a file, or a link's target."""

    kind: str
    mode: str
    content: str


Tree = Mapping[str, Item]
"""Items by path below /build. Owners and times are left out: they are the same, and never the same."""


@dataclass(frozen=True)
class Change:
    """How a name of one tree differs in another. None: it is not there."""

    right: Item | None
    wrong: Item | None

    @property
    def lonely(self) -> bool:
        """Whether only one tree has the name."""
        return self.right is None or self.wrong is None

    def __str__(self) -> str:
        """In a few words, about the wrong one."""
        if self.right is None or self.wrong is None:
            return "should not be there" if self.right is None else "is missing"
        if self.right.kind != self.wrong.kind:
            return f"is {_kind(self.wrong)}, not {_kind(self.right)}"
        words = [f"mode {self.wrong.mode}, not {self.right.mode}"] if self.right.mode != self.wrong.mode else []
        if self.right.content != self.wrong.content:
            link = f"leads to {self.wrong.content}, not {self.right.content}"
            words.append("other contents" if self.right.kind == "f" else link)
        return "; ".join(words)


Changes = Mapping[str, Change]
"""By path below /build."""


def _kind(item: Item) -> str:
    return _KINDS.get(item.kind, "something else")


@dataclass
class Noise:
    """What differs between two runs of the same, so that it tells nothing about the difference between two modes.

    paths: they have another content each time. families: directory and ending of names that are there in one run only,
    as temporary files have.
    """

    paths: set[str] = field(default_factory=set)
    families: set[tuple[str, str]] = field(default_factory=set)

    def learn(self, found: Changes) -> None:
        """Take in all that differs between two trees of the same."""
        self.paths |= set(found)
        self.families |= {_family(path) for path, change in found.items() if change.lonely}

    def without(self, found: Changes) -> dict[str, Change]:
        """`found` without what is noise."""
        return {path: change for path, change in found.items() if not self._covers(path, change)}

    def _covers(self, path: str, change: Change) -> bool:
        return path in self.paths or (change.lonely and _family(path) in self.families)


def changes(right: Tree, wrong: Tree) -> dict[str, Change]:
    """What differs between two trees, in the order of the paths."""
    every = sorted({*right, *wrong})
    return {path: Change(right.get(path), wrong.get(path)) for path in every if right.get(path) != wrong.get(path)}


def _family(path: str) -> tuple[str, str]:
    place = PurePosixPath(path)
    return str(place.parent), place.suffix


def read(directory: Path) -> dict[str, Item]:
    """The tree below `directory`, as a build left it. Raises MachineError if it cannot be read."""
    words = _fields(_LIST, directory)
    found = {}
    for path, facts in zip(words[::2], words[1::2], strict=True):
        kind, mode, target = facts.split(" ", 2)
        found[path] = Item(kind, mode, target)
    for line in _fields(_SUMS, directory):
        sum_, _, path = line.partition("  ./")
        found[path] = Item("f", found[path].mode, sum_)
    return found


def _fields(script: str, directory: Path) -> list[str]:
    with tempfile.TemporaryFile() as output:
        returncode = run(machine_view(), ["sh", "-euc", script, "sh", directory], output=output, check=False)
        output.seek(0)
        text = os.fsdecode(output.read())
    if returncode != 0:
        raise MachineError(f"cannot read {directory}", details=text[-2000:].splitlines())
    return text.removesuffix("\0").split("\0") if text else []


def copy(source: Path, destination: Path) -> None:
    """Copy the directory `source` to `destination`, which must not be there, with owners, modes and times.

    The directory above `destination` must belong to root inside. Blocks are shared where the file system can do that.
    """
    run(machine_view(), ["cp", "-a", "--reflink=auto", "--", source, destination])


def printable(text: str) -> str:
    """`text`, in which a path may have any bytes, as any terminal and JSON can take it."""
    return os.fsencode(text).decode(errors="replace")
