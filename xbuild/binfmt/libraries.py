"""Which shared libraries a program lacks, by the loader's rules as far as files tell them (ld.so(8))."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from xbuild.binfmt import rooted
from xbuild.elf import ElfError, ElfInfo, read_elf

_PLAIN = ("/lib", "/usr/lib", "/lib64", "/usr/lib64", "/lib32", "/usr/lib32", "/usr/local/lib", "/usr/local/lib64")
_MULTIARCH = ("/lib", "/usr/lib", "/usr/local/lib")


def missing(program: str, root: Path, more: Sequence[str] = ()) -> list[str]:
    """`NAME, needed by FILE` for each library that `program`, a path inside `root`, would not find.

    more: directories inside that are searched first, as by LD_LIBRARY_PATH. Unreadable files are passed over.
    """
    start = rooted.exists(program, root)
    usual = [*more, *_usual(root)]
    todo, seen, lacking = [(program, start)], set[str](), []
    while todo:
        inside, outside = todo.pop()
        info = _info(outside)
        if info is None:
            continue
        for name in info.needed:
            if name in seen:
                continue
            seen.add(name)
            own = [path.replace("$ORIGIN", str(Path(inside).parent)) for path in (*info.rpath, *info.runpath)]
            found = _search(name, root, [*own, *usual], info)
            if found is None:
                lacking.append(f"{name}, needed by {inside}")
            else:
                todo.append(found)
    return lacking


def _info(path: Path | None) -> ElfInfo | None:
    if path is not None:
        with contextlib.suppress(OSError, ElfError):
            return read_elf(path)
    return None


def _search(name: str, root: Path, folders: Sequence[str], user: ElfInfo) -> tuple[str, Path] | None:
    places = [name] if "/" in name else [f"{folder.rstrip('/')}/{name}" for folder in folders]
    for inside in places:
        outside = rooted.exists(inside, root)
        library = _info(outside)
        # The loader passes over those of another machine.
        if outside is not None and library is not None and _kind(library) == _kind(user):
            return inside, outside
    return None


def _kind(info: ElfInfo) -> tuple[str, int, str]:
    return info.machine, info.elf_class, info.data


def _usual(root: Path) -> Iterator[str]:
    yield from _configured("/etc/ld.so.conf", root, 0)
    for folder in _MULTIARCH:
        outside = rooted.exists(folder, root)
        if outside is not None:
            yield from (f"{folder}/{path.name}" for path in sorted(outside.glob("*-linux-*")))
    yield from _PLAIN


def _configured(path: str, root: Path, depth: int) -> Iterator[str]:
    file = rooted.exists(path, root)
    if file is None or depth > 4:
        return
    with contextlib.suppress(OSError):
        for line in file.read_text(errors="replace").splitlines():
            words = line.partition("#")[0].split()
            if words[:1] == ["include"]:
                for pattern in words[1:]:
                    folder = rooted.exists(str(Path(pattern).parent), root)
                    for found in sorted(folder.glob(Path(pattern).name)) if folder else ():
                        yield from _configured(f"{Path(pattern).parent}/{found.name}", root, depth + 1)
            elif words:
                yield words[0]
