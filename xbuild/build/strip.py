"""Debug information of what was installed: dropped, or put into files of their own that debuggers find by build id."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from xbuild.base import log
from xbuild.base.digest import read_sealed, sealed
from xbuild.base.errors import PhaseError
from xbuild.base.paths import BUILD
from xbuild.base.walk import Visit, shown, walk
from xbuild.build.check import is_below
from xbuild.build.environment import DEBUG, Job, Root, WorkPlace, capture
from xbuild.build.late import require_nothing_late
from xbuild.build.phases import INSTALL, Progress
from xbuild.formats.debian import Tree
from xbuild.formats.elf import ARCHIVE_MAGIC, ELF_MAGIC, ElfError, ElfInfo, open_members, read_elf, section_names
from xbuild.model.handing import DEBUG_PACKAGE
from xbuild.model.recipe import Recipe
from xbuild.model.toolchain import Toolchain
from xbuild.sandbox.run import machine_view, run

FOLDER = "usr/lib/debug/.build-id"
"""Where gdb, perf and systemd look for debug information by build id, below `/`."""
_LIST = "strip"
_NO_DEBUG = "-"
_SHORTEST = 3
"""Hex digits of a build id: two name the directory."""

# The file itself is written, so that it goes on to have its other names; it has the time and the mode that it had.
_ONE = f"""
file=./$3 new={BUILD}/{DEBUG}/new
if [ "$2" != {_NO_DEBUG} ]; then
    mkdir -p "{BUILD}/{DEBUG}/{FOLDER}/${{2%/*}}"
    objcopy --only-keep-debug "$file" "{BUILD}/{DEBUG}/{FOLDER}/$2"
    chmod 644 "{BUILD}/{DEBUG}/{FOLDER}/$2"
fi
strip -p $1 -o "$new" "$file"
mode=$(stat -c %a "$file")
chmod u+w "$file"
cat "$new" > "$file"
chmod "$mode" "$file"
touch -r "$new" "$file"
rm "$new"
"""
_ALL = f"""
umask 022
cd {BUILD}/dest
xargs -0 -r -n 3 sh -euc "$1" sh < {BUILD}/run/{_LIST}
"""
_ANEW = 'rm -rf -- "$1" && mkdir -- "$1"'


@dataclass(frozen=True)
class Stripped:
    """What became of debug information. files: how many were stripped. debug: the directory with what was split off.

    kept: paths of files that still have theirs, for they have no build id to find it by elsewhere.
    """

    strip: bool | str = False
    files: int = 0
    kept: tuple[str, ...] = ()
    debug: Path | None = None


@dataclass(frozen=True)
class _Item:
    """A file to strip: by which options, and its build id."""

    path: bytes
    how: str
    build_id: str | None


def is_other(place: WorkPlace, wanted: bool | str) -> bool:
    """Whether what is installed in a work place was stripped already, and not as it is `wanted` to be."""
    found = _done(place)
    return found is not None and found.strip != wanted


def strip(
    recipe: Recipe, toolchain: Toolchain, place: WorkPlace, root: Root, env: Mapping[str, str], progress: Progress
) -> Stripped:
    """Strip what was installed, by the strip and objcopy of the root, as the recipe has it; once.

    `outputs.take_over` has to be done. Whoever is killed meanwhile installs anew. Raises PhaseError if a tool fails;
    LateError if a twin could not go on.
    """
    wanted = recipe.artifact.strip
    if not wanted:
        return Stripped()
    if (done := _done(place)) is not None and done.strip == wanted:
        return done
    items = list(_items(recipe, toolchain, place))
    split = [item for item in items if item.build_id or wanted != DEBUG_PACKAGE or not _runs(item)]
    kept = [shown(item.path) for item in items if item not in split]
    with progress.going_back_to(INSTALL):
        run(machine_view(), ["sh", "-euc", _ANEW, "sh", place.build / DEBUG])
        _strip(split, place, root, env, debug=wanted == DEBUG_PACKAGE)
        place.stripped.write_text(sealed({"strip": wanted, "files": len(split), "kept": kept}))
    for path in kept:
        log.warn(f"{path} has no build id, so it keeps its debug information")
    return _of(place, wanted, len(split), kept)


def _done(place: WorkPlace) -> Stripped | None:
    try:
        value = read_sealed(place.stripped)
        return _of(place, value["strip"], value["files"], value["kept"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        # Damaged, or another version's: it says nothing, and is like none that is wanted.
        return Stripped("unknown")


def _of(place: WorkPlace, wanted: bool | str, files: int, kept: list[str]) -> Stripped:
    debug = place.build / DEBUG
    return Stripped(wanted, files, tuple(kept), debug if wanted == DEBUG_PACKAGE and any(debug.iterdir()) else None)


def _strip(items: list[_Item], place: WorkPlace, root: Root, env: Mapping[str, str], *, debug: bool) -> None:
    words = [
        word
        for item in items
        for word in (item.how.encode(), _debug_path(item).encode() if debug else _NO_DEBUG.encode(), item.path)
    ]
    file = place.scripts / _LIST
    file.write_bytes(b"".join(word + b"\0" for word in words))
    file.chmod(0o644)
    job = Job(("sh", "-euc", _ALL, "sh", _ONE), env, changes=True, root=True)
    code, said = capture(root, replace(place, further=(*place.further, DEBUG)), job)
    if root.private and root.machine is None:
        require_nothing_late(place.marks, "strip", way="the same once more with  --emulate {}")
    if code != 0:
        lines = said.decode(errors="replace").splitlines()[-20:]
        raise PhaseError("debug information cannot be taken out of what was installed", details=lines)


def _debug_path(item: _Item) -> str:
    if not item.build_id or not _runs(item):
        return _NO_DEBUG
    return f"{item.build_id[:2]}/{item.build_id[2:]}.debug"


def _runs(item: _Item) -> bool:
    """Whether it is a program or a shared library, and no object file or archive of some, which nobody debugs."""
    return item.how in (_PROGRAM, _LIBRARY)


_PROGRAM, _LIBRARY, _OBJECT, _ARCHIVE = "--strip-all", "--strip-unneeded", "--strip-debug", "--strip-debug -D"


def _items(recipe: Recipe, toolchain: Toolchain, place: WorkPlace) -> Iterator[_Item]:
    """All that has something to strip, each file once whatever its names; no data."""
    tree = Tree((place.dest,))
    data = frozenset(os.fsencode(path) for pattern in recipe.data for path in tree.matching(pattern))
    seen: set[tuple[int, int]] = set()
    for visit in walk(place.dest):
        node = visit.node
        if node.kind != stat.S_IFREG or node.inode in seen or is_below(node.path, data):
            continue
        seen.add(node.inode)
        try:
            item = _item(visit, toolchain)
        except ElfError:
            # The check will tell.
            continue
        if item is not None:
            yield item


def _item(visit: Visit, toolchain: Toolchain) -> _Item | None:
    with visit.open() as stream:
        start = stream.read(len(ARCHIVE_MAGIC))
        if start == ARCHIVE_MAGIC:
            members = [contents for _, contents in open_members(stream, shown(visit.node.path))]
            objects = members and all(_is_of_target(contents, toolchain) for contents in members)
            return _Item(visit.node.path, _ARCHIVE, None) if objects and _strippable(members) else None
        if not start.startswith(ELF_MAGIC) or not _is_of_target(stream, toolchain):
            return None
        info = read_elf(stream)
        how = _how(info)
        if how is None or not _strippable([stream], symbols=how != _OBJECT):
            return None
        build_id = info.build_id if info.build_id and len(info.build_id) >= _SHORTEST else None
        return _Item(visit.node.path, how, build_id)


def _how(info: ElfInfo) -> str | None:
    if info.e_type == "REL":
        return _OBJECT
    if info.e_type == "EXEC" or (info.e_type == "DYN" and not info.soname and (info.interpreter or info.is_static)):
        return _PROGRAM
    return _LIBRARY if info.e_type == "DYN" else None


def _is_of_target(stream: IO[bytes], toolchain: Toolchain) -> bool:
    stream.seek(0)
    if stream.read(len(ELF_MAGIC)) != ELF_MAGIC:
        return False
    info, wanted = read_elf(stream), toolchain.elf
    return (info.machine, info.elf_class, info.data) == (wanted.machine, wanted.elf_class, wanted.data)


def _strippable(files: list[IO[bytes]], *, symbols: bool = False) -> bool:
    """Whether one has debug information, or symbols that nothing loads; never if one has what a link compiles."""
    names = frozenset[str]().union(*map(section_names, files))
    if any(name.startswith(".gnu.lto_") for name in names):
        return False
    return any(name.startswith((".debug_", ".zdebug_")) for name in names) or (symbols and ".symtab" in names)
