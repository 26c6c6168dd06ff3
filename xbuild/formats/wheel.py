"""Wheels: their names and tags, what they hold, and whether their RECORD says so (the binary distribution format)."""

from __future__ import annotations

import base64
import calendar
import contextlib
import csv
import hashlib
import io
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Final, Literal

from xbuild.base.errors import CheckError
from xbuild.formats.elf import ELF_MAGIC, ElfError, read_elf

SUFFIX: Final = ".whl"
MAGIC: Final = b"PK\x03\x04"
"""First bytes of a zip file that is not empty (APPNOTE.TXT, 4.3.7)."""

Kind = Literal["pure", "abi3", "compiled"]

_NAME: Final = re.compile(
    r"(?P<name>[^\s-]+)-(?P<version>[^\s-]+)(?:-(?P<build>[0-9][^\s-]*))?-(?P<python>[^\s-]+)-(?P<abi>[^\s-]+)"
    r"-(?P<platform>[^\s-]+)\.whl"
)
_DAMAGE: Final = (
    zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, EOFError, ValueError, LookupError, NotImplementedError,
    RuntimeError, OverflowError, OSError,
)  # fmt: skip
_UNSIGNED: Final = ("RECORD", "RECORD.jws", "RECORD.p7s")
"""Files of the .dist-info directory that RECORD has no digest of."""
_MOST: Final = 8 << 30
"""Bytes that a wheel may hold unpacked; the longest on public indexes have some 4 GB."""
_MOST_TEXT: Final = 64 << 20
"""Bytes of RECORD, and of other texts about the wheel."""
_CHUNK: Final = 1 << 20


class WheelError(CheckError):
    """A wheel is broken, or is none. reason: the message without the name of the file."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}", hint="`python3 -m zipfile --list` may tell more of it")
        self.reason = reason


@dataclass(frozen=True)
class WheelName:
    """What the name of a wheel says. tags of one kind are several where they stand with dots between."""

    name: str
    version: str
    build: str
    pythons: tuple[str, ...]
    abis: tuple[str, ...]
    platforms: tuple[str, ...]

    @property
    def kind(self) -> Kind:
        """For any machine; compiled, for all pythons from one on; or compiled for one python."""
        if self.platforms == ("any",):
            return "pure"
        return "abi3" if "abi3" in self.abis else "compiled"

    @property
    def tags(self) -> frozenset[str]:
        """All combinations, as the file WHEEL has them."""
        return frozenset(f"{p}-{a}-{m}" for p in self.pythons for a in self.abis for m in self.platforms)

    @property
    def project(self) -> str:
        """The project's name as indexes normalise it."""
        return normalised(self.name)


def normalised(name: str) -> str:
    """A project's name as indexes have it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def name_of(file: str) -> WheelName:
    """What the name `file` says. Raises WheelError if it is none of a wheel."""
    match = _NAME.fullmatch(file)
    if match is None:
        raise WheelError(file, "is not the name of a wheel: NAME-VERSION-PYTHON-ABI-PLATFORM.whl")
    pythons, abis, platforms = (tuple(match[part].split(".")) for part in ("python", "abi", "platform"))
    return WheelName(match["name"], match["version"], match["build"] or "", pythons, abis, platforms)


def wrong_platform(platform: str, machine: str) -> bool:
    """Whether the platform tag is for another machine than `machine` (what `uname -m` says), or for another system."""
    return not re.fullmatch(rf"(?:any|(?:many|musl)?linux\w*_{re.escape(machine)})", platform)


@dataclass(frozen=True)
class Member:
    """A file of a wheel. path: relative, inside. mode: permission bits. size: bytes. sha256: in hex."""

    path: str
    mode: int
    size: int
    sha256: str


class Wheel:
    """An open wheel. label: for messages."""

    def __init__(self, label: str, file: zipfile.ZipFile) -> None:
        self.label = label
        self._zip = file
        self._infos: dict[str, zipfile.ZipInfo] = {}
        total = 0
        for info in file.infolist():
            if info.is_dir():
                continue
            parts = info.filename.split("/")
            # A name with nothing between two slashes is an absolute one for whoever takes the rest of it.
            if info.filename in self._infos or {"", ".."} & set(parts) or "\\" in info.filename:
                raise WheelError(label, f"it holds {_shown(info.filename)}, twice or where no member may be")
            total += info.file_size
            if total > _MOST:
                raise WheelError(label, f"it holds more than {_MOST} bytes")
            self._infos[info.filename] = info
        folders = {path.partition("/")[0] for path in self._infos if path.partition("/")[0].endswith(".dist-info")}
        if len(folders) != 1:
            raise WheelError(label, f"it has {len(folders)} directories *.dist-info, not one")
        (self.information,) = folders
        for name in ("WHEEL", "METADATA", "RECORD"):
            if f"{self.information}/{name}" not in self._infos:
                raise WheelError(label, f"it holds no {self.information}/{name}")

    @cached_property
    def members(self) -> tuple[Member, ...]:
        """All files, in their order."""
        return tuple(self._member(path, info) for path, info in self._infos.items())

    def _member(self, path: str, info: zipfile.ZipInfo) -> Member:
        with self.open(path) as stream:
            digest, size = hashlib.sha256(), 0
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
        return Member(path, stat.S_IMODE(info.external_attr >> 16), size, digest.hexdigest())

    @contextlib.contextmanager
    def open(self, path: str) -> Iterator[IO[bytes]]:
        """The contents of the member `path`, which must be there. Raises WheelError if they are damaged."""
        try:
            with self._zip.open(self._infos[path]) as stream:
                yield stream
        except _DAMAGE as error:
            raise WheelError(self.label, f"{_shown(path)} is damaged: {error}") from error

    def read(self, path: str, most: int | None = None) -> bytes:
        """All of the member. most: bytes; WheelError if it has more."""
        if most is not None and self._infos[path].file_size > most:
            raise WheelError(self.label, f"{_shown(path)} has more than {most} bytes")
        with self.open(path) as stream:
            return stream.read()

    def paths(self) -> tuple[str, ...]:
        """Of all files, in their order."""
        return tuple(self._infos)

    def executable(self, path: str) -> bool:
        """Whether the member has a mode by which it may be executed."""
        return bool(self._infos[path].external_attr >> 16 & 0o111)

    def seconds(self, path: str) -> int:
        """When the member was last changed, since 1970, if the zip's clock, which has no zone, was in UTC."""
        try:
            return calendar.timegm(self._infos[path].date_time)
        except ValueError as error:
            raise WheelError(self.label, f"{_shown(path)} is damaged: {error}") from error

    def text(self, name: str) -> str:
        """A file of the .dist-info directory, "" where it is not there."""
        path = f"{self.information}/{name}"
        return self.read(path, _MOST_TEXT).decode(errors="replace") if path in self._infos else ""

    @property
    def tags(self) -> frozenset[str]:
        """The tags that the file WHEEL has."""
        return frozenset(re.findall(r"(?m)^Tag:[ \t]*(\S+)", self.text("WHEEL")))

    def field(self, name: str) -> list[str]:
        """The values of a field of METADATA (the core metadata), in order."""
        head = self.text("METADATA").partition("\n\n")[0]
        return re.findall(rf"(?im)^{re.escape(name)}:[ \t]*(.*?)\r?$", head)

    @property
    def record(self) -> Mapping[str, tuple[str, str]]:
        """Digest (`sha256=...`) and size, as RECORD has them, by path."""
        rows = csv.reader(io.StringIO(self.text("RECORD")))
        return {row[0]: (row[1], row[2]) for row in rows if len(row) == 3}

    def faults(self) -> list[str]:
        """Where RECORD, WHEEL and the members do not agree, a line each."""
        said = self.record
        found = [f"RECORD has {_shown(path)}, which is not there" for path in said if path not in self._infos]
        for member in self.members:
            if member.path.removeprefix(f"{self.information}/") in _UNSIGNED:
                continue
            if member.path not in said:
                found.append(f"RECORD has no {_shown(member.path)}")
                continue
            digest, size = said[member.path]
            right = base64.urlsafe_b64encode(bytes.fromhex(member.sha256)).decode().rstrip("=")
            if (digest.startswith("sha256=") and digest != f"sha256={right}") or size not in ("", str(member.size)):
                found.append(f"{_shown(member.path)} is not what RECORD says")
        return found

    def modules(self) -> list[str]:
        """The names at the top that can be imported: packages and modules, compiled ones too, sorted."""
        tops = set()
        data = f"{self.information.removesuffix('.dist-info')}.data/"
        for path in self._infos:
            inside = re.sub(rf"^{re.escape(data)}(?:pure|plat)lib/", "", path)
            match = re.fullmatch(r"([A-Za-z_]\w*)(?:/__init__)?(?:\.[\w-]+)?\.(?:py|so)", inside)
            if match:
                tops.add(match[1])
        return sorted(tops)

    def bundled(self) -> list[str]:
        """The libraries that auditwheel took in, by the names that it gave them."""
        return sorted(path.rpartition("/")[2] for path in self._infos if re.match(r"[^/]+\.libs/[^/]+\.so", path))

    def needed(self) -> list[str]:
        """The libraries that its compiled files name for the loader and that are not in it, sorted."""
        found: set[str] = set()
        for path in self._infos:
            with self.open(path) as stream:
                if stream.read(len(ELF_MAGIC)) != ELF_MAGIC:
                    continue
            with contextlib.suppress(ElfError):
                found.update(read_elf(self.read(path)).needed)
        return sorted(found - {path.rpartition("/")[2] for path in self._infos})


@contextlib.contextmanager
def opened(source: Path | bytes, *, label: str | None = None) -> Iterator[Wheel]:
    """A wheel, given as its path or as its bytes, to read inside the block. Raises WheelError if it is broken."""
    what = label or (str(source) if isinstance(source, Path) else "wheel")
    try:
        file = zipfile.ZipFile(io.BytesIO(source) if isinstance(source, bytes) else source)
    except _DAMAGE as error:
        raise WheelError(what, f"it is no wheel, or damaged: {error}") from error
    with file:
        yield Wheel(what, file)


def is_wheel(data: bytes) -> bool:
    """Whether the bytes are a zip file with what each wheel has."""
    if not data.startswith(MAGIC):
        return False
    try:
        with opened(data):
            return True
    except WheelError:
        return False


def _shown(text: str) -> str:
    return text.encode(errors="surrogateescape").decode(errors="backslashreplace")[:200]
