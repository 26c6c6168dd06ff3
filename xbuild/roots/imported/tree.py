"""The package database of an imported root: Debian's, Alpine's, or none."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

from xbuild.formats.debian import Package, Tree

_APK = "/lib/apk/db/installed"


class ForeignTree(Tree):
    """An imported root, perhaps with a layer over it. family: as in `Facts`; of `other` no package is known."""

    def __init__(self, layers: Sequence[Path], family: str) -> None:
        super().__init__(layers)
        self._family = family

    @cached_property
    def packages(self) -> dict[str, Package]:
        """Installed packages by name."""
        if self._family == "debian":
            return super().packages
        return {package.name: package for package, _ in self._apk}

    def as_packaged(self, path: str) -> bool:
        """Whether the file `path` is what its package brought, by the database's checksum."""
        if self._family == "debian":
            return super().as_packaged(path)
        place = self.find(path)
        listed = next((files[path] for _, files in self._apk if path in files), "")
        if place is None or place.is_symlink() or not place.is_file():
            return False
        # Q1: SHA-1, in base64.
        digest = hashlib.sha1(place.read_bytes(), usedforsecurity=False).digest()
        return listed == "Q1" + base64.b64encode(digest).decode()

    @cached_property
    def owners(self) -> dict[str, str]:
        """The package that owns each file, by the file's real path."""
        if self._family == "debian":
            found = super().owners
        else:
            found = {path: package.name for package, paths in self._apk for path in paths}
        return {real: package for path, package in found.items() for real in self._spellings(path)}

    def _spellings(self, path: str) -> Iterator[str]:
        # /bin/sed is /usr/bin/sed only where /bin is a link; `Tree` takes that for granted.
        folder, _, name = path.rpartition("/")
        if folder not in ("/usr/bin", "/usr/sbin", "/bin", "/sbin"):
            yield path
            return
        for real in dict.fromkeys((folder, folder.removeprefix("/usr"))):
            if self.real_path(real) == real and self.find(f"{real}/{name}") is not None:
                yield f"{real}/{name}"

    @cached_property
    def _apk(self) -> list[tuple[Package, dict[str, str]]]:
        """The packages, each with its files and their checksums, from apk's database.

        Paragraphs of `LETTER:value`: P name, V version, A machine, o origin, F folder, R file in it, Z its checksum.

        https://wiki.alpinelinux.org/wiki/Apk_spec
        """
        place = self.find(_APK) if self._family == "alpine" else None
        found = []
        for paragraph in place.read_text(errors="replace").split("\n\n") if place is not None else ():
            known: dict[str, str] = {}
            files: dict[str, str] = {}
            folder = file = ""
            for line in paragraph.splitlines():
                letter, _, value = line.partition(":")
                if letter == "F":
                    folder = value
                elif letter == "R":
                    file = f"/{folder}/{value}" if folder else f"/{value}"
                    files[file] = ""
                elif letter == "Z":
                    files[file] = value
                else:
                    known.setdefault(letter, value)
            if "P" in known and "V" in known:
                source = f"{known.get('o', known['P'])}={known['V']}"
                found.append((Package(known["P"], known["V"], known.get("A", ""), source), files))
        return found
