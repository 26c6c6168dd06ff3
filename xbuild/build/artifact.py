"""Packing a finished build: the same tree gives the same archive, bit by bit."""

from __future__ import annotations

import errno
import itertools
import os
import stat
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from xbuild.base import process
from xbuild.base.errors import CheckError
from xbuild.base.walk import Node, Visit, kind_of, shown, walk

ARCHIVE: Final = ".tar.zst"
DEBUG_ARCHIVE: Final = f"-debug{ARCHIVE}"
"""How the names of a build's archives end, the one with debug information too, which not every build has."""

LEVEL: Final = 10
"""zstd's compression level: beyond it, time grows faster than archives shrink."""

_PACKABLE = (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK)


def pack(
    tree: Path,
    destination: Path,
    epoch: int,
    modes: Mapping[bytes, int] | None = None,
    checked: Iterable[Node] | None = None,
    owners: Mapping[bytes, tuple[int, int]] | None = None,
) -> None:
    """Write the contents of the directory `tree` to `destination`, a `.tar.zst`.

    Entries are sorted and belong to root:root, or as `owners` says (uid, gid by path); no time is later than `epoch`,
    in seconds since 1970.
    Hard links stay hard links; extended attributes are left out. `destination` appears only when complete.
    modes: those of what has another mode on the disk than it is to have, by path below `tree`. checked: all that the
    tree may hold, from a walk; None: whatever it holds.
    Raises CheckError for sockets, fifos and devices, and for what is not, or no longer, as it was checked; PhaseError
    if zstd fails, MachineError if there is none.
    """
    archive = destination.with_name(destination.name + ".tar.part")
    packed = destination.with_name(destination.name + ".part")
    # A file, not a pipe: zstd chooses by the size, and notes it. Its output is the same for any number of
    # threads but --single-thread (zstd(1)); given here, level and threads do not come from the environment.
    command: list[process.Argument] = [
        "zstd",
        f"-{LEVEL}",
        "-T0",
        "--force",
        "--quiet",
        archive,
        "-o",
        packed,
    ]
    try:
        _write_tar(tree, archive, epoch, checked, _Kept(modes or {}, owners or {}))
        process.run(command, capture=True)
        packed.replace(destination)
    finally:
        archive.unlink(missing_ok=True)
        packed.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Kept:
    """What entries have that is not so on the disk; see `pack`."""

    modes: Mapping[bytes, int]
    owners: Mapping[bytes, tuple[int, int]]


def _write_tar(tree: Path, archive: Path, epoch: int, checked: Iterable[Node] | None, kept: _Kept) -> None:
    first_names: dict[tuple[int, int], bytes] = {}
    expected = None if checked is None else iter(checked)
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        for visit in walk(tree):
            node = visit.node
            if node.kind not in _PACKABLE:
                message = f"{shown(node.path)}: {kind_of(node.mode)} cannot be part of an artifact"
                raise CheckError(message, hint="remove it in the recipe's after-install")
            if expected is not None and next(expected, None) != node:
                raise _changed(node)
            first_name = first_names.setdefault(node.inode, node.path)
            _add(tar, visit, epoch, kept, first_name)
    for node in itertools.islice(expected or (), 1):
        raise _changed(node)


def _add(tar: tarfile.TarFile, visit: Visit, epoch: int, kept: _Kept, first_name: bytes) -> None:
    """Add a node. first_name: of the same file, which may have several."""
    node = visit.node
    entry = tarfile.TarInfo(os.fsdecode(node.path))
    entry.mode = stat.S_IMODE(kept.modes.get(node.path, node.mode))
    # Without a name the number counts: what the root that it was built in calls it is not what another one does.
    entry.uid, entry.gid = kept.owners.get(node.path, (0, 0))
    entry.uname, entry.gname = ("" if number else "root" for number in (entry.uid, entry.gid))
    # Whole seconds also keep sub-second times out of the extended headers.
    entry.mtime = min(node.mtime // 1_000_000_000, epoch)
    if node.kind == stat.S_IFDIR:
        entry.type = tarfile.DIRTYPE
    elif node.kind == stat.S_IFLNK:
        entry.type, entry.linkname = tarfile.SYMTYPE, os.fsdecode(node.target)
    elif first_name != node.path:
        entry.type, entry.linkname = tarfile.LNKTYPE, os.fsdecode(first_name)
    else:
        entry.size = node.size
        try:
            with visit.open() as stream:
                tar.addfile(entry, stream)
                visit.require_same(stream)
        except OSError as error:
            if error.errno == errno.ESTALE:
                raise _changed(node) from error
            raise
        return
    tar.addfile(entry)


def _changed(node: Node) -> CheckError:
    return CheckError(
        f"{shown(node.path)}: not as it was when it was checked, so it is not packed",
        hint="build again; does a program of the recipe write there?",
    )
