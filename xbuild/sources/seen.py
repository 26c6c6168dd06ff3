"""Digests of files that were read before, so that an unchanged tree costs a look at each file and no reading.

As git's index has it (Documentation/technical/racy-git): a file is the one that was read if device, inode, mode, size,
and the times of its contents and of its inode are the same; the last one no program can set. A file that was changed
shortly before it was read is read again, for a change right after that may leave the same times. Only where the kernel
keeps these times itself: another machine's clock, or a file system without times of inodes, proves nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from pathlib import Path

from xbuild.base.digest import key_of
from xbuild.base.errors import MachineError
from xbuild.sources.trees import File, content_of
from xbuild.store.local import Store

PART = "digests"
"""The store's directory of them: a file for each tree."""

_FORMAT = b"xbuild: digests of files, 1"
_SETTLED = 60 * 10**9
"""Nanoseconds since a file's last change after which nothing new can come with the same times.

More than any clock's step (2 s), and than Linux takes to write back what a program changes by a mapping (30 s and 5 s,
vm.dirty_expire_centisecs and dirty_writeback_centisecs): before that, a further change by it leaves no trace.
"""
_OWN = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs", "bcachefs", "jfs", "overlay"})
"""File systems of this kernel's with times of inodes. Not tmpfs: what a mapping changes there leaves no trace."""
_UNUSED = 30 * 24 * 3600
"""Seconds after which what nobody has looked at is removed."""


class Seen:
    """What is known of the files of one tree."""

    def __init__(self, store: Store, top: Path) -> None:
        self._store = store
        self._top = os.path.realpath(top)
        self._file = store.root / PART / key_of(self._top)[:20]
        self._device = top.stat().st_dev if kind_of_system(self._top) in _OWN else None
        self._before = self._read() if self._device is not None else {}
        self._now: dict[bytes, tuple[bytes, bytes]] = {}
        self._began = time.time_ns()

    def sha256(self, file: File, status: os.stat_result) -> bytes:
        """sha256, in hex, of a regular file, which `status` is of. Raises OSError."""
        name, marks = os.fsencode(file.name), _marks(status)
        known = self._before.get(name)
        if known is not None and known[0] == marks:
            self._now[name] = known
            return known[1]
        digest = content_of(file, status)
        settled = status.st_dev == self._device and status.st_ctime_ns < self._began - _SETTLED
        if settled and _marks(os.lstat(file.place)) == marks:
            self._now[name] = (marks, digest)
        return digest

    def keep(self) -> None:
        """Write down what was seen, for the next time; what was not asked for again is forgotten."""
        # It only saves time: who merely plans makes no store for it, and a full disk is told by who needs room there.
        if self._store.root.is_dir():
            with contextlib.suppress(MachineError, OSError):
                self._write()

    def _write(self) -> None:
        if self._now == self._before:
            if self._now:
                os.utime(self._file)
            return
        folder = self._store.directory(PART)
        scratch = self._store.scratch(f"{PART}-{self._file.name}")
        try:
            scratch.write_bytes(_packed(self._now))
            scratch.replace(self._file)
        finally:
            self._store.discard(scratch)
        for file in folder.iterdir():
            if file.lstat().st_mtime < time.time() - _UNUSED:
                file.unlink(missing_ok=True)

    def _read(self) -> dict[bytes, tuple[bytes, bytes]]:
        try:
            return _unpacked(self._file.read_bytes())
        except OSError:
            return {}


def _marks(status: os.stat_result) -> bytes:
    """What is the same as long as a file is."""
    return b"%d %d %d %d %d %d" % (
        status.st_dev, status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns,
    )  # fmt: skip


def _packed(known: dict[bytes, tuple[bytes, bytes]]) -> bytes:
    body = b"\0".join(part for name, (marks, digest) in known.items() for part in (name, marks, digest))
    return b"\0".join((_FORMAT, hashlib.sha256(body).hexdigest().encode(), body))


def _unpacked(data: bytes) -> dict[bytes, tuple[bytes, bytes]]:
    """What `_packed` has written; nothing, if it is not as it was written."""
    form, digest, body = (*data.split(b"\0", 2), b"", b"")[:3]
    if form != _FORMAT or hashlib.sha256(body).hexdigest().encode() != digest:
        return {}
    parts = body.split(b"\0") if body else []
    return dict(zip(parts[::3], zip(parts[1::3], parts[2::3], strict=True), strict=True))


def kind_of_system(path: str, table: Path = Path("/proc/self/mountinfo")) -> str | None:
    """The kind of file system that `path`, a real path, lies on, as the kernel calls it; None if it does not say."""
    try:
        lines = table.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return None
    found: tuple[int, str | None] = (-1, None)
    for line in lines:
        # proc_pid_mountinfo(5): the place is the fifth field, the kind the first one behind a lone -.
        fields, _, behind = line.partition(" - ")
        place = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields.split(" ")[4])
        # A later mount at one place covers an earlier one.
        if f"{path}/".startswith(f"{place.rstrip('/')}/") and len(place) >= found[0]:
            found = (len(place), behind.split(" ")[0])
    return found[1]
