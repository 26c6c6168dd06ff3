"""Reads the package database of a Debian tree that need not be runnable, across the layers it is spread over."""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import hashlib
import os
import re
import stat
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from xbuild.base.errors import MachineError
from xbuild.base.walk import open_file

_MERGED = ("/bin/", "/sbin/", "/lib/")
_INFO = "/var/lib/dpkg/info"
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
_MOST_LINKS = 40
"""How many links the kernel follows in one path (path_resolution(7))."""


Place = tuple[str, int]
"""Where something lies outside, and its mode."""


@dataclass(frozen=True)
class Package:
    """An installed package. source: `name=version` of the sources it was built from."""

    name: str
    version: str
    architecture: str
    source: str


class Tree:
    """A Debian tree in one or more layers, topmost first, each a directory outside."""

    def __init__(self, layers: Sequence[Path]) -> None:
        self.layers = tuple(layers)

    def find(self, path: str) -> Path | None:
        """The file outside that `path` (absolute, in the tree, no links on the way) is; None if there is none."""
        place = self._top(path)
        return Path(place[0]) if place else None

    def _top(self, path: str) -> Place | None:
        folder, _, name = path.rstrip("/").rpartition("/")
        return _first(_below(self._folders(folder), name or "."))

    def _folders(self, path: str | None) -> list[str]:
        """What the directory `path` (without links) is made of, topmost first; nothing, if there is none."""
        # Part by part: a link on the way would lead to the machine's own files.
        places = self._layers if path is not None else []
        seen = ""
        for part in filter(None, (path or "").split("/")):
            seen += f"/{part}"
            places = _folders(self.entries(seen, places))
        return places

    def entries(self, path: str, folders: Sequence[str]) -> list[Place]:
        """What is at `path` (without links), topmost first, where the directory above it is made of `folders`."""
        return _below(folders, path.rpartition("/")[2])

    @property
    def _layers(self) -> list[str]:
        return [os.fspath(layer) for layer in self.layers]

    def real_path(self, path: str) -> str | None:
        """`path` with all links followed inside the tree; None if it leads nowhere."""
        done: list[str] = []
        # Which directories each part stands for; the last one is where the next part is looked for.
        places = [self._layers]
        rest = deque(path.split("/"))
        links = 0
        while rest:
            part = rest.popleft()
            if part in ("", "."):
                continue
            if part == "..":
                done = done[:-1]
                places = places[: len(done) + 1]
                continue
            found = self.entries("/".join(["", *done, part]), places[-1])
            first = _first(found)
            if first is None:
                return None
            if stat.S_ISLNK(first[1]):
                links += 1
                if links > _MOST_LINKS:
                    return None
                target = str(Path(first[0]).readlink())
                done = [] if target.startswith("/") else done
                places = places[: len(done) + 1]
                rest.extendleft(reversed(target.split("/")))
            else:
                done.append(part)
                places.append(_folders(found))
        return "/" + "/".join(done)

    def located(self, path: str) -> tuple[str, Path] | None:
        """`path` with all links followed inside the tree, and the file outside that it is; None if it leads nowhere."""
        real = self.real_path(path)
        place = self.find(real) if real else None
        return (real, place) if real and place else None

    def names(self, folder: str) -> list[str]:
        """What lies in a directory of the tree; nothing, if there is none."""
        return list(self._listed(folder))

    def _listed(self, folder: str) -> dict[str, Place]:
        places = self._folders(self.real_path(folder))
        names = dict.fromkeys(path.name for place in places for path in Path(place).iterdir())
        return {name: place for name in names if (place := _first(_below(places, name)))}

    def text(self, path: str) -> str | None:
        """What a text file of the tree holds, links followed; None if there is no such file."""
        real = self.real_path(path)
        place = self._top(real) if real else None
        return _text(place[0]) if place and stat.S_ISREG(place[1]) else None

    def matching(self, pattern: str) -> list[str]:
        """The paths that match, sorted, without the `/` in front: `*`, `?`, `[]`, and `**` for any directories.

        Links are followed inside the tree, but not by `**`. As in a shell, names with a dot in front match only where
        the pattern has it too.
        """
        found = [""]
        for word in pattern.split("/"):
            found = list(dict.fromkeys(path for folder in found for path in self._matching(folder, word)))
        return sorted(path.lstrip("/") for path in found)

    def _matching(self, folder: str, word: str) -> Iterator[str]:
        if word == "**":
            todo = [folder]
            while todo:
                yield (path := todo.pop())
                place = self._top(path or "/")
                if place and stat.S_ISDIR(place[1]):
                    todo += [f"{path}/{name}" for name in self.names(path) if not name.startswith(".")]
        elif re.search(r"[*?[]", word):
            names = fnmatch.filter(self.names(folder), word)
            yield from (f"{folder}/{name}" for name in names if word.startswith(".") or not name.startswith("."))
        elif (real := self.real_path(folder)) is not None and self.find(f"{real}/{word}"):
            yield f"{folder}/{word}" if word else folder

    @cached_property
    def packages(self) -> dict[str, Package]:
        """Installed packages by name (one architecture of each: the tree's own wins)."""
        status = self.text("/var/lib/dpkg/status")
        if status is None:
            raise MachineError(f"{self.layers[0]} holds no package database", hint="invoke clean --roots")
        found: dict[str, Package] = {}
        for paragraph in status.split("\n\n"):
            fields = dict(
                line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and not line.startswith(" ")
            )
            if "Package" not in fields or "Version" not in fields:
                continue
            if fields.get("Status", "").endswith((" config-files", " not-installed")):
                continue
            name, version = fields["Package"], fields["Version"]
            source, _, source_version = fields.get("Source", name).partition(" ")
            source_version = source_version.strip("()") or version
            found.setdefault(
                name, Package(name, version, fields.get("Architecture", ""), f"{source}={source_version}")
            )
        return found

    @cached_property
    def owners(self) -> dict[str, str]:
        """The package that owns each file, by the file's path with the merged directories resolved."""
        found: dict[str, str] = {}
        for name, (place, mode) in sorted(self._listed(_INFO).items()):
            if name.endswith(".list") and stat.S_ISREG(mode):
                package = name.removesuffix(".list").partition(":")[0]
                found |= dict.fromkeys(map(merged, _text(place).splitlines()), package)
        return found

    def as_packaged(self, path: str) -> bool:
        """Whether the file `path` is what its package brought, by the package's own checksum (deb-md5sums(5))."""
        place, owner = self._top(path), self.owners.get(path)
        if place is None or owner is None or not stat.S_ISREG(place[1]):
            return False
        names = (f"{owner}.md5sums", f"{owner}:{self.packages[owner].architecture}.md5sums")
        listed = next((found for name in names if (found := self.text(f"{_INFO}/{name}")) is not None), "")
        for line in listed.splitlines():
            checksum, _, name = line.partition("  ")
            if merged(f"/{name}") == merged(path):
                data = Path(place[0]).read_bytes()
                return hashlib.md5(data, usedforsecurity=False).hexdigest() == checksum
        return False


def _below(folders: Sequence[str], name: str) -> list[Place]:
    """What is called `name` in directories of layers, topmost first, as far as one does not hide those below it."""
    found: list[Place] = []
    for number, folder in enumerate(folders, 1):
        place = f"{folder}/{name}"
        try:
            mode = os.lstat(place).st_mode
        except OSError as error:
            if error.errno not in _ABSENT:
                raise
            continue
        if stat.S_ISDIR(mode) or not found:
            found.append((place, mode))
        if not stat.S_ISDIR(mode) or (number < len(folders) and _is_opaque(place)):
            break
    return found


def _first(found: Sequence[Place]) -> Place | None:
    # A character device marks a deletion in an overlay's upper directory.
    return found[0] if found and not stat.S_ISCHR(found[0][1]) else None


def _text(place: str) -> str:
    with open_file(place) as stream:
        return stream.read().decode(errors="replace")


def _folders(found: Sequence[Place]) -> list[str]:
    return [place for place, mode in found if stat.S_ISDIR(mode)]


def _is_opaque(folder: str) -> bool:
    # Overlayfs marks a directory that has replaced a deleted one (kernel documentation, overlayfs.rst).
    with contextlib.suppress(OSError):
        return os.getxattr(folder, "user.overlay.opaque") == b"y"
    return False


def merged(path: str) -> str:
    """`path` as it really is in a tree with merged /usr (all that xbuild makes): /bin/sh is /usr/bin/sh."""
    return "/usr" + path if path.startswith(_MERGED) else path
