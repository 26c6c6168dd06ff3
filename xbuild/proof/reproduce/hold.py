"""Holds the .deb files of a build against others of their names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from xbuild.base.digest import file_sha256
from xbuild.formats.deb import SUFFIXES, Deb, opened
from xbuild.proof.compare.contents import compare_members
from xbuild.proof.compare.debs import CONTROL, compare_open_debs
from xbuild.proof.compare.verdict import Verdict
from xbuild.proof.reproduce.archive import Reference, since
from xbuild.proof.reproduce.causes import Known, explain
from xbuild.proof.reproduce.verdict import Held

_SIDES = ("the archive's", "ours")
_DEBUG = "-dbgsym"


@dataclass(frozen=True)
class Against:
    """What packages are held against. references: what the archive has of the source. version: of the source that was
    built. brought: gives a reference's file. known: of both builds; plain: a path without the architecture's name.
    """

    references: Sequence[Reference]
    version: str
    brought: Callable[[Reference], Path]
    known: Known
    plain: Callable[[str], str] = str


def hold(files: Sequence[Path], against: Against) -> tuple[Held, ...]:
    """All .deb files among `files`, and what the archive has of their architectures besides."""
    found, named = [], set()
    for file in sorted(file for file in files if file.name.endswith(SUFFIXES)):
        with opened(file) as deb:
            package, architecture = deb.fields["Package"], deb.fields["Architecture"]
            named.add((package, architecture))
            reference = _reference(against.references, package, architecture)
            found.append(_held(file, deb, reference, against))
    architectures = {architecture for _, architecture in named}
    for one in against.references:
        expected = one.architecture in architectures and one.source == against.version
        if expected and (one.package, one.architecture) not in named:
            name = f"{one.package}_{one.version.rpartition(':')[2]}_{one.architecture}.deb"
            found.append(Held(name, "", one.sha256, note="the archive has it, and this build gave none"))
    return tuple(found)


def _reference(references: Sequence[Reference], package: str, architecture: str) -> Reference | None:
    return next((one for one in references if (one.package, one.architecture) == (package, architecture)), None)


def _held(file: Path, deb: Deb, reference: Reference | None, against: Against) -> Held:
    held = Held(file.name, file_sha256(file))
    if reference is None:
        debug = deb.fields["Package"].endswith(_DEBUG)
        return replace(held, note="debug symbols are in another archive" if debug else "the archive's index has it not")
    if reference.source != against.version:
        return replace(held, note=f"the archive's is built from version {reference.source}")
    if held.sha256 == reference.sha256:
        return replace(held, theirs=reference.sha256)
    if not (reference.file or reference.address):
        return replace(held, theirs=reference.sha256, note="it differs, and the other file is not at hand")
    with opened(against.brought(reference)) as theirs:
        found = compare_open_debs(theirs, deb, compare_members, _SIDES)
        known = replace(against.known, since=since(theirs))
        explained = explain(found, reader(theirs), reader(deb), known, against.plain)
    return replace(held, theirs=reference.sha256, found=found, explained=explained)


def reader(deb: Deb) -> Callable[[str], bytes]:
    """Gives members of a .deb by the names that comparisons give them."""

    def read(path: str) -> bytes:
        return deb.control_files[path.removeprefix(CONTROL)] if path.startswith(CONTROL) else deb.read(path)

    return read


def differing(held: Sequence[Held], plain: Callable[[str], str]) -> Iterator[str]:
    """The files that differ in packages that were held against others, without the architecture's name."""
    for one in held:
        for path, found in one.found.members if one.found else ():
            if found.verdict is not Verdict.IDENTICAL:
                yield plain(path)


def with_emulated(held: Sequence[Held], files: Sequence[Path]) -> tuple[Held, ...]:
    """`held`, with whether the emulated build, which gave `files`, has the same bytes."""
    sums: Mapping[str, str] = {file.name: file_sha256(file) for file in files if file.name.endswith(SUFFIXES)}
    return tuple(replace(one, emulated=sums.get(one.name, "") == one.sha256) for one in held)
