"""Unpacking of archives: tar with any usual compression, and zip."""

from __future__ import annotations

import calendar
import contextlib
import lzma
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal

from xbuild import process
from xbuild.errors import SourceError
from xbuild.store import writing_below

_ZSTANDARD = b"\x28\xb5\x2f\xfd"
"""RFC 8878, 3.1.1: the magic number of a Zstandard frame."""

_ALL_ERRORS: Literal[2] = 2
"""tarfile's errorlevel at which a hard link to nothing, or a mode that cannot be set, is an error too."""

# KeyError: what tarfile raises for a hard link to a member that is not there.
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError, KeyError)


def unpack(archive: Path, destination: Path, strip: int = 1, name: str | None = None) -> None:
    """Unpack `archive` into the directory `destination`; the files keep their mtimes.

    strip: leading path components to drop; what has no more than these is left out. name: for messages.
    Raises SourceError if it is damaged, holds nothing after `strip`, or a member would leave `destination`.
    """
    what = name or str(archive)
    try:
        with writing_below(destination), _as_tar(archive, destination) as tar:
            count = _extract(tar, destination, strip)
    except tarfile.FilterError as error:
        hint = "an honest archive has no such member: check where it came from"
        raise SourceError(f"{what}: refused: {error}", hint=hint) from error
    except _DAMAGE as error:
        raise _damaged(what, error) from error
    except OSError as error:
        # gzip and bz2 tell damage by an OSError without a number.
        if error.errno is not None:
            raise
        raise _damaged(what, error) from error
    if not count:
        hint = "lower the source's strip in the recipe"
        raise SourceError(f"{what}: nothing is left without its {strip} leading path components", hint=hint)


def _damaged(what: str, error: Exception) -> SourceError:
    hint = "tar (plain, gz, bz2, xz, zst) and zip archives can be unpacked"
    return SourceError(f"{what}: not an archive, or damaged: {str(error) or type(error).__name__}", hint=hint)


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
            yield stack.enter_context(tarfile.open(fileobj=plain, mode="r:", errorlevel=_ALL_ERRORS))
        else:
            yield stack.enter_context(tarfile.open(archive, "r:*", errorlevel=_ALL_ERRORS))


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
            member.mtime = calendar.timegm((*entry.date_time, 0, 0, 0))
            # Archives made without unix attributes have 0.
            member.mode = stat.S_IMODE(mode) or 0o644
            if entry.is_dir():
                member.type = tarfile.DIRTYPE
                tar.addfile(member)
            elif stat.S_ISLNK(mode):
                member.type, member.linkname = tarfile.SYMTYPE, source.read(entry).decode()
                tar.addfile(member)
            else:
                member.size = entry.file_size
                with source.open(entry) as stream:
                    tar.addfile(member, stream)


def _stripped(name: str, strip: int) -> str:
    return "/".join([part for part in name.split("/") if part not in ("", ".")][strip:])


def _extract(tar: tarfile.TarFile, destination: Path, strip: int) -> int:
    count = 0

    def adapt(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo | None:
        nonlocal count
        name = _stripped(member.name, strip)
        if not name:
            return None
        # A hard link names another member, so it loses the same components; a symbolic link starts at itself.
        link = _stripped(member.linkname, strip) if member.islnk() else member.linkname
        safe = tarfile.data_filter(member.replace(name=name, linkname=link, deep=False), path)
        count += 1
        # Whatever the umask: the build runs as another user.
        return safe.replace(mode=0o755, deep=False) if safe.isdir() else safe

    tar.extractall(destination, filter=adapt)
    return count
