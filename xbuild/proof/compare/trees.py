"""The files of a finished build: listed, and copied out where they are to be looked at more closely."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import sys
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from xbuild.base import process
from xbuild.build.environment import DEBUG
from xbuild.proof.compare.files import Entry, Listing
from xbuild.proof.compare.scan import Row, rows
from xbuild.sandbox.run import machine_view, run

_SCAN = Path(__file__).with_name("scan.py")
_SKIPPED = ("dest", "run", DEBUG)
"""Of a build tree: what was installed is in the artifacts, and the phases' scripts are ours."""

_LOGS = re.compile(r"\.log(\.[^/]*)?$")
_COPY = 'cd "$1" && xargs -0 -r cp --parents --no-preserve=mode,ownership -t "$2" -- < "$3"'


class Artifact:
    """What `archives`, each a `.tar.zst`, hold together. scratch: a directory of its own, to unpack into.

    Raises PhaseError if zstd cannot read them.
    """

    def __init__(self, archives: Sequence[Path], scratch: Path) -> None:
        scratch.mkdir(parents=True)
        self._files = scratch / "artifact"
        self._of: dict[str, Path] = {}
        self.listing: Listing = {}
        for number, archive in enumerate(archives):
            plain = scratch / f"artifact-{number}.tar"
            process.run(["zstd", "-dq", "-o", plain, archive], capture=True)
            found = _listed(plain)
            self.listing = {**found, **self.listing}
            self._of = {**dict.fromkeys(found, plain), **self._of}

    def take(self, paths: Iterable[str]) -> None:
        """Copy these files out, for `file`."""
        with contextlib.ExitStack() as stack:
            tars = {plain: stack.enter_context(tarfile.open(plain)) for plain in set(self._of.values())}
            for path in paths:
                place = self.file(path)
                source = tars[self._of[path]].extractfile(path)
                if source is None or place.exists():
                    continue
                place.parent.mkdir(parents=True, exist_ok=True)
                with source, place.open("wb") as stream:
                    shutil.copyfileobj(source, stream)

    def file(self, path: str) -> Path:
        """Where `take` has put the file with this path."""
        return self._files / path


def _listed(plain: Path) -> dict[str, Entry]:
    with tarfile.open(plain) as tar:
        return {member.name: _entry(tar, member) for member in tar}


_KINDS = {
    tarfile.REGTYPE: "file",
    tarfile.DIRTYPE: "directory",
    tarfile.SYMTYPE: "link",
    tarfile.LNKTYPE: "hard link",
}


def _entry(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Entry:
    sha256 = ""
    if member.isreg() and (data := tar.extractfile(member)) is not None:
        sha256 = hashlib.file_digest(data, "sha256").hexdigest()  # type: ignore[arg-type]
    return Entry(
        _KINDS.get(member.type, "other"),
        member.mode,
        f"{member.uname or member.uid}/{member.gname or member.gid}",
        int(member.mtime),
        member.linkname,
        sha256,
        member.size,
    )


class BuildTree:
    """The build tree at `build` (/build inside), in which nothing may run. scratch: a directory of its own.

    listing: its ELF files and archives, by what they begin with. others: its other files, without logs.
    Raises PhaseError if it cannot be read.
    """

    def __init__(self, build: Path, scratch: Path) -> None:
        scratch.mkdir(parents=True, exist_ok=True)
        self._build = build
        self._scratch = scratch
        self._files = scratch / "objects"
        found = self._scanned()
        entries = {path: Entry("file", sha256=sha256, size=size) for path, _, size, sha256 in found}
        kinds = {path: kind for path, kind, _, _ in found}
        self.listing: Listing = {path: entry for path, entry in entries.items() if kinds[path] != "other"}
        self.others: Listing = {
            path: entry for path, entry in entries.items() if kinds[path] == "other" and not _LOGS.search(path)
        }

    def _scanned(self) -> list[Row]:
        if os.geteuid() == 0:
            return rows(str(self._build), _SKIPPED)
        output = self._scratch / "scan.json"
        run(machine_view(), [sys.executable, "-I", "-S", _SCAN, output, self._build, *_SKIPPED])
        return [(path, kind, size, sha256) for path, kind, size, sha256 in json.loads(output.read_text())]

    def take(self, paths: Iterable[str]) -> None:
        """Copy these files out, for `file`."""
        missing = [path for path in paths if not self.file(path).exists()]
        copy_out(self._build, missing, self._files)

    def file(self, path: str) -> Path:
        """Where `take` has put the file with this path."""
        return self._files / path


def copy_out(tree: Path, paths: Iterable[str], destination: Path) -> None:
    """Copy these files of `tree`, whoever owns them, to the directory `destination`, with those above them."""
    destination.mkdir(exist_ok=True)
    names = destination.with_name(f"{destination.name}.names")
    names.write_bytes(b"".join(os.fsencode(path) + b"\0" for path in paths))
    command: Sequence[str | Path] = ["sh", "-euc", _COPY, "sh", tree, destination, names]
    # Root of the machine is nobody in a sandbox of ours, and can read all without one.
    if os.geteuid() == 0:
        process.run(command)
    else:
        run(machine_view(), command)
    names.unlink()
