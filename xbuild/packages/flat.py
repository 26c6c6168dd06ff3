"""The directory that packages are handed out in, as a flat repository: what is built next can take them from there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from xbuild.base import log
from xbuild.build.phases import keep_text
from xbuild.formats.deb822 import without_epoch
from xbuild.packages.changelog import version_of
from xbuild.packages.recipe import Options
from xbuild.packages.repo import described
from xbuild.packages.source import SourcePackage
from xbuild.roots.index import read_stanzas
from xbuild.roots.repository import Repository

INDEX = "Packages"
"""The file by which apt takes a directory for a repository (wiki.debian.org/DebianRepository/Format)."""


def folder_of(package: SourcePackage, options: Options, architecture: str) -> str:
    """The name of the directory that its packages come to: that of the .changes file (dpkg-genchanges(1))."""
    version = without_epoch(version_of(options.binnmu)) or package.file_version
    return f"{package.name}_{version}_{'all' if options.build == 'all' else architecture}"


def index(folder: Path, files: Sequence[Path]) -> None:
    """Write the index of `folder`: of the packages among `files`, which lie there. Others in it are not in it."""
    known = [(file, described(file)) for file in sorted(files) if file.suffix == ".deb"]
    text = "".join(f"{fields}\nFilename: ./{file.name}\n\n" for file, (_, fields) in known)
    # What is no UTF-8 in them is in a description.
    keep_text(text.encode(errors="surrogateescape").decode(errors="replace"), folder / INDEX)


def tell_not_taken(repositories: Sequence[Repository], architecture: str, installed: Mapping[str, str]) -> None:
    """Warn of packages of the user's own in the place of which the distribution's newer ones were taken.

    installed: versions of packages in the build's root, by name.
    """
    for one in repositories:
        own: dict[str, list[str]] = {}
        for stanza in read_stanzas(one.text(architecture)):
            own.setdefault(stanza.name, []).append(stanza.version)
        for name, versions in own.items():
            if (there := installed.get(name)) is not None and there not in versions:
                log.warn(f"{name} {' or '.join(versions)} of {one.place} was not taken: {there} is newer")
