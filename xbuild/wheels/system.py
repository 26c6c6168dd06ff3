"""Which libraries wheels take from the system that they are installed on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

from xbuild.formats.debian import Tree
from xbuild.formats.wheel import WheelError, opened


def taken(wheels: Iterable[Path], triplet: str, plain: Tree, built: Iterable[Tree]) -> dict[str, str]:
    """Libraries that `wheels` together name and do not have, nor has `plain`; by name, the packages that have them.

    Some tags take X11, GLib and others for granted (PEP 600, and auditwheel's policies for it); and what was never
    repaired takes all of its libraries from there. plain: where they are to be installed. built: where they were built,
    looked at one after another until all is found. What is in none of them is left out.
    """
    folder = f"/usr/lib/{triplet}"
    names: set[str] = set()
    own: set[str] = set()
    for file in wheels:
        # Of one that is damaged, pip has more to say.
        with contextlib.suppress(WheelError), opened(file, label=file.name) as wheel:
            names.update(wheel.needed())
            own.update(path.rpartition("/")[2] for path in wheel.paths())
    lacking = {name for name in names - own if plain.located(f"{folder}/{name}") is None}
    found: dict[str, str] = {}
    if not lacking:
        return found
    for tree in built:
        places = {name: tree.located(f"{folder}/{name}") for name in lacking}
        found |= {name: tree.owners[place[0]] for name, place in places.items() if place and place[0] in tree.owners}
        if lacking <= found.keys():
            break
    return dict(sorted(found.items()))
