"""What the archive has of a source package: its binary packages, by the signed index, and their files."""

from __future__ import annotations

import email.utils
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from xbuild.base import paths
from xbuild.base.errors import UsageError
from xbuild.formats.deb import Deb, opened
from xbuild.formats.deb822 import paragraph, unsigned
from xbuild.formats.debian import Tree
from xbuild.model.source import Source
from xbuild.packages.recipe import Kind, kind
from xbuild.proof.reproduce.causes import Dated
from xbuild.roots import index
from xbuild.roots.index import LISTS, SOURCES, Archive, Stanza
from xbuild.roots.mirror import of_sources
from xbuild.sources import FetchContext, fetch
from xbuild.store.local import Store

_BINNMU: Final = re.compile(r"\+b\d+")
_ENTRY: Final = re.compile(r"^\S+ \(([^)]+)\)|^ -- .*?>  (.*)$", re.MULTILINE)
_MOST: Final = 16 << 20
"""Bytes of a changelog; the longest in Debian has some 2 MB."""


@dataclass(frozen=True)
class Reference:
    """A .deb to hold ours against. version: of the binary package. address: where it can be had; file: or where it is.

    source: the version of the source that it was built from.
    """

    package: str
    version: str
    architecture: str
    sha256: str
    source: str
    address: str = ""
    file: Path | None = None

    @property
    def is_rebuild(self) -> bool:
        """Whether it is a rebuild of the same source (binNMU), whose changelog has an entry more."""
        return _BINNMU.fullmatch(self.version.removeprefix(self.source)) is not None


def of_source(store: Store, archive: Archive, architecture: str, name: str) -> list[Reference]:
    """What the archive has of the source package `name` for `architecture`, and for all.

    Raises MachineError if its index cannot be had.
    """
    place = index.newest(store, archive, architecture)
    mirror = next(iter(of_sources((place / SOURCES).read_text())), "")
    return [_reference(stanza, mirror) for stanza in from_source(place / LISTS, name)]


def udebs_of_source(store: Store, archive: Archive, architecture: str, name: str) -> list[Reference]:
    """The same of the installer's packages, which an archive lists by themselves. Raises as `of_source`."""
    components = tuple(f"{component}/debian-installer" for component in archive.components)
    return of_source(store, replace(archive, components=components), architecture, name)


def from_source(lists: Path, name: str) -> list[Stanza]:
    """The packages of an index that were built from the source package `name`."""
    found = []
    for file in index.packages_files(lists):
        for text in file.read_text(errors="surrogateescape").split("\n\n"):
            source = re.search(r"^Source: *(\S+)", text, re.MULTILINE)
            own = text[: text.find("\n")].removeprefix("Package: ")
            if (source[1] if source else own) == name:
                found.append(Stanza.read(text.strip("\n"), file.name))
    return found


def _reference(stanza: Stanza, mirror: str) -> Reference:
    version = re.search(r"^Source: *\S+ \(([^)]+)\)", stanza.text, re.MULTILINE)
    path = re.search(r"^Filename: *(\S+)", stanza.text, re.MULTILINE)
    source = version[1] if version else stanza.version
    address = f"{mirror}/{path[1]}" if path else ""
    return Reference(stanza.name, stanza.version, stanza.architecture, stanza.sha256, source, address)


def brought(reference: Reference, store: Store) -> Path:
    """The file, its sha256 verified; fetched if it is not in the store.

    Raises SourceError or MachineError if it cannot be had.
    """
    if reference.file is not None:
        return reference.file
    source = Source.model_validate({"url": reference.address, "sha256": reference.sha256})
    return fetch(source, FetchContext(store, tuple, paths.project()))


def rebuild_entry(file: Path) -> str:
    """The entry that a rebuild has put on top of the changelog of the .deb `file`. Raises UsageError if it has none."""
    with opened(file) as deb:
        found = [
            member.path for member in deb.members
            if re.fullmatch(r"usr/share/doc/[^/]+/changelog\.Debian\.[a-z0-9-]+\.gz", member.path)
        ]  # fmt: skip
        text = unpacked(deb.read(found[0])) if found else ""
    entry = re.match(r"\S[\s\S]*?\n -- .*", text)
    if entry is None:
        message = f"{file}: the archive's package is a rebuild, and its changelog is not in it"
        raise UsageError(message, hint="name another package of the source, as FILE.deb")
    return entry[0]


def since(deb: Deb) -> int:
    """SOURCE_DATE_EPOCH of a .deb's build: no time in control.tar is later (dpkg-deb(1))."""
    return max((member.mtime for member in deb.control_members), default=0)


def unpacked(data: bytes) -> str:
    """The text in a gzip file; "" if it is damaged."""
    try:
        text = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(data, _MOST)
    except zlib.error:
        return ""
    return text.decode(errors="replace")


def history(changelog: str) -> list[Dated]:
    """The versions in a changelog (deb-changelog(5)) with their dates, the newest first."""
    found: list[Dated] = []
    version = ""
    for match in _ENTRY.finditer(changelog):
        if match[1]:
            version = match[1]
        elif version:
            try:
                when = email.utils.parsedate_to_datetime(match[2])
            except (ValueError, TypeError):
                continue
            found.append((version, int(when.timestamp())))
            version = ""
    return found


def tools(tree: Tree, packages: Iterable[str]) -> dict[str, Sequence[Dated]]:
    """The histories of installed packages, as far as their changelogs are in the tree."""
    found: dict[str, Sequence[Dated]] = {}
    for name in packages:
        for file in ("changelog.Debian.gz", "changelog.gz"):
            located = tree.located(f"/usr/share/doc/{name}/{file}")
            if located is not None:
                found[name] = history(unpacked(located[1].read_bytes()))
                break
    return found


@dataclass(frozen=True)
class Buildinfo:
    """What a .buildinfo says (deb-buildinfo(5)). sums: sha256 of the packages by name. built_with: versions by package.

    directory: where it was built; "" if it does not say. changes: the changelog's entry of a rebuild.
    """

    source: str
    version: str
    architecture: tuple[str, ...]
    sums: Mapping[str, str]
    built_with: Mapping[str, str]
    directory: str = ""
    environment: Mapping[str, str] | None = None
    changes: str = ""

    @property
    def kind(self) -> Kind:
        """Which packages were built."""
        own = any(name not in ("all", "source") for name in self.architecture)
        return kind(any=own, all="all" in self.architecture)


def read_buildinfo(file: Path) -> Buildinfo:
    """The .buildinfo `file`, signed or not. Raises UsageError for what is none."""
    try:
        fields = paragraph(unsigned(file.read_text(errors="replace")))
    except (ValueError, OSError) as error:
        raise _no_buildinfo(file, f": {error}") from error
    if fields.get("Format", "")[:2] not in ("1.", "0.") or "Source" not in fields or "Version" not in fields:
        raise _no_buildinfo(file)
    sums = [line.split() for line in fields.get("Checksums-Sha256", "").splitlines() if len(line.split()) == 3]
    relations = re.findall(r"([a-z0-9][\w.+-]*)(?::\w+)? \(= ([^)]+)\)", fields.get("Installed-Build-Depends", ""))
    environment = dict(re.findall(r'^ (\w+)="(.*)"$', fields.get("Environment", ""), re.MULTILINE))
    # A rebuild's Source has the version of the source in brackets.
    name, _, version = fields["Source"].partition(" ")
    return Buildinfo(
        source=name,
        version=version.strip(" ()") or fields["Version"],
        architecture=tuple(fields.get("Architecture", "").split()),
        sums={name: sha256 for sha256, _, name in sums if not name.endswith(".dsc")},
        built_with=dict(relations),
        directory=fields.get("Build-Path", ""),
        environment=environment,
        changes=re.sub(r"^ (?:\.$)?", "", fields.get("Binary-Only-Changes", ""), flags=re.MULTILINE).strip("\n"),
    )


def _no_buildinfo(file: Path, why: str = "") -> UsageError:
    return UsageError(f"{file}: no .buildinfo file{why}", hint="deb-buildinfo(5) says what one has")
