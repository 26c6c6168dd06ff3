"""An entry of binfmt_misc, whatever file it was read from, and what the kernel does with it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any, Final, Literal

from xbuild.base.errors import MachineError
from xbuild.binfmt import architectures

MAX_REGISTRATION: Final = 1920
"""Longest registration, in bytes (binfmt-misc.rst; the kernel has no limit for the interpreter alone)."""

WINDOW: Final = 256
"""So many first bytes of a file does the kernel look at (BINPRM_BUF_SIZE, <linux/binfmts.h>, since Linux 5.1)."""

FLAGS: Final = {
    "P": "argv[0] is kept: the interpreter gets PATH ARGV0 ARGS...; without it, argv[0] becomes the path",
    "O": "the opened file is handed over, so programs that may be executed but not read run too",
    "C": "the program's own setuid and setgid bits count, so the interpreter runs with those rights; implies O",
    "F": "the interpreter is opened when it is registered, so it works in every chroot and container",
}
"""What each flag does (kernel documentation, binfmt-misc.rst)."""

_DELIMITER = ":"
# Names of files that are always there, and what is no file name.
_RESERVED = ("", ".", "..", "register", "status")


@dataclass(frozen=True)
class Entry:
    """One entry. kind: M compares bytes, E the end of the file's name.

    mask: as long as magic; all ones if there is none. extension: without the dot. enabled: None where the source does
    not say. package, detector: of binfmt-support only. source: where it was read.
    """

    name: str
    kind: Literal["M", "E"]
    interpreter: str
    flags: str = ""
    offset: int = 0
    magic: bytes = b""
    mask: bytes = b""
    extension: str = ""
    enabled: bool | None = None
    package: str | None = None
    detector: str | None = None
    source: str = ""

    @property
    def architecture(self) -> str | None:
        """The architecture whose programs it takes, if it is a known one."""
        return architectures.of_entry(self.magic, self.mask, self.offset) if self.kind == "M" else None

    def same_effect(self, other: Entry) -> bool:
        """Whether the kernel does the same with both, but for their names and whether they are enabled."""
        return _effect(self) == _effect(other)

    def takes(self, start: bytes, path: str) -> bool:
        """Whether the kernel hands it a file; start: its first bytes; path: as it was called.

        As in search_binfmt_handler (fs/binfmt_misc.c): bytes behind the file's end are zero.
        """
        if self.kind == "E":
            _, dot, extension = path.rpartition(".")
            return bool(dot) and extension == self.extension
        window = start[:WINDOW].ljust(WINDOW, b"\0")[self.offset : self.offset + len(self.magic)]
        return all((a ^ b) & c == 0 for a, b, c in zip(window, self.magic, self.mask, strict=True))

    def as_json(self) -> dict[str, Any]:
        """All of it, bytes in hex, with the architecture."""
        value: dict[str, Any] = {
            "name": self.name,
            "type": self.kind,
            "interpreter": self.interpreter,
            "flags": self.flags,
            "enabled": self.enabled,
            "source": self.source,
        }
        if self.kind == "M":
            value |= {"offset": self.offset, "magic": self.magic.hex(), "mask": self.mask.hex()}
            value |= {"architecture": self.architecture}
        else:
            value |= {"extension": self.extension}
        return value | {
            key: text for key, text in (("package", self.package), ("detector", self.detector)) if text is not None
        }


def _effect(entry: Entry) -> tuple[object, ...]:
    flags = set(entry.flags)
    # C implies O; the kernel shows both then.
    flags |= {"O"} if "C" in flags else set()
    return entry.kind, entry.offset, entry.magic, entry.mask, entry.extension, entry.interpreter, frozenset(flags)


def check_name(name: str) -> None:
    """Raises ValueError if the kernel takes no entry of this name."""
    if name in _RESERVED or any(character in name for character in "/\n" + _DELIMITER):
        raise ValueError(f"not a name for a binfmt_misc entry: {name!r}")


def check(entry: Entry) -> None:
    """Raises ValueError for what the kernel refuses (bm_register_write and create_entry in fs/binfmt_misc.c)."""
    check_name(entry.name)
    if not set(entry.flags) <= set(FLAGS):
        raise ValueError(f"binfmt_misc flags are letters of {''.join(FLAGS)}, not {entry.flags!r}")
    if not entry.interpreter:
        raise ValueError("an entry needs an interpreter")
    if entry.kind == "E":
        if not entry.extension or "/" in entry.extension or ":" in entry.extension:
            raise ValueError(f"not an extension: {entry.extension!r}")
        return
    if not entry.magic:
        raise ValueError("the magic is empty")
    if len(entry.mask) != len(entry.magic):
        raise ValueError(f"mask has {len(entry.mask)} bytes, magic {len(entry.magic)}")
    if entry.offset < 0 or entry.offset + len(entry.magic) > WINDOW:
        end = entry.offset + len(entry.magic)
        raise ValueError(f"the kernel compares the first {WINDOW} bytes of a file; this magic ends at byte {end}")


def register_line(entry: Entry) -> str:
    """The line that, written to binfmt_misc's `register`, makes the entry.

    Raises ValueError for what the kernel refuses, MachineError for a path that it does not take.
    """
    check(entry)
    hint = "use a shorter, plain path; for xbuild's own files XBUILD_CACHE names another place"
    if _DELIMITER in entry.interpreter or "\n" in entry.interpreter:
        raise MachineError(f"binfmt_misc takes no path with ':' or a line break: {entry.interpreter!r}", hint=hint)
    if entry.kind == "E":
        fields = ("E", "", entry.extension, "")
    else:
        # Every byte is escaped, so that none can be mistaken for the delimiter or end the string.
        mask = escaped(entry.mask) if entry.mask.strip(b"\xff") else ""
        fields = ("M", str(entry.offset or ""), escaped(entry.magic), mask)
    line = _DELIMITER + _DELIMITER.join((entry.name, *fields, entry.interpreter, entry.flags))
    size = len(os.fsencode(line))
    if size > MAX_REGISTRATION:
        message = f"binfmt_misc takes {MAX_REGISTRATION} bytes, this registration has {size}: {entry.interpreter}"
        raise MachineError(message, hint=hint)
    return line


def registration(name: str, magic: bytes, mask: bytes, interpreter: str, flags: str) -> str:
    """The line for an entry of type M, each character a byte; see `register_line`, also for what is raised.

    It is for the kernel, not for a file: `interpreter` may be any path.
    """
    # The kernel takes the first character for the delimiter, and a line break where it stands.
    plain = interpreter.translate({ord(_DELIMITER): "_", ord("\n"): "_"})
    line = register_line(Entry(name, "M", plain, flags, magic=magic, mask=mask))
    if plain != interpreter:
        delimiter = next(chr(code) for code in range(1, 128) if chr(code) not in interpreter + line)
        line = line.replace(_DELIMITER, delimiter).replace(plain, interpreter)
    return os.fsencode(line).decode("latin-1")


def escaped(data: bytes) -> str:
    """`data` with every byte as \\xHH."""
    return "".join(f"\\x{byte:02x}" for byte in data)


def unescaped(text: str) -> bytes:
    """The bytes that `text` means, in which \\xHH is one byte (string_unescape with UNESCAPE_HEX in the kernel).

    Raises ValueError for an escape without two hex digits, which the kernel would take as it stands.
    """
    data = os.fsencode(text)
    if broken := re.search(rb"\\x(?![0-9A-Fa-f]{2}).{0,2}", data):
        raise ValueError(f"incomplete escape {os.fsdecode(broken[0])!r}")
    return re.sub(rb"\\x([0-9A-Fa-f]{2})", lambda found: bytes([int(found[1], 16)]), data)


def explained_flags(flags: str) -> list[tuple[str, str]]:
    """Each flag that is set, with what it does."""
    return [(flag, FLAGS.get(flag, "unknown to this version of xbuild")) for flag in flags]
