"""What an ELF file is: for which machine and ABI, what it needs to run; and what an `.a` archive holds."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Literal, Protocol

from xbuild.base.errors import CheckError
from xbuild.base.walk import NotFile, open_file

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from elftools.elf.elffile import ELFFile

ELF_MAGIC: Final = b"\x7fELF"
ARCHIVE_MAGIC: Final = b"!<arch>\n"
"""First bytes of an `.a` file (ar(5)). Thin archives, `!<thin>`, hold only the names of files beside them."""

# <elf.h>
_DF_1_PIE = 0x08000000
_EF_ARM_ABI_FLOAT_SOFT = 0x200
_EF_ARM_ABI_FLOAT_HARD = 0x400
_SHT_NOBITS = "SHT_NOBITS"

# ar(5): name 16, date 12, uid 6, gid 6, mode 8, size 10 bytes, all blank-padded text, then the end mark.
_MEMBER_HEADER = 60
_MEMBER_END = b"`\n"
_LONGEST_NAME = 4096

FloatAbi = Literal["hard", "soft"]


class ElfError(CheckError):
    """An ELF file or an archive is broken, or lacks what was asked for.

    reason: the message without the name of the file, for who shows that in his own way.
    """

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason if reason is not None else message


class NotElf(ElfError):
    """A file does not start as an ELF file does."""


class Identity(Protocol):
    """What the ELF files of one target have in common; a toolchain's `elf` is one.

    machine: name of the EM_ constant without its prefix (ARM, AARCH64, X86_64). elf_class: 32 or 64.
    data: little or big. float_abi: None where the machine has only one. interpreter: the target's loader.
    """

    @property
    def machine(self) -> str: ...
    @property
    def elf_class(self) -> int: ...
    @property
    def data(self) -> str: ...
    @property
    def float_abi(self) -> str | None: ...
    @property
    def interpreter(self) -> str: ...


@dataclass(frozen=True)
class ElfInfo:
    """What one ELF file says about itself.

    machine: as in `Identity`, or the number in decimal if pyelftools has no name for it.
    e_type: EXEC, DYN, REL or CORE. osabi: byte 7 of the file. rpath, runpath: the directories, in order.
    float_abi: None also for ARM code that uses no floating point, which fits either ABI.
    build_id: hex. is_static: a program (also a PIE) that runs without an interpreter. entry: where it starts, 0 if
    nowhere. end: how many bytes the file must have for its segments to be whole.
    """

    machine: str
    elf_class: Literal[32, 64]
    data: Literal["little", "big"]
    e_type: str
    osabi: int
    interpreter: str | None
    needed: tuple[str, ...]
    soname: str | None
    rpath: tuple[str, ...]
    runpath: tuple[str, ...]
    float_abi: FloatAbi | None
    build_id: str | None
    is_static: bool
    entry: int = 0
    end: int = 0


@dataclass(frozen=True)
class _Dynamic:
    needed: tuple[str, ...] = ()
    soname: str | None = None
    rpath: tuple[str, ...] = ()
    runpath: tuple[str, ...] = ()
    pie: bool = False


def elf_file(stream: IO[bytes]) -> ELFFile:
    """The ELF file in `stream`, for pyelftools to read; raises what `parse_errors` has."""
    # Only here: it takes long to load, and most commands read no ELF file.
    from elftools.elf.elffile import ELFFile

    return ELFFile(stream)


def parse_errors() -> tuple[type[Exception], ...]:
    """What pyelftools raises, or lets through when offsets and sizes in a file are nonsense."""
    from elftools.common.exceptions import ELFError
    from elftools.construct import ConstructError

    nonsense = (ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, RecursionError)
    return (ELFError, ConstructError, *nonsense, TypeError, ValueError)


def is_elf(path: Path) -> bool:
    """Whether `path` is a regular file, or a link to one, that starts with the ELF magic."""
    try:
        with open_file(path, follow=True) as stream:
            return stream.read(len(ELF_MAGIC)) == ELF_MAGIC
    except NotFile:
        return False


def read_elf(source: Path | bytes | IO[bytes]) -> ElfInfo:
    """Read an ELF file, given as its path, as its bytes, or open (also as a member of an archive).

    Raises NotElf if it does not start with the ELF magic, ElfError if it is cut off or inconsistent.
    """
    if isinstance(source, Path):
        try:
            with open_file(source, follow=True) as stream:
                return _read(stream, str(source))
        except NotFile as error:
            raise NotElf(f"{source}: {error.strerror}", reason=error.strerror) from error
    return _read(io.BytesIO(source) if isinstance(source, bytes) else source, "ELF data")


def _read(stream: IO[bytes], name: str) -> ElfInfo:
    stream.seek(0)
    ident = _ident(stream, name)
    try:
        return _info(elf_file(stream), osabi=ident[7])
    except parse_errors() as error:
        raise _broken(name, error) from error


def section_names(stream: IO[bytes]) -> frozenset[str]:
    """The names of the sections of an open ELF file. Raises as `read_elf`."""
    stream.seek(0)
    _ident(stream, "ELF data")
    try:
        return frozenset(str(section.name) for section in elf_file(stream).iter_sections())
    except parse_errors() as error:
        raise _broken("ELF data", error) from error


def section_location(path: Path, name: str) -> tuple[int, int]:
    """Where the contents of the section `name` lie in the file `path`: offset and size in bytes.

    Raises NotElf, and ElfError if there is no such section or if it takes no room in the file (.bss).
    """
    with path.open("rb") as stream:
        _ident(stream, str(path))
        try:
            section = elf_file(stream).get_section_by_name(name)
            if section is not None and section["sh_type"] != _SHT_NOBITS:
                return int(section["sh_offset"]), int(section["sh_size"])
        except parse_errors() as error:
            raise _broken(str(path), error) from error
    raise ElfError(f"{path}: no section {name} with contents")


def with_interpreter(program: bytes, interpreter: str) -> bytes:
    """The ELF file `program` with another PT_INTERP, in the room of the old one; nothing else moves.

    Raises ElfError if it has none, ValueError if `interpreter` is longer than the old one.
    """
    try:
        segments = elf_file(io.BytesIO(program)).iter_segments("PT_INTERP")
        header = next(segments, None)
    except parse_errors() as error:
        raise _broken("program", error) from error
    if header is None:
        raise _broken("program", ValueError("it has no interpreter"))
    start, size = header["p_offset"], header["p_filesz"]
    # The kernel wants the last byte to be NUL, and takes what stands before the first one (fs/binfmt_elf.c).
    text = interpreter.encode() + b"\0"
    if len(text) > size:
        raise ValueError(f"{interpreter!r} does not fit into the {size} bytes of the old interpreter")
    return program[:start] + text.ljust(size, b"\0") + program[start + size :]


def archive_members(data: bytes, name: str) -> Iterator[tuple[str, bytes]]:
    """The members of an `.a` file, as (name, contents), without its symbol and name tables.

    data: the whole file. name: for the message of an error. A thin archive has no members of its own.
    Raises ElfError if the archive is broken.
    """
    for label, member in open_members(io.BytesIO(data), name):
        yield label, member.read()


def open_members(archive: IO[bytes], name: str) -> Iterator[tuple[str, IO[bytes]]]:
    """As `archive_members`, of an open file, however long it is: each member can be read as a file of its own."""
    end = archive.seek(0, os.SEEK_END)
    long_names, offset = _Part(archive, 0, 0), len(ARCHIVE_MAGIC)
    if _at(archive, 0, offset) != ARCHIVE_MAGIC:
        return
    while offset < end:
        header = _at(archive, offset, _MEMBER_HEADER)
        size = header[48:58].strip()
        start = offset + _MEMBER_HEADER
        if header[58:] != _MEMBER_END or not size.isdigit() or start + int(size) > end:
            reason = f"broken archive: no valid member at byte {offset}"
            raise ElfError(f"{name}: {reason}", reason=reason)
        label = header[:16].rstrip()
        if label == b"//":
            long_names = _Part(archive, start, int(size))
        elif label not in (b"/", b"/SYM64/"):
            yield _member(label, _Part(archive, start, int(size)), long_names)
        # Members start at even offsets.
        offset = start + int(size) + int(size) % 2


def _at(file: IO[bytes], offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)


class _Part(io.RawIOBase):
    """`size` bytes of the open file `file`, from byte `start` on, as a file of its own."""

    def __init__(self, file: IO[bytes], start: int, size: int) -> None:
        super().__init__()
        self.file, self.start, self.size = file, start, size
        self._place = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As of any file."""
        self._place = max(0, offset + {os.SEEK_CUR: self._place, os.SEEK_END: self.size}.get(whence, 0))
        return self._place

    def readinto(self, buffer: WriteableBuffer) -> int:
        """As of any file."""
        view = memoryview(buffer)
        data = self.first(len(view), self._place)
        view[: len(data)] = data
        self._place += len(data)
        return len(data)


    def first(self, size: int, offset: int = 0) -> bytes:
        """At most so many bytes, from byte `offset` on; where the part is read does not change."""
        return _at(self.file, self.start + offset, max(0, min(size, self.size - offset)))


def _member(label: bytes, contents: _Part, long_names: _Part) -> tuple[str, IO[bytes]]:
    # GNU: `name/`, or `/OFFSET` into the name table; BSD: `#1/LENGTH`, the name then precedes the contents.
    if gnu := re.fullmatch(rb"/(\d+)", label):
        label = long_names.first(_LONGEST_NAME, int(gnu[1])).partition(b"\n")[0]
    elif bsd := re.fullmatch(rb"#1/(\d+)", label):
        length = min(int(bsd[1]), contents.size)
        label = contents.first(min(length, _LONGEST_NAME)).rstrip(b"\0")
        contents = _Part(contents.file, contents.start + length, contents.size - length)
    return label.removesuffix(b"/").decode(errors="backslashreplace"), io.BufferedReader(contents)


def _ident(stream: IO[bytes], name: str) -> bytes:
    ident = stream.read(16)
    if not ident.startswith(ELF_MAGIC):
        raise NotElf(f"{name}: not an ELF file", reason="not an ELF file")
    if len(ident) < 16:
        raise _broken(name, "it ends within its first 16 bytes")
    stream.seek(0)
    return ident


def _broken(name: str, error: BaseException | str) -> ElfError:
    reason = f"broken ELF file: {' '.join(str(error).split()) or type(error).__name__}"
    return ElfError(f"{name}: {reason}", reason=reason)


def _info(elf: Any, osabi: int) -> ElfInfo:
    # A file of debug information only keeps the program headers, but not what they point to.
    segments = [segment for segment in elf.iter_segments() if segment["p_filesz"]]
    dynamic = _dynamic(segments)
    interpreter = next((str(s.get_interp_name()) for s in segments if s["p_type"] == "PT_INTERP"), None)
    e_type = str(elf["e_type"]).removeprefix("ET_")
    program = e_type == "EXEC" or dynamic.pie
    return ElfInfo(
        machine=str(elf["e_machine"]).removeprefix("EM_"),
        elf_class=64 if elf.elfclass == 64 else 32,
        data="little" if elf.little_endian else "big",
        e_type=e_type,
        osabi=osabi,
        interpreter=interpreter,
        needed=dynamic.needed,
        soname=dynamic.soname,
        rpath=dynamic.rpath,
        runpath=dynamic.runpath,
        float_abi=_float_abi(elf) if elf["e_machine"] == "EM_ARM" else None,
        build_id=_build_id(segments),
        is_static=program and interpreter is None,
        entry=int(elf["e_entry"]),
        end=max((segment["p_offset"] + segment["p_filesz"] for segment in segments), default=0),
    )


def _dynamic(segments: list[Any]) -> _Dynamic:
    tags = [tag for segment in segments if segment["p_type"] == "PT_DYNAMIC" for tag in segment.iter_tags()]

    def values(tag_name: str, attribute: str) -> list[str]:
        return [str(getattr(tag, attribute)) for tag in tags if tag.entry.d_tag == tag_name]

    def directories(tag_name: str, attribute: str) -> tuple[str, ...]:
        return tuple(entry for value in values(tag_name, attribute) for entry in value.split(":"))

    return _Dynamic(
        needed=tuple(values("DT_NEEDED", "needed")),
        soname=next(iter(values("DT_SONAME", "soname")), None),
        rpath=directories("DT_RPATH", "rpath"),
        runpath=directories("DT_RUNPATH", "runpath"),
        pie=any(tag.entry.d_tag == "DT_FLAGS_1" and tag.entry.d_val & _DF_1_PIE for tag in tags),
    )


def _float_abi(elf: Any) -> FloatAbi | None:
    # The rule of GNU ld (elf32_arm_merge_eabi_attributes): a file without a floating point number model, such
    # as one from assembly, takes no part; otherwise Tag_ABI_VFP_args says it, and 0, the default, is soft.
    section = next((s for s in elf.iter_sections() if s["sh_type"] == "SHT_ARM_ATTRIBUTES"), None)
    if section is not None:
        attributes = {
            attribute.tag: attribute.value
            for subsection in section.iter_subsections()
            for scope in subsection.iter_subsubsections()
            for attribute in scope.iter_attributes()
        }
        arguments = attributes.get("TAG_ABI_VFP_ARGS", 0)
        if arguments == 1:
            return "hard"
        return "soft" if arguments == 0 and attributes.get("TAG_ABI_FP_NUMBER_MODEL", 0) else None
    flags = int(elf["e_flags"])
    if flags & _EF_ARM_ABI_FLOAT_HARD:
        return "hard"
    return "soft" if flags & _EF_ARM_ABI_FLOAT_SOFT else None


def _build_id(segments: list[Any]) -> str | None:
    for segment in segments:
        if segment["p_type"] == "PT_NOTE":
            for note in segment.iter_notes():
                if note["n_type"] == "NT_GNU_BUILD_ID":
                    return str(note["n_desc"])
    return None
