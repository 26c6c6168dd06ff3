"""Packing a finished build: the same tree gives the same archive, bit by bit."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from xbuild import process
from xbuild.errors import CheckError

LEVEL: Final = 10
"""zstd's compression level: beyond it, time grows faster than archives shrink."""

_PACKABLE = (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK)


def pack(tree: Path, destination: Path, epoch: int, modes: Mapping[bytes, int] | None = None) -> None:
    """Write the contents of the directory `tree` to `destination`, a `.tar.zst`.

    Entries are sorted and belong to root:root; no time is later than `epoch`, in seconds since 1970.
    modes: those of what has another mode on the disk than it is to have, by path below `tree`.
    Hard links stay hard links; extended attributes are left out. `destination` appears only when complete.
    Raises CheckError for sockets, fifos and devices, PhaseError if zstd fails, MachineError if there is none.
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
        _write_tar(tree, archive, epoch, modes or {})
        process.run(command, capture=True)
        packed.replace(destination)
    finally:
        archive.unlink(missing_ok=True)
        packed.unlink(missing_ok=True)


def _write_tar(tree: Path, archive: Path, epoch: int, modes: Mapping[bytes, int]) -> None:
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        for path in _sorted_tree(tree):
            if stat.S_IFMT(path.lstat().st_mode) not in _PACKABLE:
                raise CheckError(
                    f"{path}: a socket, fifo or device cannot be part of an artifact",
                    hint="remove it in the recipe's after-install",
                )
            entry = tar.gettarinfo(path, arcname=os.path.relpath(path, tree))
            entry.mode = modes.get(os.fsencode(path.relative_to(tree)), entry.mode)
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = "root"
            # Whole seconds also keep sub-second times out of the extended headers.
            entry.mtime = min(int(entry.mtime), epoch)
            if entry.isreg():
                with path.open("rb") as stream:
                    tar.addfile(entry, stream)
            else:
                tar.addfile(entry)


def _sorted_tree(directory: Path) -> Iterator[Path]:
    for path in sorted(directory.iterdir(), key=lambda entry: os.fsencode(entry.name)):
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _sorted_tree(path)
