"""Unpacking of archives: tar with any usual compression, and zip."""

from __future__ import annotations

import calendar
import contextlib
import errno
import itertools
import lzma
import os
import shutil
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from xbuild.base import process
from xbuild.base.errors import SourceError
from xbuild.store.local import writing_below

_ZSTANDARD = b"\x28\xb5\x2f\xfd"
"""RFC 8878, 3.1.1: the magic number of a Zstandard frame."""

_MAX_LINKS = 40
"""Links that Linux follows in one path (path_resolution(7)); with more it says ELOOP."""

_NO_LINK = (errno.EINVAL, errno.ENOENT, errno.ENOTDIR)
"""What readlink(2) says of what is there but no link, and of what is not there."""

_CONFLICTS = (errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL)
"""What system calls say if members do not go together, as a file and a directory of one name; or lie at no place."""

_VOLUME_LABEL = b"V"
"""GNU tar's --label: a member that names the archive, and is no file."""

_DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    ValueError,
    LookupError,
    # A time that no file can have.
    OverflowError,
    # Of zip: a way of compression that Python does not know.
    NotImplementedError,
    # Thousands of headers that each say something of the next one.
    RecursionError,
)


def unpack(
    archive: Path, destination: Path, strip: int = 1, name: str | None = None, *, into: str = "."
) -> None:
    """Unpack `archive` into `into`, a directory below `destination`, which may be missing; all keep their mtimes.

    Links are made as they are, wherever they lead, as tar does; nothing is written through one that leads outside of
    `destination`. strip: leading path components to drop; what has no more than these is left out. name: for messages.
    Raises SourceError if it is damaged, holds nothing after `strip`, or a member would leave the directory.
    """
    what = name or str(archive)
    try:
        with writing_below(destination):
            count = _unpacked(archive, destination, into, strip)
    except _Refused as error:
        hint = "an honest archive has no such member: check where it came from"
        raise SourceError(f"{what}: refused: {error}", hint=hint) from error
    except _DAMAGE as error:
        raise _damaged(what, error) from error
    if not count and not strip:
        raise SourceError(f"{what}: there is nothing in it")
    if not count:
        hint = "lower the source's strip in the recipe"
        raise SourceError(f"{what}: nothing is left without its {strip} leading path components", hint=hint)


def place_file(file: Path, destination: Path, name: str, *, into: str = ".") -> None:
    """Copy `file` as `name` into `into`, as `unpack` has it, with mode 0644 and the time 0.

    Raises SourceError if it would come to lie elsewhere, or `name` is none of a file.
    """
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise SourceError(f"{name!r} is no name that a file can have", hint="the recipe names it: `unpack: false`")
    try:
        with writing_below(destination):
            place = _directory(destination, into) / name
            # What is there can be a link, or have another name.
            place.unlink(missing_ok=True)
            shutil.copyfile(file, place)
            place.chmod(0o644)
            os.utime(place, (0, 0))
    except _Refused as error:
        raise SourceError(f"{name}: refused: {error}", hint="`into` of a source must stay where it is laid") from error


def _unpacked(archive: Path, destination: Path, into: str, strip: int) -> int:
    try:
        place = _directory(destination, into)
        with _as_tar(archive, place) as tar:
            return _extract(tar, place, strip)
    except OSError as error:
        # gzip and bz2 tell damage by an OSError without a number.
        if error.errno is None or error.errno in _CONFLICTS:
            raise tarfile.ReadError(str(error)) from error
        raise


def _damaged(what: str, error: Exception) -> SourceError:
    hint = "tar (plain, gz, bz2, xz, zst) and zip archives can be unpacked"
    # tarfile tells what it has tried, a line each.
    said = " ".join(str(error).split())
    return SourceError(f"{what}: not an archive, or damaged: {said or type(error).__name__}", hint=hint)


@contextlib.contextmanager
def _as_tar(archive: Path, scratch: Path) -> Iterator[tarfile.TarFile]:
    with contextlib.ExitStack() as stack:
        with archive.open("rb") as stream:
            is_zstandard = stream.read(4) == _ZSTANDARD
        if is_zstandard or (zipfile.is_zipfile(archive) and not tarfile.is_tarfile(archive)):
            plain = stack.enter_context(tempfile.TemporaryFile(dir=scratch))
            if is_zstandard:
                _decompress_zstandard(archive, plain)
            else:
                _zip_to_tar(archive, plain)
            plain.seek(0)
            yield stack.enter_context(tarfile.open(fileobj=plain, mode="r:"))
        else:
            yield stack.enter_context(tarfile.open(archive, "r:*"))


def _decompress_zstandard(archive: Path, plain: IO[bytes]) -> None:
    command: list[process.Argument] = ["zstd", "--decompress", "--quiet", "--stdout", archive]
    done = process.run(command, stdout=plain, check=False)
    if done.returncode != 0:
        raise tarfile.ReadError(f"zstd: {process.describe_exit(done.returncode)}")


def _zip_to_tar(archive: Path, plain: IO[bytes]) -> None:
    # As a tar file it goes through the same checks of names and links.
    with zipfile.ZipFile(archive) as source, tarfile.open(fileobj=plain, mode="w:") as tar:
        for entry in source.infolist():
            if entry.flag_bits & 1:
                raise zipfile.BadZipFile("it is encrypted")
            mode = entry.external_attr >> 16
            member = tarfile.TarInfo(entry.filename.rstrip("/"))
            # The times in a zip archive have no zone; UTC makes them the same on every machine.
            year, month, day, *clock = entry.date_time
            # Some write no date at all, which is month 0.
            member.mtime = calendar.timegm((year, max(month, 1), max(day, 1), *clock, 0, 0, 0))
            # Archives made without unix attributes have 0.
            member.mode = stat.S_IMODE(mode) or 0o644
            if entry.is_dir():
                member.type = tarfile.DIRTYPE
                tar.addfile(member)
            elif stat.S_ISLNK(mode):
                member.type, member.linkname = tarfile.SYMTYPE, os.fsdecode(source.read(entry))
                tar.addfile(member)
            else:
                member.size = entry.file_size
                with source.open(entry) as stream:
                    tar.addfile(member, stream)


class _Refused(Exception):
    """A member would be written outside the destination, or is a device."""


def _stripped(name: str, strip: int) -> str:
    return "/".join([part for part in name.split("/") if part not in ("", ".")][strip:])


def _followed(base: Path, path: str) -> Path:
    """Where the kernel gets to by `path` from the directory `base`, which has no links in its own path.

    What is not there yet counts as a directory. Raises OSError if this cannot be known; os.path.realpath then
    guesses, and an archive can bring that about with names that become too long.
    """
    place, todo, links = base, path.split("/")[::-1], 0
    while todo:
        part = todo.pop()
        if part == "..":
            place = place.parent
        elif part not in ("", "."):
            try:
                target = os.fspath((place / part).readlink())
            except OSError as error:
                if error.errno not in _NO_LINK:
                    raise
                place /= part
                continue
            links += 1
            if links > _MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            place = Path("/") if target.startswith("/") else place
            todo += target.split("/")[::-1]
    return place


def _directory(root: Path, name: str) -> Path:
    """The directory `name` below the directory `root`, made if it is missing; not through a link that leads outside."""
    top = root.resolve()
    place = _followed(top, name)
    if not place.is_relative_to(top):
        raise _Refused(f"{name!r} leads to {str(place)!r}, which is outside the source directory")
    _make_directory(place)
    return place


def _make_directory(place: Path) -> None:
    missing = list(itertools.takewhile(lambda path: not path.is_dir(), (place, *place.parents)))
    for path in reversed(missing):
        path.mkdir()
        # Whatever the umask: the build runs as another user.
        path.chmod(0o755)


class _Tree:
    """The directory that members are unpacked into; each sees the links that those before it have made."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._mtimes: dict[Path, float] = {}

    def add(self, tar: tarfile.TarFile, member: tarfile.TarInfo, name: str, strip: int) -> None:
        """Unpack `member` as `name`; a hard link names another member, so it loses `strip` components too."""
        place = _followed(self._root, name) if member.isdir() else self._unfollowed(name)
        if not place.is_relative_to(self._root):
            message = f"{name!r} would be extracted to {str(place)!r}, which is outside the destination"
            raise _Refused(message)
        if member.isdir():
            _make_directory(place)
            # Set at the end: what comes into it changes it.
            self._mtimes[place] = member.mtime
            return
        if not (member.isreg() or member.issym() or member.islnk() or member.isfifo()):
            raise _Refused(f"{name!r} is a device, or of a kind that nobody knows")
        _make_directory(place.parent)
        if member.islnk():
            self._make_hard_link(place, name, _stripped(member.linkname, strip))
            return
        # What is there can be a link, or have another name: only this name becomes the new file.
        place.unlink(missing_ok=True)
        if member.issym():
            if not member.linkname:
                raise tarfile.ReadError(f"{name!r} is a link to nothing")
            place.symlink_to(member.linkname)
        elif member.isfifo():
            os.mkfifo(place)
        else:
            _write_file(tar, member, place)
        if not member.issym():
            mode = member.mode & 0o755 if member.mode & 0o100 else member.mode & 0o644
            place.chmod(mode | 0o600)
        os.utime(place, (member.mtime, member.mtime), follow_symlinks=False)

    def finish(self) -> None:
        """Do what can only be done when all members are there."""
        for place, mtime in self._mtimes.items():
            os.utime(place, (mtime, mtime))

    def _unfollowed(self, name: str) -> Path:
        head, _, last = name.rpartition("/")
        return _followed(self._root, name) if last == ".." else _followed(self._root, head) / last

    def _make_hard_link(self, place: Path, name: str, target: str) -> None:
        source = self._unfollowed(target)
        if not source.is_relative_to(self._root):
            raise _Refused(f"{name!r} would link to {str(source)!r}, which is outside the destination")
        if not source.is_symlink() and not source.is_file() and not source.is_fifo():
            raise tarfile.ReadError(f"linkname {target!r} not found")
        if source != place:
            place.unlink(missing_ok=True)
            os.link(source, place, follow_symlinks=False)


def _write_file(tar: tarfile.TarFile, member: tarfile.TarInfo, place: Path) -> None:
    contents = tar.extractfile(member)
    assert contents is not None
    with contents, place.open("xb") as stream:
        shutil.copyfileobj(contents, stream)


def _extract(tar: tarfile.TarFile, destination: Path, strip: int) -> int:
    # Not by tarfile's extractall: its filters came with Python 3.11.4, and their rules differ by version.
    tree = _Tree(destination)
    count = 0
    for member in tar:
        name = _stripped(member.name, strip)
        if name and member.type != _VOLUME_LABEL:
            tree.add(tar, member, name, strip)
            count += 1
    tree.finish()
    return count
