"""The phases of a build: which there are, what the recipe says, and the preset where it says nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from xbuild.model.preset import Preset
from xbuild.model.recipe import Recipe

UNPACK = "unpack"
"""The step before the phases: sources and patches into the source directory."""

CONFIGURE = "configure"
"""The phase before compiling, which a build tree that stays does not always need again."""


@dataclass(frozen=True)
class PhaseKind:
    """A phase that a build can have.

    in_source: it runs in the source directory; else in the build directory. network: it may use the network.
    preset: presets have shell text for it, which a recipe can replace, or add to before and after.
    """

    name: str
    in_source: bool = False
    network: bool = False
    preset: bool = True


KINDS = (
    PhaseKind("fetch", in_source=True, network=True, preset=False),
    PhaseKind("prepare", in_source=True),
    PhaseKind(CONFIGURE),
    PhaseKind("compile"),
    PhaseKind("install"),
    PhaseKind("check", preset=False),
)
"""In the order in which they run."""

IN_SOURCE = frozenset(kind.name for kind in KINDS if kind.in_source)
STEPS = (UNPACK, *(kind.name for kind in KINDS))
"""All steps that a build can have."""

BUILDING = tuple(kind.name for kind in KINDS if kind.preset and not kind.in_source)
"""The phases that say how fast a build is: tables have a column for each, drawings a colour."""

NOT_BUILDING = (UNPACK, *(kind.name for kind in KINDS if not kind.preset))
"""Steps that say nothing about a build's speed: the disk's, the network's, and the tests' of what was built."""


@dataclass(frozen=True)
class Phase:
    """One phase: its name, shell text for `sh -eu`, whether it may use the network, and whether it is root's."""

    name: str
    script: str
    network: bool = False
    root: bool = False


def resolve_phases(recipe: Recipe, presets: Mapping[str, Preset]) -> tuple[Phase, ...]:
    """The phases of `recipe` in order; those without any text are left out."""
    preset = presets[recipe.build.preset]
    own = {
        "fetch": recipe.build.fetch,
        "check": recipe.check.command if recipe.check else None,
        **{kind.name: _text(recipe, preset, kind.name) for kind in KINDS if kind.preset},
    }
    roots = recipe.build.as_root
    phases = [Phase(kind.name, _joined(own[kind.name]), kind.network, kind.name in roots) for kind in KINDS]
    return tuple(phase for phase in phases if phase.script)


def _text(recipe: Recipe, preset: Preset, name: str) -> str:
    replaced, text = getattr(recipe.build, name), getattr(preset.phases, name)
    before, after = (getattr(recipe.build, f"{when}_{name}") for when in ("before", "after"))
    return _joined(before, text if replaced is None else replaced, after)


def _joined(*texts: str | None) -> str:
    """The texts that say anything, each ended by a newline."""
    return "".join(text.rstrip("\n") + "\n" for text in texts if text and text.strip())
