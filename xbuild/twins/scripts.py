"""Files that the dispatcher knows as a distribution's own: the scripts that an interpreter's twin may run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from xbuild.base.walk import open_file
from xbuild.dispatcher.table import Entry
from xbuild.formats.debian import Tree
from xbuild.model.policy import Policy


def of_this_file(entry: Entry, place: Path) -> Entry:
    """`entry` for no other file than that at `place`."""
    state = place.stat()
    seconds, nanoseconds = divmod(state.st_ctime_ns, 1_000_000_000)
    return replace(entry, size=state.st_size, ctime=(seconds, nanoseconds))


def slots(
    target: Tree, policy: Policy, tools: Iterable[str], *, as_packaged: bool, seen: Tree | None = None
) -> tuple[Entry, ...]:
    """The tools' `scripts` in `target`: an entry for each real path. as_packaged: by the package's checksum too.

    seen: `target` with layers over it that are no distribution's: what lies in these is no script of it.
    """
    found: dict[str, Entry] = {}
    for path, place in _named(target, [pattern for name in tools for pattern in policy.tools[name].scripts]):
        if path in found or path not in target.owners or not _is_script(place):
            continue
        covered = seen is not None and seen.find(path) != place
        if not covered and (not as_packaged or target.as_packaged(path)):
            found[path] = of_this_file(Entry(path, "", script=True), place)
    return tuple(found.values())


def _named(target: Tree, patterns: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """What the packages' files that match lead to: the real path, and the file outside."""
    for path in sorted(target.owners):
        if any(re.fullmatch(pattern, path) for pattern in patterns) and (known := target.located(path)):
            yield known


def _is_script(place: Path) -> bool:
    if place.is_symlink() or not place.is_file():
        return False
    with open_file(place) as stream:
        return stream.read(2) == b"#!"
