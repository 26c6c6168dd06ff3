"""What a .deb or .udeb file holds (deb(5)): control fields, maintainer scripts, members; read without unpacking it.

Nothing is believed: what does not fit is an error, what becomes too large is not unpacked, and no name is used as a
path of this machine.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import hashlib
import io
import lzma
import re
import shutil
import struct
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Final, Literal

from xbuild.base import process
from xbuild.base.errors import CheckError, MachineError
from xbuild.formats.deb822 import Fields, paragraph
from xbuild.formats.elf import ElfError, open_members

SUFFIXES: Final = (".deb", ".udeb", ".ddeb")
"""How the names of binary packages end."""

Kind = Literal["file", "directory", "link", "hard link", "fifo", "device"]

_FORMAT: Final = "debian-binary"
MAGIC: Final = b"!<arch>\ndebian-binary"
"""First bytes of a .deb file."""
_CHUNK: Final = 1 << 20
_MOST_DATA: Final = 32 << 30
"""Bytes of data.tar; the longest in Debian have some 7 GB."""
_MOST_CONTROL: Final = 256 << 20
"""Bytes of control.tar: checksums are some 100 bytes a file."""
_LEFT: Final = 256 << 20
"""Bytes of the disk that nothing is unpacked into."""
_MOST_MEMBERS: Final = 2_000_000
_MOST_HEADER: Final = 1 << 20
"""Bytes of one header of a tar file, which may be a long name; paths have at most 4096."""
_MOST_MEMORY: Final = 1 << 30
"""Bytes that an xz stream may ask for: `xz -9` asks for 65 MiB."""
_BLOCK: Final = 512

_DAMAGE = (
    tarfile.TarError, zlib.error, lzma.LZMAError, struct.error, EOFError, ValueError, LookupError, OverflowError,
    RecursionError,
)  # fmt: skip
_KINDS: Final[dict[bytes, Kind]] = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.DIRTYPE: "directory",
    tarfile.SYMTYPE: "link",
    tarfile.LNKTYPE: "hard link",
    tarfile.FIFOTYPE: "fifo",
    tarfile.CHRTYPE: "device",
    tarfile.BLKTYPE: "device",
}
"""What dpkg unpacks; all else, also pax headers, it refuses (lib/dpkg/tarfn.c)."""


class DebError(CheckError):
    """A .deb file is broken, or is none.

    reason: the message without the name of the file, for who shows that in his own way.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}", hint="`dpkg-deb --info` and `dpkg-deb --contents` may tell more of it")
        self.reason = reason


@dataclass(frozen=True)
class Member:
    """One name in data.tar or control.tar.

    path: relative, without `./` in front; `.` is the top itself. mode: permission bits. owner: `root/root`, as
    `tar -tv` shows it. mtime: seconds since 1970. size: bytes of a file, else 0. target: what a link says; of a hard
    link the path of the member whose contents it shares. sha256: in hex, of a file.
    """

    path: str
    kind: Kind
    mode: int
    owner: str
    mtime: int
    size: int = 0
    target: str = ""
    sha256: str = ""


class Deb:
    """An open .deb file. fields: of its control file, in their order."""

    def __init__(self, name: str, control: _Tar, data: _Tar, parts: tuple[str, ...]) -> None:
        self._control, self._data = control, data
        self.parts = parts
        """The names of what it is made of, as `data.tar.xz`: they tell the compression."""
        self.control_files: dict[str, bytes] = {
            member.path: control.read(member.path) for member in control.members if member.kind == "file"
        }
        """What control.tar holds: maintainer scripts, md5sums, triggers, conffiles, and `control` itself."""
        if "control" not in self.control_files:
            raise DebError(name, "control.tar holds no file control")
        try:
            self.fields: Fields = paragraph(self.control_files["control"].decode(errors="surrogateescape"))
        except ValueError as error:
            raise DebError(name, f"its control file: {error}") from error
        for field in ("Package", "Version", "Architecture"):
            if not self.fields.get(field):
                raise DebError(name, f"its control file has no field {field}")

    @property
    def members(self) -> tuple[Member, ...]:
        """What it installs, in the order of data.tar."""
        return self._data.members

    @property
    def control_members(self) -> tuple[Member, ...]:
        """The names in control.tar."""
        return self._control.members

    @property
    def source(self) -> tuple[str, str]:
        """Name and version of the source package that it was built from (deb-control(5))."""
        name, _, version = self.fields.get("Source", self.fields["Package"]).partition(" ")
        return name, version.strip(" ()") or self.fields["Version"]

    def open(self, path: str) -> IO[bytes]:
        """The contents of the file, or hard link, at `path` in `members`. Raises KeyError if there is none."""
        return self._data.open(path)

    def read(self, path: str) -> bytes:
        """All of that file."""
        return self._data.read(path)


@contextlib.contextmanager
def opened(source: Path | bytes, *, name: str | None = None, scratch: Path | None = None) -> Iterator[Deb]:
    """A .deb file, given as its path or as its bytes, to read inside the block.

    name: for messages. scratch: a directory on a disk with room for what it holds (None: the usual one).
    Raises DebError if it is damaged, or not as deb(5) says; MachineError where there is no room; OSError of the disk.
    """
    what = name or (".deb data" if isinstance(source, bytes) else str(source))
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(io.BytesIO(source) if isinstance(source, bytes) else source.open("rb"))
        found = _parts(file, what)
        control, data = (
            _Tar(what, label, stack.enter_context(_unpacked(contents, what, label, most, scratch)))
            for (label, contents), most in zip(found, (_MOST_CONTROL, _MOST_DATA), strict=True)
        )
        yield Deb(what, control, data, tuple(label for label, _ in found))


def _parts(file: Any, what: str) -> list[tuple[str, IO[bytes]]]:
    """control.tar and data.tar, each with its name, in their places."""
    wanted = ["control.tar", "data.tar"]
    found: list[tuple[str, IO[bytes]]] = []
    try:
        members = open_members(file, what)
        label, contents = next(members, ("", io.BytesIO()))
        if label != _FORMAT or not re.match(rb"2\.\d+\n", contents.read(16)):
            raise DebError(what, "it is no .deb file of format 2: it does not begin with debian-binary")
        for label, contents in members:
            # deb(5): names with an underscore in front may stand between, and what is behind data.tar is not looked at.
            if label.startswith("_"):
                continue
            if label.partition(".tar")[0] + ".tar" != wanted[len(found)]:
                raise DebError(what, f"it holds {_shown(label)}, where {wanted[len(found)]} should be")
            found.append((label, contents))
            if len(found) == len(wanted):
                return found
    except ElfError as error:
        raise DebError(what, error.reason) from error
    raise DebError(what, f"it holds no {wanted[len(found)]}: cut off?")


@contextlib.contextmanager
def _unpacked(part: IO[bytes], what: str, label: str, most: int, scratch: Path | None) -> Iterator[IO[bytes]]:
    """The tar file in `part`, whose name tells the compression, as a file on the disk."""
    with tempfile.TemporaryFile(dir=scratch) as plain, _damage(what, label):
        room = shutil.disk_usage(scratch or tempfile.gettempdir()).free - _LEFT
        done = 0
        for chunk in _chunks(part, what, label, scratch):
            done += len(chunk)
            if done > most:
                raise DebError(what, f"{label} holds more than {most} bytes")
            if done > room:
                hint = "make room, or set TMPDIR to a directory that has it"
                raise MachineError(f"{what}: no room for what {label} holds", hint=hint)
            plain.write(chunk)
        plain.seek(0)
        yield plain


@contextlib.contextmanager
def _damage(what: str, label: str) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise DebError(what, f"{label} is damaged: {_shown(str(error)) or type(error).__name__}") from error
    except OSError as error:
        # gzip and bz2 tell damage by an OSError without a number.
        if error.errno is not None:
            raise
        raise DebError(what, f"{label} is damaged: {error}") from error


def _chunks(part: IO[bytes], what: str, label: str, scratch: Path | None) -> Iterator[bytes]:
    """What `part` holds, uncompressed, bit by bit: a small file can hold terabytes."""
    # deb(5) has these, and none more.
    kind = label.partition(".tar")[2]
    stream: IO[bytes] | gzip.GzipFile | bz2.BZ2File | None = None
    if kind == "":
        stream = part
    elif kind == ".gz":
        stream = gzip.GzipFile(fileobj=part)
    elif kind == ".bz2":
        stream = bz2.BZ2File(part)
    elif kind in (".xz", ".lzma"):
        yield from _unxz(part)
    elif kind == ".zst":
        yield from _unzstd(part, scratch)
    else:
        raise DebError(what, f"{_shown(label)}: a compression that nobody knows")
    while stream and (chunk := stream.read(_CHUNK)):
        yield chunk


def _unxz(part: IO[bytes]) -> Iterator[bytes]:
    decoder, rest = lzma.LZMADecompressor(memlimit=_MOST_MEMORY), b""
    while True:
        data = (rest or part.read(_CHUNK)) if decoder.needs_input else b""
        rest = b""
        if decoder.needs_input and not data:
            raise EOFError("it is cut off")
        yield decoder.decompress(data, _CHUNK)
        if decoder.eof:
            # Streams may follow each other, with zeros between them (xz(1)).
            rest = decoder.unused_data.lstrip(b"\0") or part.read(_CHUNK).lstrip(b"\0")
            if not rest:
                return
            decoder = lzma.LZMADecompressor(memlimit=_MOST_MEMORY)


def _unzstd(part: IO[bytes], scratch: Path | None) -> Iterator[bytes]:
    # The program would read on behind the end of the part.
    with tempfile.TemporaryFile(dir=scratch) as alone:
        shutil.copyfileobj(part, alone, _CHUNK)
        alone.seek(0)
        with process.output(["zstd", "--decompress", "--quiet", "--stdout"], stdin=alone) as (stream, ended):
            while chunk := stream.read(_CHUNK):
                yield chunk
            if (returncode := ended()) != 0:
                raise tarfile.ReadError(f"zstd: {process.describe_exit(returncode)}")


class _Careful:
    """A file for tarfile, which believes what a header says of its own length."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.most: int | None = _MOST_HEADER

    def read(self, size: int = -1) -> bytes:
        if self.most is not None and not 0 <= size <= self.most:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True


class _Tar:
    """A tar file of a .deb; listing it reads all of it."""

    def __init__(self, what: str, label: str, file: IO[bytes]) -> None:
        self._what, self._label, self._file = what, label, file
        self._careful = _Careful(file)
        self._infos: dict[str, tarfile.TarInfo] = {}
        with _damage(what, label):
            careful: Any = self._careful
            self._tar = tarfile.TarFile(fileobj=careful)
            for info in self._tar:
                self._add(info)
            self._require_end()
        self._careful.most = None

    def _add(self, info: tarfile.TarInfo) -> None:
        path = _relative(info.name)
        if path is None or path in self._infos:
            said = "twice" if path else "which leads outside"
            raise tarfile.ReadError(f"it holds {info.name!r}, {said}")
        if info.pax_headers or info.type not in _KINDS or info.sparse is not None:
            raise tarfile.ReadError(f"{info.name!r} is of a kind that dpkg does not unpack")
        if info.type == tarfile.LNKTYPE:
            target = self._infos.get(_relative(info.linkname) or "")
            if target is None or not target.isreg():
                raise tarfile.ReadError(f"{info.name!r} is a hard link to {info.linkname!r}, no file before it")
        if len(self._infos) == _MOST_MEMBERS:
            raise tarfile.ReadError(f"it holds more than {_MOST_MEMBERS} names")
        self._infos[path] = info

    def _require_end(self) -> None:
        """tarfile takes a damaged header for the end."""
        self._file.seek(self._tar.offset)
        length = 0
        while chunk := self._file.read(_CHUNK):
            length += len(chunk)
            if chunk.strip(b"\0"):
                raise tarfile.ReadError(f"no valid header at byte {self._tar.offset}")
        if length < _BLOCK:
            raise tarfile.ReadError("it is cut off")

    @cached_property
    def members(self) -> tuple[Member, ...]:
        """All names, in order."""
        return tuple(self._member(path, info) for path, info in self._infos.items())

    def _member(self, path: str, info: tarfile.TarInfo) -> Member:
        kind = _KINDS[info.type]
        owner = f"{info.uname or info.uid}/{info.gname or info.gid}"
        size, target, sha256 = 0, "", ""
        if kind == "file":
            size = info.size
            with self.open(path) as stream:
                sha256 = hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]
        elif kind in ("link", "hard link"):
            target = info.linkname if kind == "link" else _relative(info.linkname) or ""
        elif kind == "device":
            target = f"{'c' if info.ischr() else 'b'} {info.devmajor}:{info.devminor}"
        return Member(path, kind, info.mode & 0o7777, owner, int(info.mtime), size, target, sha256)

    def open(self, path: str) -> IO[bytes]:
        info = self._infos[path]
        if info.islnk():
            info = self._infos[_relative(info.linkname) or ""]
        stream = self._tar.extractfile(info) if info.isreg() else None
        if stream is None:
            raise KeyError(path)
        return stream

    def read(self, path: str) -> bytes:
        with self.open(path) as stream:
            return stream.read()


def _relative(name: str) -> str | None:
    """`name` without `./` in front; None if it is absolute, or leads upwards."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return None if name.startswith("/") or ".." in parts else "/".join(parts) or "."


def _shown(text: str) -> str:
    """What a damaged file says, for people."""
    return text.encode(errors="surrogateescape").decode(errors="backslashreplace")[:200]
