"""What builds on this machine leave in a project, which a build for the target must not take for its own."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import translate
from functools import cache

from xbuild.model.load import load_presets
from xbuild.model.preset import Preset


def leftovers(names: Iterable[str]) -> dict[str, str]:
    """Those of the files `names` that such builds have left, each with what to call it: a directory ends with a slash.

    As the presets say.
    """
    every = set(names)
    presets = load_presets().values()
    places = {place for preset in presets for place in _build_directories(preset, every)}
    beside = {path for preset in presets for path in _in_tree(preset, every)}
    patterns = sorted({pattern for preset in presets for pattern in preset.leftovers.files})
    is_left = re.compile("|".join(map(translate, patterns)) or "(?!)").match

    @cache
    def above(folder: str) -> str | None:
        """The outermost directory left by a build that `folder` is, or lies in."""
        outer = (f"{folder[:end]}/" for end, sign in enumerate(f"{folder}/") if sign == "/")
        return next((place for place in outer if place in places), None)

    def called(name: str) -> str | None:
        folder, _, last = name.rpartition("/")
        if folder and (place := above(folder)):
            return place
        first = name.partition("/")[0]
        if first in beside:
            return f"{first}/" if folder else first
        return name if is_left(last) else None

    return {name: place for name in every if (place := called(name))}


def _build_directories(preset: Preset, names: set[str]) -> Iterable[str]:
    sources = preset.recognised.files if preset.recognised else ()
    for mark in preset.leftovers.directories:
        for place in (name.removesuffix(mark) for name in names if name.endswith(f"/{mark}")):
            if not any(f"{place}{source}" in names for source in sources):
                yield place


def _in_tree(preset: Preset, names: set[str]) -> Iterable[str]:
    paths = preset.leftovers.in_tree
    return paths if paths and paths[0] in names else ()
