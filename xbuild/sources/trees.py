"""Sources that are trees: a directory of the project, a checkout. Each becomes a deterministic tar file."""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

from xbuild.base.digest import file_sha256
from xbuild.base.errors import ProjectSourceError, SourceError

VERSION_CONTROL = (".git", ".hg", ".svn")
TREE_TIME = 315532800
"""1980-01-01 00:00 UTC, the mtime of all files of a path tree: the earliest that zip archives can hold."""


class File(NamedTuple):
    """A file or link of a tree. name: relative to the tree; place: where it lies.

    Both are text: of a tree with a hundred thousand files, paths take longer to make than all else.
    """

    name: str
    place: str


class Record(NamedTuple):
    """What a digest has of a file. kind: `f`, `x` (executable) or `l` (a link); content: sha256 in hex, or target."""

    name: bytes
    kind: bytes
    content: bytes


def files_below(
    top: Path, without: Collection[str] = VERSION_CONTROL, *, but: str | None = None
) -> list[File]:
    """Each file and link below `top`, sorted by the bytes of its name.

    without: names that are left out wherever they are. but: a directory below `top`, relative to it, that is not read.
    """
    found, waiting = [], [("", os.fspath(top))]
    while waiting:
        prefix, folder = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    # A worktree's and a submodule's .git is a file.
                    if entry.name in without or f"{prefix}{entry.name}" == but:
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append((f"{prefix}{entry.name}/", entry.path))
                    else:
                        found.append(File(f"{prefix}{entry.name}", entry.path))
        except OSError as error:
            raise SourceError(f"{error.filename}: {error.strerror}") from error
    return in_order(found)


def in_order(files: Iterable[File]) -> list[File]:
    """The files as digests and archives have them."""
    return sorted(files, key=lambda file: os.fsencode(file.name))


def _special(place: str) -> SourceError:
    return SourceError(f"{place}: neither a file nor a directory nor a link", hint="remove it from the source")


def digest_of(records: Iterable[Record]) -> str:
    """sha256, in hex, of what a tree holds: names, contents, executable bits, link targets.

    One record a file, sorted by name: the name, `f` or `x` (executable) and the sha256 in hex of the
    contents, or the name, `l` and the link's target; each part ends with a zero byte. Empty directories,
    owners and times do not count.
    """
    return _hash(records).hexdigest()


def tree_hash(path: Path, without: Collection[str]) -> hashlib._Hash:
    """What `digest_of` is made from, of all below `path`, to go on with. without: names that are left out."""
    return _hash(tree_records(files_below(path, without)))


def _hash(records: Iterable[Record]) -> hashlib._Hash:
    digest = hashlib.sha256()
    for record in records:
        digest.update(b"\0".join((*record, b"")))
    return digest


def content_of(file: File, status: os.stat_result) -> bytes:  # noqa: ARG001
    """sha256, in hex, of a regular file, which `status` is of. Raises OSError."""
    return file_sha256(file.place).encode()


def tree_records(
    files: Iterable[File], sha256: Callable[[File, os.stat_result], bytes] = content_of
) -> Iterator[Record]:
    """The records of `digest_of`. A file that is removed meanwhile has none. Raises SourceError for what is no file."""
    for file in files:
        try:
            kind, content = _seen(file, sha256)
        except FileNotFoundError:
            continue
        except PermissionError as error:
            hint = "make it readable; what .gitignore names in a git work tree is no source"
            raise ProjectSourceError(f"{file.place}: cannot be read: {error.strerror}", hint=hint) from error
        yield Record(os.fsencode(file.name), kind, content)


def _seen(file: File, sha256: Callable[[File, os.stat_result], bytes]) -> tuple[bytes, bytes]:
    status = os.lstat(file.place)
    if stat.S_ISLNK(status.st_mode):
        return b"l", os.fsencode(Path(file.place).readlink())
    if stat.S_ISREG(status.st_mode):
        return _kind(status.st_mode), sha256(file, status)
    raise _special(file.place)


def _kind(mode: int) -> bytes:
    return b"x" if mode & stat.S_IXUSR else b"f"


def archived_records(archive: Path) -> Iterator[Record]:
    """The records of the tree that `archive_files` has written to the file `archive`."""
    with tarfile.open(archive, "r:") as tar:
        for member in tar:
            name = os.fsencode(member.name)
            if member.issym():
                yield Record(name, b"l", os.fsencode(member.linkname))
                continue
            contents = tar.extractfile(member)
            assert contents is not None
            digest = hashlib.sha256()
            with contents:
                while chunk := contents.read(1 << 20):
                    digest.update(chunk)
            yield Record(name, _kind(member.mode), digest.hexdigest().encode())


class _Hashed:
    """A stream whose bytes are hashed as they are read."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """As of any stream."""
        chunk = self._stream.read(size)
        self._digest.update(chunk)
        return chunk

    def hexdigest(self) -> bytes:
        """Of what was read."""
        return self._digest.hexdigest().encode()


def archive_files(files: Iterable[File], target: Path, *, seconds: int = TREE_TIME) -> Iterator[Record]:
    """Write the files as a tar file to `target`; give the records of what was written, whatever lies there by now.

    seconds: the time of all files, since 1970. Equal records give equal bytes. Raises OSError for a file that goes, or
    becomes shorter, meanwhile.
    """
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, place in files:
            status = os.lstat(place)
            member = tarfile.TarInfo(name)
            member.mtime = seconds
            member.mode = 0o755 if status.st_mode & stat.S_IXUSR else 0o644
            if stat.S_ISLNK(status.st_mode):
                member.type, member.linkname, member.mode = tarfile.SYMTYPE, os.fspath(Path(place).readlink()), 0o777
                archive.addfile(member)
                yield Record(os.fsencode(name), b"l", os.fsencode(member.linkname))
            elif stat.S_ISREG(status.st_mode):
                member.size = status.st_size
                with open(place, "rb") as stream:  # noqa: PTH123
                    hashed = _Hashed(stream)
                    archive.addfile(member, hashed)
                yield Record(os.fsencode(name), _kind(status.st_mode), hashed.hexdigest())
            else:
                raise _special(place)


def archive_tree(path: Path, target: Path, *, seconds: int = TREE_TIME) -> None:
    """Write all below the directory `path`, version control's own files too, as `archive_files` does."""
    for _ in archive_files(files_below(path, ()), target, seconds=seconds):
        pass
