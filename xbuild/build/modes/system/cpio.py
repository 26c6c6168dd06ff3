"""Archives that Linux unpacks as its first file system (initramfs): cpio in the `newc` format."""

from __future__ import annotations

import stat
from collections.abc import Mapping

_MAGIC = b"070701"
_END = "TRAILER!!!"


def archive(files: Mapping[str, bytes], *, programs: frozenset[str] = frozenset()) -> bytes:
    """An archive with `files`, contents by path without a leading slash; the directories above them come by themselves.

    programs: which of them may be executed. Several archives, one after the other, are one to Linux
    (Documentation/driver-api/early-userspace/buffer-format.rst in its sources, which has the format too).
    """
    folders: dict[str, None] = {}
    for path in sorted(files):
        parts = path.split("/")
        folders |= dict.fromkeys("/".join(parts[:depth]) for depth in range(1, len(parts)))
    entries = [(path, stat.S_IFDIR | 0o755, b"") for path in folders]
    entries += [
        (path, stat.S_IFREG | (0o755 if path in programs else 0o644), data) for path, data in sorted(files.items())
    ]
    packed = [_entry(number, *entry) for number, entry in enumerate(entries, 1)]
    return b"".join([*packed, _entry(0, _END, 0, b"")])


def _entry(number: int, path: str, mode: int, data: bytes) -> bytes:
    name = path.encode() + b"\0"
    # inode, mode, uid, gid, links, time, size, device (2), device's own (2), length of the name, checksum (unused)
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0)
    head = _MAGIC + b"".join(b"%08X" % field for field in fields) + name
    return _padded(head) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
