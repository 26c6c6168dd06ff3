"""Twins of what comes to a build in wheels: which wheels of a recipe are a pair, and where their files are laid."""

from __future__ import annotations

import shutil
from pathlib import Path, PurePosixPath

from xbuild.build import wheelmodules, wheelpairs
from xbuild.build.environment import WorkPlace, build_directory
from xbuild.build.subject import Subject
from xbuild.build.wheelpairs import Sides, Wheels
from xbuild.formats.debian import Tree
from xbuild.model.source import Source
from xbuild.roots.distribution import Natives
from xbuild.sources import FetchContext, fetch, name_of
from xbuild.store.moment import for_a_moment

PRESET = "wheel"
FOR_BUILDS, FOR_TOOLS, FOR_NATIVES = ".wheels/build", ".wheels/tools", ".wheels/native"
"""Where, in the source tree, wheels lie that the preset installs, and those of which something stands in for theirs."""
_INSTALLED = {FOR_BUILDS: "env", FOR_TOOLS: "tools"}
"""Where, in the build directory, the preset installs them."""


def of(subject: Subject, natives: Natives) -> Wheels:
    """The twins of what the recipe's wheels bring. Raises SourceError, or MachineError, if one cannot be had."""
    policy, recipe = subject.roots.policy, subject.recipe
    there = [source for source in recipe.sources if source.into == FOR_NATIVES]
    if recipe.build.preset != PRESET or policy is None or not there:
        return Wheels()
    removed = {*recipe.twins.remove, *subject.request.without}
    found = []
    with for_a_moment(subject.store, "wheel-twins") as scratch:
        words = (policy, subject.toolchain, Tree([natives.tree]), natives.private, natives.twins)
        sides = Sides(*words, scratch, removed)
        for source in (one for one in recipe.sources if one.into in _INSTALLED):
            native = next((one for one in there if wheelpairs.same_version(_name(source), _name(one))), None)
            if native is not None:
                both = (_file(source, subject), _file(native, subject))
                folder = f"{build_directory(recipe)}/{_INSTALLED[source.into]}"
                found += [one.pair(*both, folder, sides) for one in (wheelpairs, wheelmodules)]
    stands = tuple(one for each in found for one in each.stands)
    return Wheels(stands, tuple(one for each in found for one in each.refused))


def _name(source: Source) -> str:
    return PurePosixPath(name_of(source)).name


def _file(source: Source, subject: Subject) -> Path:
    if source.path is not None:
        return subject.base / source.path
    return fetch(source, FetchContext(subject.store, lambda: (), subject.base))


def laid(found: Wheels, layer: Path | None, place: WorkPlace) -> Path | None:
    """The native layer of the build at `place`: `layer`, if there is one, with these twins in it."""
    if not found.stands:
        return layer
    own = place.path / "layer"
    if own.exists():
        shutil.rmtree(own)
    if layer is None:
        own.mkdir()
    else:
        shutil.copytree(layer, own, symlinks=True)
    found.lay(own)
    return own
