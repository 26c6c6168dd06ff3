"""Files about what a command did, which it writes at its end: a page, a table, a JUnit file."""

from __future__ import annotations

import os
from pathlib import Path

from xbuild.base import log
from xbuild.base.errors import UsageError


def require_writable(*names: str) -> None:
    """Raises UsageError now, not after hours. "": no file."""
    for path in (Path(name).absolute() for name in names if name):
        # A directory that is missing is made.
        folder = next((place for place in path.parents if os.path.lexists(place)), path)
        if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK) or path.is_dir():
            raise UsageError(f"cannot write {path}", hint=f"is {folder} a directory that you can write to?")


def written(name: str | Path, text: str) -> str | None:
    """Write `text` to the file `name`, which appears only when complete; its path, None if it cannot be written.

    That is a warning: what was done is worth more than the file, and is told in the end.
    """
    path = Path(name).absolute()
    beside = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A name of a file in a build tree may hold any bytes.
        beside.write_text(text, encoding="utf-8", errors="backslashreplace")
        beside.replace(path)
    except OSError as error:
        log.warn(f"cannot write {path}: {error.strerror}")
        return None
    return str(path)
