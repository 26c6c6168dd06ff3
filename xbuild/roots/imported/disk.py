"""Disk images: which part of one holds the root, read without root rights and without loop devices.

util-linux's partx and blkid read the table and the signatures, e2fsprogs' debugfs the files; all run in the sandbox.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xbuild.base import process
from xbuild.base.errors import MachineError, UsageError
from xbuild.roots.imported.view import SCRATCH, SOURCE, TREE, Workshop
from xbuild.sandbox.run import ROOT_PATH

_SECTOR = 512
"""Of partx's figures."""

_EXT = ("ext2", "ext3", "ext4")
_PROGRAMS = {"partx": "util-linux", "blkid": "util-linux", "debugfs": "e2fsprogs"}
_ENCRYPTED = ("crypto_LUKS", "BitLocker", "FVE-FS")


@dataclass(frozen=True)
class Partition:
    """number: 0 for an image that is one file system without a table. offset, size: in bytes. kind: as blkid says."""

    number: int
    offset: int
    size: int
    kind: str = ""

    def __str__(self) -> str:
        return f"partition {self.number}" if self.number else "the whole image"


def is_disk(start: bytes) -> bool:
    """Whether the first 4 KiB of a file are those of a disk with a table, or of an ext2/3/4 file system.

    UEFI specification, 5.2 and 5.3: the MBR ends with 55 aa, a GPT's header begins with `EFI PART`; the superblock of
    ext2 begins at byte 1024, with its magic number at byte 56 of it (kernel documentation, ext4/super.rst).
    """
    return start[510:512] == b"\x55\xaa" or start[512:520] == b"EFI PART" or start[1080:1082] == b"\x53\xef"


def parse_table(lines: Sequence[str]) -> list[Partition]:
    """The partitions that `partx --pairs` tells."""
    found = []
    for line in lines:
        fields = dict(word.split("=", 1) for word in shlex.split(line) if "=" in word)
        if {"NR", "START", "SECTORS"} <= fields.keys():
            numbers = [int(fields[name]) for name in ("NR", "START", "SECTORS")]
            found.append(Partition(numbers[0], numbers[1] * _SECTOR, numbers[2] * _SECTOR))
    return found


def parse_kind(lines: Sequence[str]) -> str:
    """The type in what `blkid --probe --output export` says; empty if it knows none."""
    return next((line.partition("=")[2] for line in lines if line.startswith("TYPE=")), "")


def find_root(workshop: Workshop, image: Path, wanted: int | None) -> Partition:
    """The partition of `image` that holds the root; wanted: its number, where the user named one.

    Raises UsageError if there is none that can be read, MachineError if a program is missing.
    """
    for program, package in _PROGRAMS.items():
        if shutil.which(program, path=ROOT_PATH) is None:
            raise MachineError(f"program not found: {program}", hint=f"install the package {package}")
    known = _partitions(workshop, image)
    if wanted is not None:
        known = [partition for partition in known if partition.number == wanted]
        if not known:
            raise UsageError(f"{workshop.title}: there is no partition {wanted}")
    size = image.stat().st_size
    for partition in known:
        if partition.offset + partition.size > size and (partition.kind in _EXT or wanted is not None):
            missing = partition.offset + partition.size - size
            raise UsageError(
                f"{workshop.title}: {partition} ends {missing} bytes behind the end of the image",
                hint="the image is cut off: get it again, and compare its checksum",
            )
    good = [partition for partition in known if partition.kind in _EXT and _has_shell(workshop, image, partition)]
    if len(good) == 1:
        return good[0]
    if good:
        numbers = ", ".join(str(partition.number) for partition in good)
        raise UsageError(f"{workshop.title}: partitions {numbers} all hold a root", hint="name one: --partition NUMBER")
    raise _no_root(workshop, known)


def extract(workshop: Workshop, image: Path, partition: Partition) -> dict[str, Any]:
    """Copy the files of `partition` into the workshop's tree; give what is to be told.

    Raises UsageError if its file system is damaged or holds what debugfs cannot read, OSError if the disk is full.
    """
    place = f"{SOURCE}?offset={partition.offset}"

    def debugfs(commands: str, to: str) -> None:
        script = 'exec debugfs -f "$1" "$2" > "$3"'
        _complain(workshop, workshop.says(["sh", "-euc", script, "sh", commands, place, to], image)[1])

    _complain(workshop, workshop.says(["debugfs", "-R", f"rdump / {TREE}", place], image)[1])
    commands, listing, doubts, flags = (f"{SCRATCH}/{name}" for name in ("commands", "listing", "doubts", "flags"))
    workshop.job("folders", into=TREE, commands=commands)
    debugfs(commands, listing)
    # Encrypted are only the files that say so; debugfs copies what is on the disk.
    features = " ".join(workshop.says(["debugfs", "-R", "features", place], image)[1]).split()
    every = "encrypt" in features
    workshop.job("doubts", into=TREE, commands=commands, listing=listing, doubts=doubts, every=every)
    debugfs(doubts, flags)
    return workshop.job("correct", into=TREE, commands=commands, listing=listing, flags=flags)


def _complain(workshop: Workshop, lines: Sequence[str]) -> None:
    """debugfs ends with 0 whatever happened; its first line is its version."""
    wrong = [line for line in lines if line and not line.startswith("debugfs 1.")]
    if full := process.disk_full(wrong):
        raise full
    if wrong:
        hint = "e2fsck -fn on the image shows more; get it again, and compare its checksum"
        raise UsageError(f"{workshop.title}: its file system is damaged", details=wrong[:10], hint=hint)


def _no_root(workshop: Workshop, known: Sequence[Partition]) -> UsageError:
    shown = [f"{partition}: {partition.kind or 'no file system that blkid knows'}" for partition in known]
    encrypted = next((partition for partition in known if partition.kind in _ENCRYPTED), None)
    if encrypted is not None:
        hint = "open it on a machine that has its key (cryptsetup), and import the directory"
        return UsageError(f"{workshop.title}: {encrypted} is encrypted ({encrypted.kind})", details=shown, hint=hint)
    hint = "ext2, ext3 and ext4 can be read without root; for another one, mount it and import the directory"
    return UsageError(f"{workshop.title}: no partition holds a root with /bin/sh", details=shown, hint=hint)


def _partitions(workshop: Workshop, image: Path) -> list[Partition]:
    size = image.stat().st_size
    whole = parse_kind(_blkid(workshop, image, 0))
    if whole:
        return [Partition(0, 0, 0, whole)]
    code, lines = workshop.says(["partx", "--pairs", "--output", "NR,START,SECTORS", SOURCE], image)
    found = parse_table(lines) if code == 0 else []
    if not found:
        hint = "fdisk --list shows what is in an image"
        raise UsageError(f"{workshop.title}: no partition table, or a damaged one", details=lines[-5:], hint=hint)
    return [
        Partition(part.number, part.offset, part.size, parse_kind(_blkid(workshop, image, part.offset)))
        for part in found
        if part.offset < size
    ]


def _blkid(workshop: Workshop, image: Path, offset: int) -> list[str]:
    command = ["blkid", "--probe", "--offset", str(offset), "--usages", "filesystem,crypto", "--output", "export"]
    return workshop.says([*command, SOURCE], image)[1]


def _has_shell(workshop: Workshop, image: Path, partition: Partition) -> bool:
    # /bin is a link to usr/bin in most of them, which debugfs follows.
    command = ["debugfs", "-R", "stat /bin/sh", f"{SOURCE}?offset={partition.offset}"]
    return any(line.startswith("Inode:") for line in workshop.says(command, image)[1])
