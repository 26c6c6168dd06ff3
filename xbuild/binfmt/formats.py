"""Reads entries of binfmt_misc from every file that holds them.

Formats: `register` (what is written to the kernel), `binfmt.d` (binfmt.d(5): such lines, and comments), `proc` (a file
in /proc/sys/fs/binfmt_misc), `binfmts` (/usr/share/binfmts, update-binfmts(8)) and `admin` (/var/lib/binfmts).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Literal, get_args

from xbuild.base.errors import UsageError
from xbuild.base.yamlfile import did_you_mean
from xbuild.binfmt.entry import Entry, check, unescaped

Format = Literal["register", "binfmt.d", "proc", "binfmts", "admin"]
FORMATS: tuple[Format, ...] = get_args(Format)

_KEYS = (
    "package", "interpreter", "magic", "mask", "offset", "extension", "detector", "credentials", "preserve",
    "fix_binary",
)  # fmt: skip
"""Options of a file for `update-binfmts --import`."""

_SWITCHES: Final = {"credentials": "C", "preserve": "P", "fix_binary": "F"}

# What binfmt-support 2.2 writes, line by line; the last four were added over time.
_ADMIN = (
    "package", "type", "offset", "magic", "mask", "interpreter", "detector", "credentials", "preserve", "fix_binary",
)  # fmt: skip
_ADMIN_MIN = 6
_LARGEST = 1 << 20
"""Bytes that are read of a file: a device may be endless."""


class _Fault(ValueError):
    """Something is wrong in a line (from 1)."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(text)
        self.line = line


def parse_file(path: Path, wanted: str = "") -> tuple[Format, list[Entry]]:
    """The entries in a file, and the format that it has; wanted: the format, if that is known.

    Raises UsageError with file and line for a file that cannot be read or is wrong.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    return parse(data, path.name, str(path), wanted)


def parse(data: bytes, name: str, source: str, wanted: str = "") -> tuple[Format, list[Entry]]:
    """The entries in `data`, and its format.

    name: of an entry whose format does not tell it. source: where the data is from. Raises UsageError.
    """
    if wanted and wanted not in FORMATS:
        suggestion = did_you_mean(wanted, FORMATS)
        raise UsageError(f"unknown format {wanted!r}{suggestion}", hint=f"formats: {' '.join(FORMATS)}")
    # Bytes that are no UTF-8 can stand in a magic; they come back through os.fsencode.
    text = data.decode("utf-8", "surrogateescape")
    if "\0" in text:
        raise UsageError(f"{source}: not a text file", hint="`binfmt.explain` is for programs")
    lines = text.split("\n")
    lines = lines[:-1] if lines[-1] == "" else lines
    form = next((known for known in FORMATS if known == wanted), None) or _guess(lines)
    try:
        entries = _READERS[form](lines, name, source)
    except _Fault as fault:
        raise UsageError(
            f"{source}:{fault.line}: {fault}", hint=f"read as {form}; --format names another: {' '.join(FORMATS)}"
        ) from fault
    return form, entries


def _guess(lines: list[str]) -> Format:
    filled = [line for line in lines if line.strip()]
    first = filled[0] if filled else ""
    if first in ("enabled", "disabled"):
        return "proc"
    if len(lines) >= _ADMIN_MIN and lines[1] in ("magic", "extension"):
        return "admin"
    if any(line.split(None, 1)[0] in _KEYS for line in filled):
        return "binfmts"
    return "register" if len(filled) == 1 and first[:1] not in "#;" else "binfmt.d"


def _register(lines: list[str], _name: str, source: str) -> list[Entry]:
    found = [(number, line) for number, line in enumerate(lines, 1) if line]
    if not found:
        raise _Fault(1, "no entry")
    return [_line(number, line, source) for number, line in found]


def _binfmt_d(lines: list[str], _name: str, source: str) -> list[Entry]:
    # binfmt.d(5): empty lines and lines that begin with # or ; are ignored; blanks around a line too.
    found = [(number, line.strip()) for number, line in enumerate(lines, 1)]
    return [_line(number, line, source) for number, line in found if line and line[0] not in "#;"]


def _line(number: int, line: str, source: str) -> Entry:
    delimiter, fields = line[0], line[1:].split(line[0])
    if delimiter.isalnum() or delimiter.isspace() or len(fields) != 7:
        wanted = ":name:type:offset:magic:mask:interpreter:flags"
        raise _Fault(number, f"a registration is {wanted}, with 7 fields, not {len(fields)}")
    name, kind, offset, magic, mask, interpreter, flags = fields
    if kind == "E":
        # The kernel skips offset and mask of such an entry.
        return _made(number, Entry(name, "E", interpreter, flags, extension=magic, source=source))
    if kind != "M":
        raise _Fault(number, f"the type is M or E, not {kind!r}")
    return _with_magic(number, Entry(name, "M", interpreter, flags, source=source), offset, magic, mask)


def _with_magic(number: int, entry: Entry, offset: str, magic: str, mask: str) -> Entry:
    if offset and not (offset.isascii() and offset.isdigit()):
        raise _Fault(number, f"the offset is a number of bytes, not {offset!r}")
    try:
        wanted, bits = unescaped(magic), unescaped(mask)
    except ValueError as error:
        raise _Fault(number, str(error)) from error
    values = {**vars(entry), "offset": int(offset or 0), "magic": wanted, "mask": bits or b"\xff" * len(wanted)}
    return _made(number, Entry(**values))


def _made(number: int, entry: Entry) -> Entry:
    try:
        check(entry)
    except ValueError as error:
        raise _Fault(number, str(error)) from error
    return entry


def _proc(lines: list[str], name: str, source: str) -> list[Entry]:
    """bm_entry_read's and entry_status's text (fs/binfmt_misc.c)."""
    if not lines or lines[0] not in ("enabled", "disabled"):
        raise _Fault(1, "an entry of the kernel begins with `enabled` or `disabled`")
    values: dict[str, str] = {}
    for number, line in enumerate(lines[1:], 2):
        word, _, rest = line.partition(" ")
        key = word.rstrip(":")
        if key not in ("interpreter", "flags", "offset", "magic", "mask", "extension"):
            raise _Fault(number, f"not a line of an entry of the kernel: {line!r}")
        values[key] = rest.strip() if key != "interpreter" else rest
    try:
        magic = bytes.fromhex(values.get("magic", ""))
        mask = bytes.fromhex(values["mask"]) if "mask" in values else b"\xff" * len(magic)
        offset = int(values.get("offset", "0"))
    except ValueError as error:
        raise _Fault(1, f"no hex digits, or no number: {error}") from error
    common = {"enabled": lines[0] == "enabled", "source": source, "flags": values.get("flags", "")}
    interpreter = values.get("interpreter", "")
    if "extension" in values:
        extension = values["extension"].removeprefix(".")
        return [_made(1, Entry(name, "E", interpreter, extension=extension, **common))]  # type: ignore[arg-type]
    return [
        _made(1, Entry(name, "M", interpreter, offset=offset, magic=magic, mask=mask, **common))  # type: ignore[arg-type]
    ]


def _binfmts(lines: list[str], name: str, source: str) -> list[Entry]:
    values: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        key, _, value = line.strip().partition(" ")
        if key not in _KEYS:
            raise _Fault(number, f"unknown option {key!r}{did_you_mean(key, _KEYS)}")
        if key in values:
            raise _Fault(number, f"{key} is there twice")
        values[key] = value.strip()
    return _support(values, name, source)


def _admin(lines: list[str], name: str, source: str) -> list[Entry]:
    if len(lines) < _ADMIN_MIN:
        raise _Fault(len(lines), f"a file of /var/lib/binfmts has at least {_ADMIN_MIN} lines: {' '.join(_ADMIN)}")
    values = dict(zip(_ADMIN, lines, strict=False))
    if values["type"] not in ("magic", "extension"):
        raise _Fault(2, f"the type is magic or extension, not {values['type']!r}")
    if values["type"] == "extension":
        values["extension"] = values.pop("magic")
    # `:` is what binfmt-support calls the administrator's own.
    if values["package"] == ":":
        del values["package"]
    return _support({key: value for key, value in values.items() if value and key != "type"}, name, source)


def _support(values: Mapping[str, str], name: str, source: str) -> list[Entry]:
    for key in _SWITCHES:
        if values.get(key, "no") not in ("yes", "no"):
            raise _Fault(1, f"{key} is yes or no, not {values[key]!r}")
    if "interpreter" not in values or ("magic" in values) == ("extension" in values):
        raise _Fault(1, "there must be an interpreter, and either a magic or an extension")
    flags = "".join(flag for key, flag in _SWITCHES.items() if values.get(key) == "yes")
    plain = Entry(
        name, "M", values["interpreter"], flags, package=values.get("package"), detector=values.get("detector"),
        source=source,
    )  # fmt: skip
    if "extension" in values:
        return [_made(1, Entry(**{**vars(plain), "kind": "E", "extension": values["extension"]}))]
    return [_with_magic(1, plain, values.get("offset", ""), values["magic"], values.get("mask", ""))]


_READERS: dict[Format, Callable[[list[str], str, str], list[Entry]]] = {
    "register": _register,
    "binfmt.d": _binfmt_d,
    "proc": _proc,
    "binfmts": _binfmts,
    "admin": _admin,
}
