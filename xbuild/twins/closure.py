"""The libraries that native programs and modules need, as they lie in a native tree."""

from __future__ import annotations

from pathlib import PurePosixPath

from xbuild.formats.debian import Tree
from xbuild.formats.elf import ElfError, read_elf


def contents(tree: Tree, path: str) -> bytes:
    """What the file `path` of `tree`, which is there, holds."""
    place = tree.find(path)
    assert place is not None
    return place.read_bytes()


def closure(tree: Tree, path: str, triplet: str) -> dict[str, str]:
    """The libraries that the ELF file `path` of `tree` needs, directly or not: file name -> real path in the tree.

    triplet: of the tree's architecture. Raises ElfError if one is not there.
    """
    found: dict[str, str] = {}
    pending = [(path, path)]
    while pending:
        shown, current = pending.pop()
        place = tree.find(current)
        assert place is not None
        info = read_elf(place)
        origin = str(PurePosixPath(current).parent)
        own = [part.replace("$ORIGIN", origin) for part in (*info.rpath, *info.runpath)]
        for name in (*info.needed, *([info.interpreter] if info.interpreter else [])):
            file = PurePosixPath(name).name
            if file in found:
                continue
            places = [name] if name.startswith("/") else []
            places += [f"{folder}/{file}" for folder in (*own, f"/usr/lib/{triplet}", "/usr/lib")]
            real = next((real for item in places if (real := tree.real_path(item))), None)
            if real is None:
                raise ElfError(f"{shown} needs {name}, which the native root does not have")
            found[file] = real
            pending.append((real, real))
    return found
