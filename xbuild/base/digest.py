"""Digests: of files, and of values as canonical JSON (the keys of the store)."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from xbuild.base.errors import MachineError
from xbuild.base.walk import open_file, shown, walk

KEY_VERSION = 1
"""Part of every key. Raise it when the meaning of a stored thing changes without its inputs changing."""

SUMS: Final = "SHA256SUMS"
"""The file with the digests of a directory's other files, as sha256sum(1) writes and checks it."""

CONTENTS: Final = "CONTENTS"
"""The file of a store's entry that records all that is in it, see sandbox/contents.py."""

_SMALL: Final = 1 << 20


def canonical_json(value: Any) -> str:
    """`value` as JSON with sorted keys and without white space: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def key_of(value: Any) -> str:
    """sha256, in hex, of `KEY_VERSION` and `value` as canonical JSON."""
    text = canonical_json({"key_version": KEY_VERSION, "value": value})
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def file_sha256(path: Path | str) -> str:
    """sha256, in hex, of the contents of the file `path`. Raises OSError, also for what is not a file."""
    with open_file(path, follow=True) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]


def is_file_with(path: Path, sha256: str) -> bool:
    """Whether `path` is a file with this digest; anything else is not, and no error."""
    try:
        return file_sha256(path) == sha256
    except OSError:
        return False


def read_json(path: Path) -> Any:
    """The JSON value in the file `path`. Raises OSError, and ValueError for all that JSON cannot be."""
    with open_file(path, follow=True) as stream:
        text = stream.read().decode()
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def sealed(value: Any) -> str:
    """`value` as JSON text that tells when it was changed."""
    return json.dumps({"key": key_of(value), "value": value}, indent=1, sort_keys=True) + "\n"


def read_sealed(path: Path) -> Any:
    """The value in a file with the text of `sealed`. Raises OSError; ValueError if it is not what was written."""
    known = read_json(path)
    try:
        if isinstance(known, dict) and set(known) == {"key", "value"} and key_of(known["value"]) == known["key"]:
            return known["value"]
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    raise ValueError("it was changed")


def write_sums(folder: Path, names: Iterable[str] | None = None) -> None:
    """Write `SUMS` for these files in `folder`; None: for all below it, whose names are our own."""
    if names is None:
        nodes = [visit.node for visit in walk(folder, skipped=[SUMS.encode()])]
        names = [node.path.decode() for node in nodes if stat.S_ISREG(node.mode)]
    (folder / SUMS).write_text("".join(f"{file_sha256(folder / name)}  {name}\n" for name in names))


def damage(folder: Path) -> str | None:
    """What is wrong with the files below `folder` that `write_sums` has seen, in words; None if all is well."""
    name = SUMS
    try:
        with open_file(folder / SUMS) as stream:
            lines = stream.read().decode().splitlines()
        for line in lines:
            digest, _, name = line.partition("  ")
            if file_sha256(folder / name) != digest:
                return f"{shown(name)} has changed"
    except (OSError, ValueError) as error:
        return f"{shown(name)}: {getattr(error, 'strerror', None) or 'it is damaged'}"
    return None if lines else f"{SUMS} is empty"


def small_files(entry: Path) -> Iterator[str]:
    """The files directly in an entry that decide what it is good for, and are soon read."""
    for file in sorted(entry.iterdir()):
        status = file.lstat()
        small = stat.S_ISREG(status.st_mode) and status.st_size <= _SMALL
        if small and file.name not in ("log", CONTENTS) and os.access(file, os.R_OK):
            yield file.name


def damaged(entry: Path) -> str | None:
    """What is wrong with an entry, in words; None if all is well, or if an older xbuild has written no sums."""
    return damage(entry) if os.path.lexists(entry / SUMS) else None


def json_contents(file: Path) -> Any:
    """The JSON value in a file of an entry. Raises MachineError if it is damaged."""
    try:
        return read_json(file)
    except (OSError, ValueError) as error:
        raise MachineError(f"{file} is damaged: {error}", hint=f"remove {file.parent}; it is made anew") from error
