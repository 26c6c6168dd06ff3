"""Which shared libraries a program lacks, by the loader's rules as far as files tell them (ld.so(8))."""

from __future__ import annotations

import contextlib
import fnmatch
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol

from xbuild.formats.elf import ElfError, ElfInfo, read_elf

_PLAIN = ("/lib", "/usr/lib", "/lib64", "/usr/lib64", "/lib32", "/usr/lib32", "/usr/local/lib", "/usr/local/lib64")
_MULTIARCH = ("/lib", "/usr/lib", "/usr/local/lib")
_INCLUDES = 4
"""How deep one configuration file may name another before it is taken for a circle."""


class Files(Protocol):
    """What a program sees. All paths are absolute ones inside."""

    def located(self, path: str) -> tuple[str, Path] | None:
        """The path without links, and where that lies outside; None if it cannot be reached."""

    def names(self, folder: str) -> Iterable[str]:
        """What lies in a directory; nothing, if there is none."""


def missing(program: str, files: Files, library_path: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Each library that `program` would not find, as (name, who needs it). Unreadable files are passed over.

    program: a path inside. library_path: directories inside, as by LD_LIBRARY_PATH.
    """
    usual = [*dict.fromkeys(_usual(files))]
    lacking: list[tuple[str, str]] = []
    seen: set[str] = set()
    todo: deque[tuple[str, tuple[str, ...]]] = deque([(program, ())])
    while todo:
        called, above = todo.popleft()
        place = files.located(called)
        info = _info(place)
        if place is None or info is None:
            continue
        rpath, runpath = _origin(info.rpath, place[0]), _origin(info.runpath, place[0])
        # An RPATH counts for the libraries of a library too, but nowhere beside a RUNPATH.
        inherited = above if runpath else (*rpath, *above)
        folders = [*(() if runpath else inherited), *library_path, *runpath, *usual]
        for name in (name for name in info.needed if name not in seen):
            seen.add(name)
            found = _search(name, files, folders, info)
            if found is None:
                lacking.append((name, called))
            else:
                todo.append((found, inherited))
    return lacking


def _origin(folders: Iterable[str], real: str) -> tuple[str, ...]:
    parent = str(PurePosixPath(real).parent)
    return tuple(folder.replace("$ORIGIN", parent).replace("${ORIGIN}", parent) for folder in folders)


def _info(place: tuple[str, Path] | None) -> ElfInfo | None:
    if place is not None:
        with contextlib.suppress(OSError, ElfError):
            return read_elf(place[1])
    return None


def _search(name: str, files: Files, folders: Sequence[str], user: ElfInfo) -> str | None:
    for inside in [name] if "/" in name else (f"{folder.rstrip('/')}/{name}" for folder in folders):
        library = _info(files.located(inside))
        # The loader passes over those of another machine.
        if library is not None and _kind(library) == _kind(user):
            return inside
    return None


def _kind(info: ElfInfo) -> tuple[str, int, str]:
    return info.machine, info.elf_class, info.data


def _usual(files: Files) -> Iterator[str]:
    yield from _configured("/etc/ld.so.conf", files, 0)
    for folder in _MULTIARCH:
        yield from (f"{folder}/{name}" for name in sorted(fnmatch.filter(files.names(folder), "*-linux-*")))
    yield from _PLAIN


def _configured(path: str, files: Files, depth: int) -> Iterator[str]:
    place = files.located(path)
    if place is None or depth > _INCLUDES:
        return
    with contextlib.suppress(OSError):
        for line in place[1].read_text(errors="replace").splitlines():
            words = line.partition("#")[0].split()
            if words[:1] == ["include"]:
                for pattern in map(PurePosixPath, words[1:]):
                    # A relative one is meant from the directory of the file (ldconfig(8)).
                    folder = str(PurePosixPath(path).parent / pattern.parent)
                    for name in sorted(fnmatch.filter(files.names(folder), pattern.name)):
                        yield from _configured(f"{folder}/{name}", files, depth + 1)
            elif words:
                yield words[0]
