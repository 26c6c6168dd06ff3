"""Which twins ran: asked from the kernel, so that the dispatcher need not write anything down."""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

# <sys/inotify.h>
_IN_OPEN = 0x20
_IN_ONESHOT = 0x80000000
_IN_NONBLOCK = os.O_NONBLOCK
_IN_CLOEXEC = os.O_CLOEXEC
_EVENT = struct.Struct("iIII")

_libc = ctypes.CDLL(None, use_errno=True)


class Watch:
    """Reports each of a set of files that was opened (a program: executed) at least once."""

    def __init__(self, descriptor: int, files: dict[int, Path]) -> None:
        self._descriptor = descriptor
        self._files = files

    def opened(self) -> set[Path]:
        """The files opened so far."""
        found: set[Path] = set()
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._descriptor, 65536):
                place = 0
                while place < len(data):
                    number, _, _, length = _EVENT.unpack_from(data, place)
                    place += _EVENT.size + length
                    if number in self._files:
                        found.add(self._files[number])
        return found


@contextlib.contextmanager
def watching(files: Iterable[Path]) -> Iterator[Watch]:
    """Watch `files` for the block. Each tells once (IN_ONESHOT), so that a later exec costs nothing more.

    A file that cannot be watched (the user's limit of inotify watches is used up) is left out.
    """
    descriptor = _libc.inotify_init1(_IN_NONBLOCK | _IN_CLOEXEC)
    if descriptor < 0:
        yield Watch(os.open(os.devnull, os.O_RDONLY), {})
        return
    try:
        watched: dict[int, Path] = {}
        for file in files:
            number = _libc.inotify_add_watch(descriptor, os.fsencode(file), ctypes.c_uint32(_IN_OPEN | _IN_ONESHOT))
            if number >= 0:
                watched[number] = file
        yield Watch(descriptor, watched)
    finally:
        os.close(descriptor)
