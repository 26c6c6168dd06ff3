"""A directory as one blob, and back: by a stranger too, so nothing is taken on trust but what is counted and named."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import tarfile
import zlib
from pathlib import Path
from typing import IO

from xbuild.build.parcel.words import Item, name_fault, refused
from xbuild.sources import copy_of
from xbuild.sources.local import Local

_LEVEL = 4
"""Of gzip: of source text a quarter is left, at some 60 MB/s; level 9 saves another twentieth, at a third of that."""
_PIECE = 1 << 20
_DAMAGE = (tarfile.TarError, zlib.error, EOFError, ValueError, OverflowError, RecursionError, gzip.BadGzipFile)


def packed(local: Local, scratch: Path) -> tuple[Path, int]:
    """The files of `local` as a blob in the directory `scratch`, and its size before it was compressed.

    Equal trees give equal bytes. Raises ChangingError if one of them is another by now.
    """
    plain, small = scratch / "tree.tar", scratch / "tree.tar.gz"
    copy_of(local, local.records, plain)
    with (
        plain.open("rb") as source,
        small.open("wb") as target,
        # Neither a name nor a time of this machine.
        gzip.GzipFile("", "wb", _LEVEL, target, mtime=0) as compressed,
    ):
        shutil.copyfileobj(source, compressed, _PIECE)
    size = plain.stat().st_size
    plain.unlink()
    return small, size


def laid(item: Item, blob: Path, place: Path, scratch: Path) -> None:
    """Lay the tree `item`, which the file `blob` holds, into the directory `place`, which is not there yet.

    Nothing is written outside of it, nor more than the item says. Raises UsageError for what no sender packs.
    """
    plain = scratch / "tree.tar"
    try:
        with gzip.open(blob) as source, plain.open("wb") as target:
            _copy(source, target, item.size, f"{item.name} is larger than it says")
        place.mkdir(parents=True)
        with plain.open("rb") as stream, tarfile.open(fileobj=_Careful(stream), mode="r:") as tar:
            _lay(tar, item, place)
    except _DAMAGE as error:
        raise refused(f"{item.name} is no tree: {error}") from error
    except OSError as error:
        # Of a file and a directory of one name, and the like; gzip has no number for damage.
        if error.errno is not None and not isinstance(error, FileExistsError | NotADirectoryError):
            raise
        raise refused(f"{item.name} cannot be laid out: {error}") from error
    finally:
        plain.unlink(missing_ok=True)


class _Careful(io.RawIOBase):
    """A file of which nobody reads much at once: what tarfile takes for a header is in memory as a whole."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= 2 * _PIECE:
            raise tarfile.ReadError("a header of many megabytes")
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()


def _lay(tar: tarfile.TarFile, item: Item, place: Path) -> None:
    links: list[tuple[Path, str]] = []
    left = item.size
    for count, member in enumerate(tar, 1):
        if count > item.files:
            raise refused(f"{item.name} has more files than it says")
        if fault := name_fault(member.name):
            raise refused(fault)
        target = place / member.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if member.type == tarfile.SYMTYPE:
            links.append((target, member.linkname))
        elif member.type == tarfile.REGTYPE and member.sparse is None:
            left -= member.size
            if left < 0:
                raise refused(f"{item.name} is larger than it says")
            _write(tar, member, target)
        else:
            raise refused(f"{member.name!r} in {item.name} is neither a file nor a link")
    # Last, so that nothing is ever written through one; and nothing that is there is replaced.
    for target, leads in links:
        target.symlink_to(leads)


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    source = tar.extractfile(member)
    assert source is not None
    mode = 0o755 if member.mode & 0o100 else 0o644
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with source, os.fdopen(descriptor, "wb") as written:
        _copy(source, written, member.size, f"{member.name!r} is larger than it says")
        if written.tell() != member.size:
            raise refused(f"{member.name!r} is cut short")


def _copy(source: IO[bytes] | gzip.GzipFile, target: IO[bytes], most: int, complaint: str) -> None:
    while piece := source.read(_PIECE):
        most -= len(piece)
        if most < 0:
            raise refused(complaint)
        target.write(piece)
