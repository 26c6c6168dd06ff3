"""Which packages have which files, as the archive's own index of contents says: what one can miss when one builds."""

from __future__ import annotations

import gzip
import re
import tempfile
import time
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from xbuild.base import log, process
from xbuild.base.errors import MachineError
from xbuild.roots import mirror
from xbuild.roots.index import KIND, LISTS, Archive, fetch
from xbuild.store.local import Store

SETTING = "XBUILD_CONTENTS"
"""The variable that names a release of the distribution whose index is asked in the place of the suite's own."""

_FILE = "files.gz"
"""Of an entry: the index without what nobody builds with. A line is a path, a tab, and names of packages."""
# As apt-file has it; signed, for the release names its digest.
_OPTIONS = (
    'Acquire::IndexTargets::deb::Contents-deb::MetaKey "$(COMPONENT)/Contents-{architecture}"',
    'Acquire::IndexTargets::deb::Contents-deb::flatMetaKey "Contents-{architecture}"',
    'Acquire::IndexTargets::deb::Contents-deb::ShortDescription "Contents"',
    'Acquire::IndexTargets::deb::Contents-deb::Description "$(RELEASE)/$(COMPONENT) Contents"',
    'Acquire::IndexTargets::deb::Contents-deb::Identifier "Contents-deb"',
    'Acquire::IndexTargets::deb::Contents-deb::KeepCompressed "true"',
    'Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "true"',
)
_HELPER = "/usr/lib/apt/apt-helper"
_UNEQUAL = re.compile(r"unexpected size|Hash Sum mismatch")
"""What apt says of a file that is not the one whose digest the signed release names."""
_WANTED = re.compile(
    r"usr/include/|usr/s?bin/|usr/(lib|share)/(.*/)?pkgconfig/|usr/lib/(.*/)?lib[^/]*\.(so|a)\t|usr/(lib|share)/.*\.cmake\t"
    r"|usr/share/aclocal/|usr/(share|lib/[^/]+)/perl5?/.*\.pm\t"
)


def newest(store: Store, archive: Archive, architecture: str) -> Path:
    """The entry of the store that tells, fetched if there is none; some 10 MB.

    Raises MachineError if it cannot be had, or is not the one that the distribution has signed.
    """
    wanted = {"what": "files of packages", "kept": _WANTED.pattern, **archive.value(architecture)}
    with store.lock(f"files-{architecture}", describe=f"fetches which files {archive.suite} has for {architecture}"):
        for place, _, value in store.finished(KIND):
            if {**value, "time": None} == {**wanted, "time": None}:
                return place

        def make(staging: Path) -> None:
            with log.step(f"index of files: {archive.suite} for {architecture}"):
                options = [option.replace("{architecture}", architecture) for option in _OPTIONS]
                try:
                    fetch(staging, archive, architecture, options=options)
                except MachineError as error:
                    raise (_unequal(archive, error) or error) from None
                with gzip.open(staging / _FILE, "wt", encoding="utf-8", errors="surrogateescape") as stream:
                    stream.writelines(sorted(_lines(staging / LISTS)))
                for part in ("root", LISTS):
                    store.discard(staging / part)

        value = {**wanted, "time": time.time_ns()}
        return store.ensure(KIND, value, f"the files of {archive.suite} for {architecture}", make)


def _unequal(archive: Archive, error: MachineError) -> MachineError | None:
    """What to say where the mirror has another index than the one that its release names."""
    lines = [line for line in error.details if _UNEQUAL.search(line)]
    message = f"the mirror's index of the files of {archive.suite} is not the one that its signed release names"
    hint = f"wait until it is in order; {mirror.SETTING} names another mirror, {SETTING} another release's index"
    return MachineError(message, details=lines, hint=hint) if lines else None


def _lines(lists: Path) -> Iterator[str]:
    found = [file for file in lists.iterdir() if "_Contents-" in file.name]
    if not found:
        raise MachineError("the mirror has no index of the files of packages", hint="name packages in a recipe")
    for file in found:
        with tempfile.TemporaryFile(dir=lists) as stream:
            # apt keeps it compressed as it likes best.
            process.run([_HELPER, "cat-file", file], stdout=stream)
            stream.seek(0)
            for line in stream:
                path, packages = line.decode(errors="surrogateescape").rsplit(maxsplit=1)
                text = f"{path}\t{','.join(name.rpartition('/')[2] for name in packages.split(','))}\n"
                if _WANTED.match(text):
                    yield text


def packages_with(entry: Path, patterns: Iterable[str]) -> dict[str, list[str]]:
    """The packages that have a file that matches one of the patterns (* ? []), by pattern, the shortest path first."""
    wanted = list(dict.fromkeys(patterns))
    exact = {pattern for pattern in wanted if not set(pattern) & set("*?[")}
    others = [pattern for pattern in wanted if pattern not in exact]
    found: dict[str, list[tuple[int, str]]] = {pattern: [] for pattern in wanted}
    with gzip.open(entry / _FILE, "rt", encoding="utf-8", errors="surrogateescape") as stream:
        for line in stream:
            path, _, packages = line.rstrip("\n").partition("\t")
            hits = [path] if path in exact else []
            hits += [pattern for pattern in others if fnmatchcase(path, pattern)]
            for pattern in hits:
                found[pattern] += [(len(path), name) for name in packages.split(",")]
    return {pattern: [name for _, name in sorted(some)] for pattern, some in found.items()}
