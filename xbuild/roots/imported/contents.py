"""Brings what a source holds into a directory: what kind of source it is decides how."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xbuild.base import process
from xbuild.base.digest import file_sha256, key_of
from xbuild.base.errors import UsageError
from xbuild.base.walk import shown, walk
from xbuild.roots.imported import disk, image
from xbuild.roots.imported.view import SCRATCH, SOURCE, TREE, Workshop
from xbuild.sandbox import idmap
from xbuild.sandbox.run import capture, machine_view, remove_tree

_FOREIGN = {
    b"PK\x03\x04": ("a zip archive", "unzip it, and import what is in it"),
    b"QFI\xfb": ("a qcow2 image", "qemu-img convert -O raw makes one that can be read"),
    b"hsqs": ("a squashfs file system", "unsquashfs unpacks it; import the directory"),
    b"\x7fELF": ("a program", "name an archive, an image or a directory"),
    b"7z\xbc\xaf": ("a 7z archive", "7z x unpacks it"),
    b"KDMV": ("a VMDK image", "qemu-img convert -O raw makes one that can be read"),
}
"""What has no root that can be read, by first bytes: what it is, and what helps."""

# GNU format: no access times, which reading changes. Sorted: the digest is that of the contents.
_TAR = ("tar", "--create", "--force-local", "--sort=name", "--format=gnu", "--numeric-owner", "--one-file-system",
        "--ignore-failed-read", "--exclude=./proc/*", "--exclude=./sys/*", "--exclude=./dev/*")  # fmt: skip
_NOT_IN_IT = (b"proc", b"sys", b"dev")
_ATTRIBUTES = "have capabilities or other extended attributes, which are left out"
_OF_FILES = ("security.capability", "system.posix_acl_", "user.")
_SHOWN = 5
_ZSTANDARD = b"\x28\xb5\x2f\xfd"
"""RFC 8878, 3.1.1: the magic number of a Zstandard frame."""


@dataclass
class Request:
    """What is to be imported. architecture: Debian's name of the target's, where an image holds several. partition: of
    a disk image. sha256: of the source, once it is known."""

    source: Path
    architecture: str | None = None
    partition: int | None = None
    sha256: str = ""
    remarks: list[str] = field(default_factory=list)


class Filler:
    """Fills a workshop's tree from one source."""

    def __init__(self, workshop: Workshop, request: Request) -> None:
        self._workshop = workshop
        self._request = request
        self._nobody_is_root = False

    def take(self) -> Path:
        """Make sure that the source can be read from inside, and know its digest; gives the file or image folder."""
        source = self._request.source
        if not source.exists():
            raise UsageError(f"{source}: there is no such file or directory")
        if not os.access(source, os.R_OK | (os.X_OK if source.is_dir() else 0)):
            raise UsageError(f"{source}: you may not read it")
        if source.is_dir() and image.is_image(source):
            found = image.layers(source, self._request.architecture, str(source))
            self._request.sha256 = key_of([file_sha256(layer) for layer in found])
            return source
        if source.is_dir():
            source = self._packed(source)
        elif not source.is_file():
            raise UsageError(f"{source}: neither a file nor a directory")
        else:
            source = self._readable(source)
        self._request.sha256 = file_sha256(source)
        return source

    def _readable(self, source: Path) -> Path:
        """The file `source`, or a copy: root inside is another user, who may read only what all may."""
        if source.stat().st_mode & stat.S_IROTH:
            return source
        copy = self._workshop.path / "copy"
        shutil.copyfile(source, copy)
        copy.chmod(0o644)
        return copy

    def fill(self, source: Path) -> None:
        """Fill the tree from what `take` gave. Raises UsageError for what cannot be read, with what helps."""
        if source.is_dir():
            self._layers(source)
            return
        source = self._without_zstd(source)
        start = bytes.fromhex(self._workshop.job("peek", source, archive=SOURCE)["start"])
        if _is_tar(start) or (_is_empty_tar(start) and not disk.is_disk(start)):
            report = self._untar(source, nobody_is_root=self._nobody_is_root)
            if image.is_image(self._workshop.tree):
                self._layers(self._aside())
            else:
                self._tell(report)
        elif disk.is_disk(start):
            self._disk(source, start)
        else:
            raise _unknown(self._workshop.title, start)

    def _without_zstd(self, source: Path) -> Path:
        """`source`, or what it is decompressed: Python knows the other compressions by itself."""
        with source.open("rb") as stream:
            if stream.read(4) != _ZSTANDARD:
                return source
        plain = self._workshop.scratch / f"plain-{source.name[:40]}"
        # --long=31: whatever window it was made with.
        command = ["zstd", "--decompress", "--quiet", "--long=31", "-o", f"{SCRATCH}/{plain.name}", SOURCE]
        code, lines = self._workshop.says(command, source)
        if code != 0:
            if full := process.disk_full(lines):
                raise full
            hint = "it is cut off or corrupt: get it again, and compare its checksum"
            raise UsageError(f"{self._workshop.title}: damaged: {' '.join(lines[-1:])}", hint=hint)
        return plain

    def _untar(self, source: Path, **words: Any) -> dict[str, Any]:
        return self._workshop.job("untar", source, archive=SOURCE, into=TREE, **words)

    def _aside(self) -> Path:
        folder = self._workshop.path / "image"
        self._workshop.tree.rename(folder)
        self._workshop.make()
        return folder

    def _layers(self, folder: Path) -> None:
        for layer in image.layers(folder, self._request.architecture, self._workshop.title):
            layer = self._readable(layer)
            plain = self._without_zstd(layer)
            self._tell(self._untar(plain, layer=True))
            if plain != layer:
                remove_tree(plain)

    def _disk(self, source: Path, start: bytes) -> None:
        with source.open("rb") as stream:
            plain = stream.read(len(start)) == start
        file = source
        if not plain:
            file = self._workshop.scratch / "image"
            self._workshop.job("inflate", source, archive=SOURCE, to=f"{SCRATCH}/image")
        partition = disk.find_root(self._workshop, file, self._request.partition)
        self._request.remarks.append(f"the root is that of {partition} ({partition.kind})")
        self._tell(disk.extract(self._workshop, file, partition))

    def _packed(self, folder: Path) -> Path:
        """The directory `folder` as a tar file: one way in for all."""
        self._nobody_is_root = not _mapped(folder.stat().st_uid)
        packed = self._workshop.scratch / "source.tar"
        if os.geteuid() == 0:
            done = process.run([*_TAR, f"--file={packed}", "-C", folder, "."], capture=True, check=False)
            code, said = done.returncode, done.stderr
            packed.chmod(0o644)
        else:
            # What is the user's own is root's in a root.
            ids = self._workshop.path / "ids"
            ids.write_text(f"+{idmap.IDS} root:0\n")
            owners = [f"--owner-map={ids}", f"--group-map={ids}"]
            command = [*_TAR, *owners, f"--file={packed}", "-C", str(folder), "."]
            code, said = capture(machine_view(), command)
        lines = said.decode(errors="replace").splitlines()
        if full := process.disk_full(lines):
            raise full
        if code > 1:
            raise UsageError(f"{folder} could not be read", details=lines[-5:])
        denied = [line for line in lines if "Permission denied" in line]
        self._tell({"attributes": [shown(path) for path in _with_attributes(folder)]})
        if denied:
            self._request.remarks.append(f"{len(denied)} files may not be read and are left out, e.g. {denied[0]}")
        return packed

    def _tell(self, report: Mapping[str, Any]) -> None:
        told = {
            "absolute": "have absolute names, taken from the root's top",
            "special": "are devices or sockets, and are left out: a sandbox has its own",
            "set-id": "lose their set-user-id or set-group-id bit: nothing gains rights in a sandbox",
            "attributes": _ATTRIBUTES,
            "other-ids": f"have owners from {idmap.IDS} on, and become root's",
        }
        for name, text in told.items():
            found: Sequence[str] = report.get(name, ())
            if found:
                some = ", ".join(found[:_SHOWN]) + (" ..." if len(found) > _SHOWN else "")
                self._request.remarks.append(f"{len(found)} members {text}: {some}")


def _with_attributes(folder: Path) -> list[bytes]:
    """The names below `folder` with capabilities, access control lists or attributes of users."""
    found = []
    for visit in walk(folder, unreadable=lambda _path, _error: None, skipped=_NOT_IN_IT):
        # What may not be read is told elsewhere.
        with contextlib.suppress(OSError):
            if any(name.startswith(_OF_FILES) for name in visit.attributes()):
                found.append(visit.node.path)
    return found


def _mapped(uid: int) -> bool:
    if uid == os.geteuid() != 0:
        return True
    return any(first <= uid < first + count for _, first, count in idmap.find().uids)


def _is_tar(start: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(start[:512], "utf-8", "surrogateescape")
    except tarfile.TarError:
        return False
    return True


def _is_empty_tar(start: bytes) -> bool:
    # Nothing but zeros; so begins a file system too, whose first KiB is for boot code.
    return len(start) >= 1024 and not any(start[:1024])


def _unknown(title: str, start: bytes) -> UsageError:
    for magic, (what, hint) in _FOREIGN.items():
        if start.startswith(magic):
            return UsageError(f"{title}: this is {what}", hint=hint)
    what = "it is empty" if not start else "neither a tar archive, a container image nor a disk image with ext4"
    return UsageError(f"{title}: {what}", hint="tar and disk images may be compressed by gzip, bzip2, xz or zstd")
