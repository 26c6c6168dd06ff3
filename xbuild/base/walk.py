"""Reads trees that others made: by descriptors, however deep, never through a link, and only files are opened.

Standard library only: sandboxes load it too.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

LONGEST_PATH: Final = 4095
"""Bytes that a path may have for a system call: PATH_MAX without its final NUL (path_resolution(7))."""

_OPEN = os.O_RDONLY | os.O_CLOEXEC
_FOLDER = _OPEN | os.O_DIRECTORY | os.O_NOFOLLOW

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a fifo",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class NotFile(OSError):
    """What was to be read is there, but no regular file. strerror: `it is a fifo, not a file`."""

    strerror: str


@dataclass(frozen=True, slots=True)
class Node:
    """One name of a tree; two that are equal are the same file, not changed in between.

    path: relative to the top. mode: with the bits of the kind. size: bytes. mtime, ctime: nanoseconds since 1970.
    inode: with its device. links: how many names it has. target: of a symbolic link. owner: its uid and gid.
    device: of a device file, as in stat(2).
    """

    path: bytes
    mode: int
    size: int
    mtime: int
    ctime: int
    inode: tuple[int, int]
    links: int
    target: bytes = b""
    owner: tuple[int, int] = (0, 0)
    device: int = 0

    @property
    def kind(self) -> int:
        """One of stat.S_IFREG, S_IFDIR ..."""
        return stat.S_IFMT(self.mode)


@dataclass(frozen=True, slots=True)
class Visit:
    """A node while a walk is at it: `open` works until the walk goes on."""

    node: Node
    _folder: int
    _name: bytes

    def open(self) -> IO[bytes]:
        """The contents. Raises OSError if it is no regular file, cannot be read, or is not the node any more."""
        stream = open_file(self._name, folder=self._folder)
        try:
            self.require_same(stream)
        except BaseException:
            stream.close()
            raise
        return stream

    def attributes(self) -> dict[str, bytes]:
        """The extended attributes that the caller may see; none where a file system has none. Raises OSError."""
        # There is no call for a name in an open directory; nothing but the last part of this path can be a link.
        place = b"/proc/self/fd/%d/%s" % (self._folder, self._name)
        try:
            names = os.listxattr(place, follow_symlinks=False)
            return {name: os.getxattr(place, name, follow_symlinks=False) for name in names}
        except OSError as error:
            if error.errno != errno.ENOTSUP:
                raise
            return {}

    def require_same(self, stream: IO[bytes]) -> None:
        """Raise OSError if the open file `stream` is not, or is no longer, what the node says."""
        if _node(self.node.path, os.fstat(stream.fileno()), b"") != self.node:
            raise OSError(errno.ESTALE, "it changes while it is read")


def kind_of(mode: int) -> str:
    """What a mode's kind is, in words: `a fifo`."""
    return _KINDS.get(stat.S_IFMT(mode), "a file")


def open_file(name: bytes | str | Path, *, folder: int | None = None, follow: bool = False) -> IO[bytes]:
    """Open a regular file to read it. Raises NotFile for all else: a fifo would wait, a device may do anything.

    folder: descriptor of the directory that `name` is in. follow: `name` itself may be a link.
    """
    # Looked at before it is opened, for to open a device is to use it; and after, for it may be another one by then.
    _require_file(os.stat(name, dir_fd=folder, follow_symlinks=follow))
    descriptor = os.open(name, _OPEN | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW), dir_fd=folder)
    try:
        _require_file(os.fstat(descriptor))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _require_file(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise NotFile(errno.EINVAL, f"it is {kind_of(status.st_mode)}, not a file")


def shown(path: bytes | str) -> str:
    """`path` as any terminal, log and JSON can take it, in one line."""
    text = path.decode(errors="backslashreplace") if isinstance(path, bytes) else path
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


@dataclass(slots=True)
class _Level:
    """A directory that the walk is in. names: those still to come, the next one last."""

    prefix: bytes
    names: list[bytes]
    inode: tuple[int, int]


def walk(
    top: Path, unreadable: Callable[[bytes, OSError], None] | None = None, skipped: Collection[bytes] = ()
) -> Iterator[Visit]:
    """All names below the directory `top`, each directory before what is in it, sorted by the bytes of the names.

    unreadable: told the path and why, where something cannot be looked at; without it that is raised, as OSError.
    skipped: names directly below `top`.
    """
    folder = os.open(top, _OPEN | os.O_DIRECTORY)
    try:
        levels = [_level(b"", folder)]
        levels[0].names = [name for name in levels[0].names if name not in skipped]
        while levels:
            level = levels[-1]
            if not level.names:
                levels.pop()
                folder = _upward(folder, levels[-1]) if levels else folder
                continue
            name = level.names.pop()
            path = level.prefix + name
            try:
                visit = Visit(_looked_at(path, name, folder), folder, name)
                below = _entered(name, folder) if visit.node.kind == stat.S_IFDIR else None
            except OSError as error:
                if unreadable is None:
                    raise
                unreadable(path, error)
                continue
            yield visit
            if below is not None:
                # One descriptor, whatever the depth.
                os.close(folder)
                folder = below
                levels.append(_level(path + b"/", folder))
    finally:
        os.close(folder)


def _level(prefix: bytes, folder: int) -> _Level:
    status = os.fstat(folder)
    names = sorted(map(os.fsencode, os.listdir(folder)), reverse=True)
    return _Level(prefix, names, (status.st_dev, status.st_ino))


def _looked_at(path: bytes, name: bytes, folder: int) -> Node:
    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    target = os.readlink(name, dir_fd=folder) if stat.S_ISLNK(status.st_mode) else b""
    return _node(path, status, target)


def _node(path: bytes, status: os.stat_result, target: bytes) -> Node:
    inode = (status.st_dev, status.st_ino)
    times = (status.st_mtime_ns, status.st_ctime_ns)
    owner = (status.st_uid, status.st_gid)
    return Node(path, status.st_mode, status.st_size, *times, inode, status.st_nlink, target, owner, status.st_rdev)


def _entered(name: bytes, folder: int) -> int:
    below = os.open(name, _FOLDER, dir_fd=folder)
    try:
        # There is no way back out of a directory that may be read but not searched.
        os.stat(".", dir_fd=below)
    except OSError:
        os.close(below)
        raise
    return below


def _upward(folder: int, level: _Level) -> int:
    above = os.open("..", _FOLDER, dir_fd=folder)
    status = os.fstat(above)
    if (status.st_dev, status.st_ino) != level.inode:
        os.close(above)
        raise OSError(errno.ESTALE, "a directory was moved while it was read", os.fsdecode(level.prefix) or ".")
    os.close(folder)
    return above
