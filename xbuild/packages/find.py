"""Finding a source package by the word of the command line."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cmp_to_key
from pathlib import Path
from typing import Any

from xbuild.base import log, process
from xbuild.base.digest import file_sha256, is_file_with
from xbuild.base.errors import MachineError, SourceError, UsageError, XbuildError
from xbuild.base.yamlfile import did_you_mean
from xbuild.formats.deb822 import Fields, paragraph
from xbuild.model.source import Source
from xbuild.model.toolchain import Toolchain
from xbuild.packages import tree
from xbuild.packages.control import debian_files
from xbuild.packages.signature import verified
from xbuild.packages.source import SourceFile, SourcePackage
from xbuild.roots import mirror, sourceindex
from xbuild.roots.distribution import Roots
from xbuild.roots.index import SOURCES, Archive
from xbuild.sources import FetchContext, fetch
from xbuild.store.local import Store

_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9+.~_-]*")
_FRESH = 3600.0
"""Seconds in which an index is not asked for again. Debian's archive has a new one every six hours."""
_GONE = re.compile(r": (?:HTTP (?:404|410)\b|no such file$)")
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Where:
    """Where sources are looked for. roots: they know the archive of the distribution, or its state of a past day."""

    store: Store
    toolchain: Toolchain
    roots: Roots

    @property
    def archive(self) -> Archive:
        """The archive of the suite, or of the snapshot."""
        return self.roots.resolver.archive


def where(store: Store, toolchain: Toolchain, snapshot: str | None = None) -> Where:
    """Where sources for `toolchain` are looked for. snapshot: a day, as of a request."""
    return Where(store, toolchain, Roots(store, toolchain, None, snapshot=mirror.snapshot(toolchain, snapshot)))


def is_of_archive(word: str) -> bool:
    """Whether `word` names a package of the distribution's archive, as `find` takes it: not one of the user's own."""
    return not word.endswith(".dsc") and _NAME.fullmatch(word.partition("=")[0]) is not None


Finder = Callable[[str, Where], SourcePackage | None]
"""Gives the package that a word names; None where the word is of another kind."""


def find(word: str, where: Where) -> SourcePackage:
    """The source package that `word` names: a directory, a git URL, a .dsc, or NAME or NAME=VERSION of the archive.

    Raises UsageError if there is none, or if it is not what its signature and sums say; MachineError if the archive's
    index, SourceError if a file of the package cannot be had.
    """
    for finder in FINDERS:
        if found := finder(word, where):
            return found
    raise UsageError(f"{word}: no source package", hint="NAME, NAME=VERSION, a .dsc file, a directory, or a git URL")


def of_dsc(word: str, where: Where) -> SourcePackage | None:
    """The package of a .dsc file, whose files lie beside it."""
    if not word.endswith(".dsc"):
        return None
    file = Path(word).absolute()
    if not file.is_file():
        raise UsageError(f"{word}: no such file", hint="a .dsc lies beside the files that it names")
    signed = verified(file)
    fields = _paragraph(signed.text, word)
    named = {name: (size, sha256) for name, size, sha256 in _sums(fields, word)}
    sources = {name: Source(url=(file.parent / name).as_uri(), sha256=sha256) for name, (_, sha256) in named.items()}
    lacking = [name for name in named if not (file.parent / name).exists()]
    if lacking:
        hint = "`dget`, or `apt-get source --download-only`, brings all files of a source package"
        raise UsageError(f"{word}: files that it names are not beside it", details=lacking, hint=hint)
    if wrong := [name for name, (_, sha256) in named.items() if not is_file_with(file.parent / name, sha256)]:
        hint = "they are damaged, or of another version: fetch them once more"
        raise UsageError(f"{word}: files have not the sha256 that it names", details=wrong, hint=hint)
    own = Source(url=file.as_uri(), sha256=file_sha256(file))
    found = _fetched({file.name: own, **sources}, lambda: (), where.store)
    sizes = {file.name: file.stat().st_size, **{name: size for name, (size, _) in named.items()}}
    return _package(word, fields, {file.name: own, **sources}, sizes, signed.checked, found)


def of_archive(word: str, where: Where) -> SourcePackage | None:
    """A package of the distribution's archive: NAME, or NAME=VERSION."""
    name, _, version = word.partition("=")
    if not _NAME.fullmatch(name):
        return None
    age = 0.0
    try:
        with where.store.in_use():
            place = source_index(where)
            age = time.time() - (place / SOURCES).stat().st_mtime
            return _of_index(word, name, version, place, where)
    except (UsageError, SourceError):
        if age < _FRESH:
            raise
    # It may have come since, or another one in its place.
    source_index(where, renew=True)
    with where.store.in_use():
        return _of_index(word, name, version, source_index(where), where)


def _of_index(word: str, name: str, version: str, place: Path, where: Where) -> SourcePackage:
    known = list(sourceindex.named(place, name))
    fields = _chosen(known, name, version, place, where)
    named = {name: (size, sha256) for name, size, sha256 in _sums(fields, word)}
    order = sorted(named, key=lambda name: not name.endswith(".dsc"))
    sources = {name: _of_pool(fields, name, named[name][1]) for name in order}
    addresses = mirror.of_sources((place / SOURCES).read_text())
    snapshot = where.archive.snapshot
    others = sorted({f"{name}={one['Version']}" for one in known} - {f"{name}={fields['Version']}"})
    hint = "is it the right day?" if snapshot else _instead(others)
    found = _fetched(sources, lambda: [snapshot] if snapshot else addresses, where.store, hint)
    checked = f"by the signed index of {where.archive.suite}"
    return _package(word, fields, sources, {name: size for name, (size, _) in named.items()}, checked, found)


def _of_tree(word: str, where: Where) -> SourcePackage | None:
    return tree.of_git(word, where.store) or tree.of_directory(word)


FINDERS: list[Finder] = [of_dsc, _of_tree, of_archive]
"""In this order."""


def source_index(where: Where, *, renew: bool = False) -> Path:
    """The index of sources, in the store."""
    return sourceindex.newest(where.store, where.archive, where.toolchain.architecture, renew=renew)


def _chosen(known: Sequence[Fields], name: str, version: str, place: Path, where: Where) -> Fields:
    """The paragraph that is meant: of the version, else of the newest. Raises UsageError if there is none."""
    archive, title = where.archive, f"the archive has no source package {name!r} in {where.archive.suite}"
    if not known:
        # It takes seconds to look through all of them.
        log.info(f"no source package is called {name}: looking for what may be meant")
        if makers := sourceindex.making(place, name):
            raise UsageError(f"{title}: a binary package of that name is made by {makers[0]}", hint=makers[0])
        raise UsageError(title + did_you_mean(name, sourceindex.names(place)), hint="another --suite may have it")
    there = {fields["Version"]: fields for fields in known}
    if version and version not in there:
        hint = f"it has {', '.join(there)}; --snapshot DATE has those of a day"
        raise UsageError(f"{name}: {archive.suite} has no version {version}", hint=hint)
    return there[version or max(there, key=cmp_to_key(compared))]


def compared(one: str, other: str) -> int:
    """-1, 0 or 1: which of two versions is the newer one (deb-version(7))."""
    def holds(relation: str) -> bool:
        return process.run(["dpkg", "--compare-versions", one, relation, other], check=False).returncode == 0

    return 0 if one == other or holds("eq") else -1 if holds("lt") else 1


def _of_pool(fields: Fields, name: str, sha256: str) -> Source:
    """A file as a recipe names it. Its section is what the archive's directory says: pool/SECTION/PREFIX/PACKAGE."""
    parts = fields["Directory"].strip("/").split("/")
    where: dict[str, Any] = {"package": parts[-1], "file": name, "section": "/".join(parts[1:-2])}
    return Source(distribution=where, sha256=sha256)


def _paragraph(text: str, word: str) -> Fields:
    try:
        fields = paragraph(text)
    except ValueError as error:
        raise UsageError(f"{word}: no .dsc file: {error}") from error
    lacking = [name for name in ("Source", "Version", "Checksums-Sha256") if not fields.get(name)]
    if lacking:
        raise UsageError(f"{word}: no .dsc file: it has no {', '.join(lacking)}")
    return fields


def _sums(fields: Fields, word: str) -> Iterator[tuple[str, int, str]]:
    """Name, size and sha256 of each file of a source package. Raises UsageError for what can be none."""
    for line in fields["Checksums-Sha256"].splitlines():
        words = line.split()
        if not words:
            continue
        if len(words) != 3 or not _HEX.fullmatch(words[0]) or not words[1].isdigit() or not _FILE.fullmatch(words[2]):
            raise UsageError(f"{word}: Checksums-Sha256 has a line that names no file: {line.strip()[:80]!r}")
        yield words[2], int(words[1]), words[0]


def _fetched(
    sources: Mapping[str, Source], mirrors: Callable[[], Sequence[str]], store: Store, hint: str = ""
) -> dict[str, Path]:
    """The files in the store, by name. hint: for what a mirror no longer has. Raises SourceError, for all."""
    context = FetchContext(store, mirrors, Path("/"))
    found, faults = dict[str, Path](), dict[str, XbuildError]()
    for name, source in sources.items():
        try:
            found[name] = fetch(source, context)
        except (SourceError, MachineError) as error:
            faults[name] = error
    if faults:
        raise _missing(faults, hint)
    return found


def _instead(others: Sequence[str]) -> str:
    """What to do where the mirror has lost files. others: further versions that its index has, as NAME=VERSION."""
    day = "--snapshot DATE takes source and packages of a day that it was there"
    return f"the mirror may still have {' or '.join(others)}; {day}" if others else day


def _missing(faults: Mapping[str, XbuildError], hint: str) -> XbuildError:
    first = next(iter(faults.values()))
    gone = [name for name, error in faults.items() if any(map(_GONE.search, error.details))]
    if not gone:
        return first
    details = [line for error in faults.values() for line in error.details]
    return SourceError(f"the mirror no longer has {', '.join(gone)}", details=details, hint=hint)


def _package(
    word: str,
    fields: Fields,
    sources: Mapping[str, Source],
    sizes: Mapping[str, int],
    checked: str,
    found: Mapping[str, Path],
) -> SourcePackage:
    files = [
        SourceFile(name, sizes[name], source.digest, _described(source)) for name, source in sources.items()
    ]
    texts = debian_files(found)
    return SourcePackage(word, fields, tuple(files), checked, texts.get("control", ""), texts.get("changelog", ""))


def _described(source: Source) -> dict[str, Any]:
    return source.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude={"sha256"})

