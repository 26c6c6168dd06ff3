"""Sources that are trees: a directory of the project, a checkout. Each becomes a deterministic tar file."""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
from collections.abc import Collection, Iterator
from pathlib import Path

from xbuild.base.digest import file_sha256
from xbuild.base.errors import SourceError

_VERSION_CONTROL = (".git", ".hg", ".svn")
_TREE_TIME = 315532800
"""1980-01-01 00:00 UTC, the mtime of all files of a path tree: the earliest that zip archives can hold."""
def _files(top: Path, without: Collection[str]) -> Iterator[tuple[str, Path]]:
    """Relative name and path of each file and link below `top`, sorted by the bytes of the name.

    without: names that are left out wherever they are.
    """
    found = []
    for directory, directories, files in os.walk(top, onerror=_unreadable):
        directories[:] = [name for name in directories if name not in without]
        links = [name for name in directories if Path(directory, name).is_symlink()]
        for name in (*files, *links):
            path = Path(directory, name)
            # A worktree's and a submodule's .git is a file.
            if name not in without:
                found.append((path.relative_to(top).as_posix(), path))
    return iter(sorted(found, key=lambda pair: os.fsencode(pair[0])))


def _unreadable(error: OSError) -> None:
    raise SourceError(f"{error.filename}: {error.strerror}") from error


def _special(path: Path) -> SourceError:
    return SourceError(f"{path}: neither a file nor a directory nor a link", hint="remove it from the source")


def tree_digest(path: Path) -> str:
    """sha256, in hex, of what the directory `path` holds: names, contents, executable bits, link targets.

    One record a file, sorted by name: the name, `f` or `x` (executable) and the sha256 in hex of the
    contents, or the name, `l` and the link's target; each part ends with a zero byte. Empty directories,
    owners and times do not count, nor do version control's own directories, which change without the tree changing.
    """
    return tree_hash(path).hexdigest()


def tree_hash(path: Path, without: Collection[str] = _VERSION_CONTROL) -> hashlib._Hash:
    """What `tree_digest` is made from, to go on with. without: names that are left out."""
    digest = hashlib.sha256()
    for parts in tree_records(path, without):
        digest.update(b"\0".join((*parts, b"")))
    return digest


def tree_records(path: Path, without: Collection[str] = _VERSION_CONTROL) -> Iterator[tuple[bytes, bytes, bytes]]:
    """The records of `tree_digest`: name, kind, and digest or target."""
    for name, file in _files(path, without):
        status = file.lstat()
        if stat.S_ISLNK(status.st_mode):
            kind, content = b"l", os.fsencode(file.readlink())
        elif stat.S_ISREG(status.st_mode):
            kind, content = (b"x" if status.st_mode & stat.S_IXUSR else b"f"), file_sha256(file).encode()
        else:
            raise _special(file)
        yield os.fsencode(name), kind, content


def archived_records(archive: Path) -> Iterator[tuple[bytes, bytes, bytes]]:
    """The records of the tree that `archive_tree` has written to the file `archive`."""
    with tarfile.open(archive, "r:") as tar:
        for member in tar:
            name, kind = os.fsencode(member.name), b"x" if member.mode & stat.S_IXUSR else b"f"
            if member.issym():
                yield name, b"l", os.fsencode(member.linkname)
                continue
            contents = tar.extractfile(member)
            assert contents is not None
            digest = hashlib.sha256()
            with contents:
                while chunk := contents.read(1 << 20):
                    digest.update(chunk)
            yield name, kind, digest.hexdigest().encode()


def archive_tree(
    path: Path, target: Path, *, seconds: int = _TREE_TIME, without: Collection[str] = _VERSION_CONTROL
) -> None:
    """Write the directory `path` as a tar file to `target`; trees of equal `tree_digest` give equal bytes.

    seconds: the time of all files, since 1970. without: names that are left out.
    """
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, file in _files(path, without):
            status = file.lstat()
            member = tarfile.TarInfo(name)
            member.mtime = seconds
            member.mode = 0o755 if status.st_mode & stat.S_IXUSR else 0o644
            if stat.S_ISLNK(status.st_mode):
                member.type, member.linkname, member.mode = tarfile.SYMTYPE, os.fspath(file.readlink()), 0o777
                archive.addfile(member)
            elif stat.S_ISREG(status.st_mode):
                member.size = status.st_size
                with file.open("rb") as stream:
                    archive.addfile(member, stream)
            else:
                raise _special(file)
