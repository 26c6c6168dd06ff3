"""What the compiler cache keeps, as a part of the store: how much it takes, when each answer was used, which can go.

ccache keeps below a size of its own while it runs (ccache(1), `max_size`). Each answer is a file, whose time is when it
was given last. Its counters then stand too high by what others remove, until it counts anew as it cleans.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from xbuild.store.local import Store

FOLDER = "ccache"
"""The directory of the store with what it keeps; as a kind of entry it has this name, too."""
FILES = "files"
_OWN = frozenset({"stats", "CACHEDIR.TAG", "ccache.conf"})
"""Files of ccache's that are no answers."""
_BLOCK = 512


@dataclass(frozen=True)
class Answer:
    """One file. size: bytes on disk. used: when it was given last, or made; in seconds since 1970."""

    path: Path
    size: int
    used: float


@dataclass(frozen=True)
class Answers:
    """All that is there. size: bytes on disk, with ccache's own files. used: when the last of them was."""

    answers: tuple[Answer, ...]
    size: int
    used: float


def kept(store: Store) -> Answers | None:
    """What the compiler cache of `store` holds; None if it has none."""
    folder = store.root / FOLDER / FILES
    if not folder.is_dir() or folder.is_symlink():
        return None
    found = list(_files(folder))
    answers = [Answer(path, _size(status), status.st_mtime) for path, status in found if _is_answer(path, folder)]
    used = max((answer.used for answer in answers), default=folder.lstat().st_mtime)
    return Answers(tuple(answers), sum(_size(status) for _, status in found), used)


def remove(wanted: Iterable[Answer]) -> tuple[Answer, ...]:
    """Remove these; those that have gone. Nobody may build meanwhile."""
    gone = []
    for answer in wanted:
        with contextlib.suppress(OSError):
            answer.path.unlink()
            gone.append(answer)
    return tuple(gone)


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """All below it. Users inside have made them, open to all; what goes away meanwhile is left out."""
    waiting = [folder]
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode):
                        waiting.append(Path(entry.path))
                    yield Path(entry.path), status


def _is_answer(path: Path, folder: Path) -> bool:
    # DIGIT/DIGIT/NAME; its locks and temporary files lie in directories of other names.
    parts = path.relative_to(folder).parts
    below = parts[:-1]
    return bool(below) and all(len(part) == 1 for part in below) and path.name not in _OWN and len(path.name) > 1


def _size(status: os.stat_result) -> int:
    return status.st_blocks * _BLOCK
