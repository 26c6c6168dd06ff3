"""The signed index of an archive's source packages: fetched once, kept in the store, read by name."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from xbuild.base.errors import MachineError
from xbuild.formats.deb822 import Fields, paragraph
from xbuild.roots import index
from xbuild.roots.index import LISTS, SOURCES, Archive
from xbuild.store.local import Store

ARCHITECTURE = "source"
"""What stands for the architecture: dpkg's word in .changes files (deb-changes(5))."""


def newest(store: Store, archive: Archive, architecture: str, *, renew: bool = False) -> Path:
    """The index of sources of `archive`, fetched from where its index for `architecture` came, with the same check.

    renew: fetch it in any case; those before it are removed, unless somebody is at work with the store. Raises
    MachineError as that one.
    """
    binary = index.newest(store, archive, architecture)
    lines = source_lines((binary / SOURCES).read_text())
    place = index.newest(store, archive, ARCHITECTURE, renew=renew, lines=lines)
    if renew:
        with contextlib.suppress(MachineError), store.alone():
            for older, key, value in store.finished(index.KIND):
                if archive.value(ARCHITECTURE).items() <= value.items() and older != place:
                    store.remove(index.KIND, key)
    return place


def source_lines(text: str) -> list[str]:
    """The lines of a sources.list that name binary packages, as they name the sources of the same archives."""
    return [f"deb-src {line.removeprefix('deb ')}" for line in map(str.strip, text.splitlines()) if line[:4] == "deb "]


def named(place: Path, name: str) -> Iterator[Fields]:
    """What the index at `place` says of the source package `name`: a paragraph a version."""
    for text in _texts(place):
        for part in _around(text, f"\nPackage: {name}\n"):
            yield paragraph(part)


def making(place: Path, binary: str) -> list[str]:
    """The names of the sources that make the binary package `binary`."""
    pattern = re.compile(rf"^(?:Binary:| )[^\n]*(?<![^\s,]){re.escape(binary)}(?![^\s,])", re.MULTILINE)
    found = []
    for text in _texts(place):
        for match in pattern.finditer(text):
            start = text.rfind("\n\n", 0, match.start()) + 2
            part = paragraph(text[start : text.find("\n\n", match.end())])
            if binary in re.split(r"[\s,]+", part.get("Binary", "")):
                found.append(part["Package"])
    return list(dict.fromkeys(found))


def names(place: Path) -> list[str]:
    """The names of all source packages, each once."""
    found = (re.findall(r"^Package: (\S+)$", text, re.MULTILINE) for text in _texts(place))
    return list(dict.fromkeys(name for part in found for name in part))


def _texts(place: Path) -> Iterator[str]:
    """The lists, each with an empty line before and behind."""
    for file in sorted((place / LISTS).iterdir()):
        if file.name.endswith("_Sources"):
            yield f"\n\n{file.read_text(errors='replace')}\n\n"


def _around(text: str, line: str) -> Iterator[str]:
    """The paragraphs that have this line."""
    at = text.find(line)
    while at >= 0:
        end = text.find("\n\n", at)
        yield text[text.rfind("\n\n", 0, at + 1) + 2 : end]
        at = text.find(line, end - 1)
