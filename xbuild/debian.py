"""Reads the package database of a Debian tree that need not be runnable, across the layers it is spread over."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from xbuild.errors import MachineError

_MERGED = ("/bin/", "/sbin/", "/lib/")


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
        for layer in self.layers:
            place = layer / path.lstrip("/")
            if place.is_symlink() or place.exists():
                # A character device marks a deletion in an overlay's upper directory.
                return None if place.is_char_device() else place
            if _hides(layer, path):
                return None
        return None

    def real_path(self, path: str) -> str | None:
        """`path` with all links followed inside the tree; None if it leads nowhere."""
        done: list[str] = []
        rest = [part for part in path.split("/") if part]
        for _ in range(1000):
            if not rest:
                return "/" + "/".join(done)
            part = rest.pop(0)
            if part == "..":
                done = done[:-1]
                continue
            found = self.find("/" + "/".join([*done, part]))
            if found is None:
                return None
            if found.is_symlink():
                link = str(found.readlink())
                done = [] if link.startswith("/") else done
                rest = [piece for piece in link.split("/") if piece not in ("", ".")] + rest
            else:
                done.append(part)
        return None

    def located(self, path: str) -> tuple[str, Path] | None:
        """`path` with all links followed inside the tree, and the file outside that it is; None if it leads nowhere."""
        real = self.real_path(path)
        place = self.find(real) if real else None
        return (real, place) if real and place else None

    def names(self, folder: str) -> list[str]:
        """What lies in a directory of the tree; nothing, if there is none."""
        real = self.real_path(folder)
        if real is None:
            return []
        places = [layer / real.lstrip("/") for layer in self.layers]
        names = {path.name for place in places if place.is_dir() for path in place.iterdir()}
        return [name for name in names if self.find(f"{real}/{name}") is not None]

    @cached_property
    def packages(self) -> dict[str, Package]:
        """Installed packages by name (one architecture of each: the tree's own wins)."""
        status = self.find("/var/lib/dpkg/status")
        if status is None:
            raise MachineError(f"{self.layers[0]} holds no package database", hint="invoke clean --roots")
        found: dict[str, Package] = {}
        for paragraph in status.read_text(errors="replace").split("\n\n"):
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
        seen: set[str] = set()
        for layer in self.layers:
            for file in sorted((layer / "var/lib/dpkg/info").glob("*.list")):
                if file.name in seen:
                    continue
                seen.add(file.name)
                if not file.is_file() or file.is_symlink():
                    # A layer's mark that the package is gone; or what nobody's package database has.
                    continue
                package = file.name.removesuffix(".list").partition(":")[0]
                for path in file.read_text(errors="replace").splitlines():
                    found[merged(path)] = package
        return found


    def as_packaged(self, path: str) -> bool:
        """Whether the file `path` is what its package brought, by the package's own checksum (deb-md5sums(5))."""
        place, owner = self.find(path), self.owners.get(path)
        if place is None or owner is None or place.is_symlink() or not place.is_file():
            return False
        names = (f"{owner}.md5sums", f"{owner}:{self.packages[owner].architecture}.md5sums")
        listed = next((found for name in names if (found := self.find(f"/var/lib/dpkg/info/{name}"))), None)
        plain = listed is not None and listed.is_file() and not listed.is_symlink()
        for line in listed.read_text(errors="replace").splitlines() if listed is not None and plain else ():
            checksum, _, name = line.partition("  ")
            if merged(f"/{name}") == merged(path):
                return hashlib.md5(place.read_bytes(), usedforsecurity=False).hexdigest() == checksum
        return False


def _hides(layer: Path, path: str) -> bool:
    """Does `layer` hide what the layers below it have at `path`, by a deleted or replaced directory above it?"""
    place = layer
    for part in path.strip("/").split("/")[:-1]:
        place = place / part
        if not place.is_dir() or place.is_symlink():
            return place.is_symlink() or place.exists()
        # Overlayfs marks a directory that has replaced a deleted one (kernel documentation, overlayfs.rst).
        with contextlib.suppress(OSError):
            if os.getxattr(place, "user.overlay.opaque") == b"y":
                return True
    return False


def merged(path: str) -> str:
    """`path` as it really is in a tree with merged /usr (all that xbuild makes): /bin/sh is /usr/bin/sh."""
    return "/usr" + path if path.startswith(_MERGED) else path
