"""A directory with packages of the user's own, as a further source of build dependencies (`xbuild repo` makes one)."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from xbuild.base import process
from xbuild.base.errors import UsageError
from xbuild.roots.index import LISTS, SOURCES
from xbuild.sandbox.mounts import Bind

_INSIDE = "/repositories"
"""Where they are seen when packages are fetched, each under the digest of what it has."""
_PATTERNS = ("Packages", "dists/*/*/binary-{0}/Packages", "dists/*/*/binary-all/Packages")
"""Where an archive of Debian's kind, or a flat one, has its index (wiki.debian.org/DebianRepository/Format)."""
_READERS: Mapping[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.decompress, ".xz": lzma.decompress}
_QUOTED = re.compile(r'[\\|{}\[\]<>"^~_=!@#$%&*]')
"""What apt writes as %xx in names of lists."""


@dataclass(frozen=True)
class Repository:
    """The one in the directory `place`. It is trusted because the user named it, and known by what it has."""

    place: Path

    def text(self, architecture: str) -> str:
        """Its index for this architecture. Raises UsageError if it has none for any, or one that cannot be read."""
        return _text(self.place, architecture)

    def key(self, architecture: str) -> str:
        """The digest of that."""
        return hashlib.sha256(self.text(architecture).encode(errors="surrogateescape")).hexdigest()

    def bind(self, architecture: str) -> Bind:
        """What shows it where its address says."""
        return Bind(str(self.place), f"{_INSIDE}/{self.key(architecture)}", readonly=True)

    def lines(self, architecture: str) -> list[str]:
        """What names it in a sources.list(5) for who sees it there."""
        found = [file.relative_to(self.place).parts for pattern in _PATTERNS
                 for file in _files(self.place, pattern.format(architecture))]  # fmt: skip
        suites = dict.fromkeys(f"{parts[1]} {parts[2]}" if parts[0] == "dists" else "./" for parts in found)
        return [f"deb [trusted=yes] copy:{_INSIDE}/{self.key(architecture)} {suite}" for suite in suites]


def repositories(places: Sequence[str]) -> tuple[Repository, ...]:
    """Those in these directories. Raises UsageError for what is none."""
    found = tuple(Repository(Path(place).absolute()) for place in places)
    for one in found:
        if not one.place.is_dir():
            raise UsageError(f"{one.place}: no such directory", hint="`invoke repo DIRECTORY --add FILE.deb` makes one")
    return found


def joined(place: Path, index: Path, known: Sequence[Repository], architecture: str) -> Path:
    """At `place` the index `index` of an archive with those of `known` before it: they win where versions are equal."""
    (place / LISTS).mkdir(parents=True)
    for file in (index / LISTS).iterdir():
        (place / LISTS / file.name).symlink_to(file)
    lines = []
    for one in known:
        address = f"copy:{_INSIDE}/{one.key(architecture)}"
        lines.append(f"deb [trusted=yes] {address} ./\n")
        path = address.partition(":")[2] + "/./Packages"
        name = _QUOTED.sub(lambda match: f"%{ord(match[0]):02x}", path).replace("/", "_")
        (place / LISTS / name).write_text(one.text(architecture), errors="surrogateescape")
    (place / SOURCES).write_text("".join(lines) + (index / SOURCES).read_text())
    return place


@cache
def _text(place: Path, architecture: str) -> str:
    files = [file for pattern in _PATTERNS for file in _files(place, pattern.format(architecture))]
    if not files and not any(_files(place, pattern.format("*")) for pattern in _PATTERNS):
        hint = f"`invoke repo {process.show([place])} --add FILE.deb` makes one"
        raise UsageError(f"{place}: no index of packages", hint=hint)
    stanzas: dict[str, str] = {}
    for file in files:
        try:
            text = _READERS[file.suffix](file.read_bytes()).decode(errors="surrogateescape")
        except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
            raise UsageError(f"{file}: cannot be read: {error}", hint="make the repository anew") from error
        for stanza in re.split(r"\n{2,}", text.strip("\n")):
            own = re.search(r"^Architecture: *(\S+)", stanza, re.MULTILINE)
            sha256 = re.search(r"^SHA256: *([0-9a-f]{64})$", stanza, re.MULTILINE)
            if own and own[1] in (architecture, "all") and sha256:
                stanzas.setdefault(sha256[1], f"{stanza}\n\n")
    return "".join(stanzas.values())


def _files(place: Path, pattern: str) -> list[Path]:
    """Each index once, however many times it is there in other compressions."""
    found = {file.with_suffix(""): file for suffix in [".xz", ".gz", ""] for file in place.glob(pattern + suffix)}
    return [found[name] for name in sorted(found)]
