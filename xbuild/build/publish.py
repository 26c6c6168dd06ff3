"""Hands out what was built: copies in the form that is wished for, and papers about them, in the project."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from xbuild.base import log, process
from xbuild.base.digest import file_sha256, read_json
from xbuild.base.errors import UsageError
from xbuild.base.paths import callers_umask
from xbuild.base.walk import walk
from xbuild.build import papers
from xbuild.build.artifact import ARCHIVE, DEBUG_ARCHIVE
from xbuild.build.papers.spdx import files_of
from xbuild.build.phases import keep_copy, keep_text
from xbuild.build.subject import Subject
from xbuild.model.handing import Form
from xbuild.store.local import writing_below
from xbuild.store.moment import for_a_moment

MANIFEST = ".manifest.json"
_SPECIAL = stat.S_ISUID | stat.S_ISGID


@dataclass(frozen=True)
class Handed:
    """The files that a build gave. artifact: an archive or a directory, described as in the manifest by `described`.

    debug: the same of debug information, if it was split off. papers: files about it, by what they are.
    """

    artifact: Path
    described: Mapping[str, Any]
    manifest: Path
    debug: Path | None
    described_debug: Mapping[str, Any] | None
    papers: Mapping[str, Path] = field(default_factory=dict)

    @property
    def files(self) -> tuple[Path, ...]:
        """The artifact, and debug information."""
        return tuple(file for file in (self.artifact, self.debug) if file is not None)


def in_store(subject: Subject, entry: Path) -> Handed:
    """What lies in the store, the artifact's `entry`."""
    manifest = entry / f"{subject.file_name}{MANIFEST}"
    told = read_json(manifest)
    debug = entry / f"{subject.file_name}{DEBUG_ARCHIVE}"
    archive = entry / f"{subject.file_name}{ARCHIVE}"
    return Handed(archive, told["artifact"], manifest, debug if debug.exists() else None, told.get("debug"))


def publish(subject: Subject, there: Handed) -> Handed:
    """Put copies of what is in the store into `dist/` of the project, and the papers that are wished for.

    The copies have the form that the request or the recipe wishes for, and are the same each time; the manifest tells
    of them. Raises MachineError if they cannot be written, UsageError if a directory of somebody else's is in the way.
    """
    form = subject.request.here.format or subject.recipe.artifact.format
    folder, store = subject.project / "dist", subject.store
    with writing_below(store.root), for_a_moment(store, "published") as place:
        tars = {file: _plain(file, place) for file in there.files} if form != "tar.zst" else {}
        handed = _in_form(there, folder, form, tars) if tars else _as_it_is(there, folder)
        return replace(handed, papers=_papers(subject, there, folder, place))


def _as_it_is(there: Handed, folder: Path) -> Handed:
    copies = [keep_copy(file, folder / file.name) for file in (there.manifest, *reversed(there.files))]
    return replace(there, artifact=copies[-1], manifest=copies[0], debug=copies[1] if there.debug else None)


def _in_form(there: Handed, folder: Path, form: Form, tars: Mapping[Path, Path]) -> Handed:
    copies = [_Copy(file, folder, form, tar) for file, tar in tars.items()]
    told = read_json(there.manifest)
    for name, copy in zip(("artifact", "debug"), copies, strict=False):
        told[name] = {**copy.described, "packed": told[name]}
    for copy in copies:
        copy.put()
    manifest = folder / there.manifest.name
    keep_text(json.dumps(told, indent=1) + "\n", manifest)
    more = copies[1] if len(copies) > 1 else None
    return Handed(
        copies[0].place, copies[0].described, manifest, more.place if more else None, more.described if more else None
    )


def _papers(subject: Subject, there: Handed, folder: Path, scratch: Path) -> dict[str, Path]:
    """Write the papers; give their files, by what they are."""
    here, own, told = subject.request.here, subject.recipe.artifact, read_json(there.manifest)
    made: dict[str, Any] = {}
    if here.sbom or own.sbom:
        made["sbom"] = papers.sbom(told, files_of(_plain(there.artifact, scratch)))
    if here.provenance or own.provenance:
        made["provenance"] = papers.provenance(told)
    files = {name: folder / f"{subject.file_name}{papers.ENDINGS[name]}" for name in made}
    for name, file in files.items():
        keep_text(json.dumps(made[name], indent=1) + "\n", file)
    return files


def _plain(archive: Path, scratch: Path) -> Path:
    """What is in `archive`, as a plain tar in `scratch`."""
    tar = scratch / f"{archive.name.removesuffix(ARCHIVE)}.tar"
    if not tar.exists():
        process.run(["zstd", "-dq", "-o", tar, archive], capture=True)
    return tar


class _Copy:
    """An archive in another form, made beside its `tar`, or beside its place in `folder` if it is a directory.

    described: what the manifest says of it; the sha256 of a directory is that of a plain tar of it.
    """

    def __init__(self, archive: Path, folder: Path, form: Form, tar: Path) -> None:
        name = archive.name.removesuffix(ARCHIVE)
        self.place = folder / (name if form == "dir" else f"{name}.{form}")
        if form == "dir":
            self._made, measured, size = _unpacked(tar, self.place)
        else:
            self._made = measured = tar.with_name(self.place.name)
            with self._made.open("wb") as stream:
                # Neither name nor time in it: the same at any place and on any day.
                process.run(["gzip", "-n", "-9", "-c", tar], stdout=stream)
            size = self._made.stat().st_size
        self.described: Mapping[str, Any] = {
            "file": self.place.name, "form": form, "bytes": size, "sha256": file_sha256(measured),
        }  # fmt: skip

    def put(self) -> None:
        """Put it into its place."""
        if self.described["form"] != "dir":
            keep_copy(self._made, self.place)
            return
        with writing_below(self.place.parent):
            old = self.place.with_name(f".{self.place.name}.old.new")
            _remove(old)
            if os.path.lexists(self.place):
                self.place.rename(old)
            self._made.rename(self.place)
            _remove(old)


def _remove(path: Path) -> None:
    """Remove a directory of the user's with all below it, some of which he may not have been to read."""
    process.run(["sh", "-c", 'chmod -R u+rwX -- "$1" 2> /dev/null; rm -rf -- "$1"', "sh", path])


def _unpacked(tar: Path, place: Path) -> tuple[Path, Path, int]:
    """A new directory beside `place` with what `tar` holds, `tar`, and the bytes of the files in it."""
    ours = place.with_name(f".{place.name}.dir")
    if os.path.lexists(place) and not ours.exists():
        raise UsageError(f"{place} is in the way, and no build has put it there", hint="move it away")
    with writing_below(place.parent):
        place.parent.mkdir(parents=True, exist_ok=True)
        beside = place.with_name(f".{place.name}.new")
        _remove(beside)
        # Closed to others as long as there are set-uid files in it.
        beside.mkdir(mode=0o700)
        process.run(["tar", "--force-local", "-xpf", tar, "-C", beside], capture=True)
        nodes = [visit.node for visit in walk(beside, lambda *_: None)]
        files = [node for node in nodes if node.kind == stat.S_IFREG]
        odd = [node for node in files if node.mode & _SPECIAL and os.geteuid() != 0]
        for node in odd:
            os.chmod(beside / os.fsdecode(node.path), stat.S_IMODE(node.mode) & ~_SPECIAL)  # noqa: PTH101
        if odd:
            log.warn(f"{place}: {len(odd)} files are set-uid or set-gid in archives only: here they are yours")
        beside.chmod(0o777 & ~callers_umask())
        ours.touch()
    return beside, tar, sum(node.size for node in files)
