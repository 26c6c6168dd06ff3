"""The phases of a build: what the recipe says, and the preset where it says nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from xbuild.model.preset import Preset
from xbuild.model.recipe import BUILD_PHASES, Recipe


@dataclass(frozen=True)
class Phase:
    """One phase: its name, shell text for `sh -eu`, and whether it may use the network."""

    name: str
    script: str
    network: bool = False


def resolve_phases(recipe: Recipe, presets: Mapping[str, Preset]) -> tuple[Phase, ...]:
    """The phases of `recipe` in order; those without any text are left out."""
    preset = presets[recipe.build.preset]
    phases = [Phase("fetch", _joined(recipe.build.fetch), network=True)]
    for name in BUILD_PHASES:
        own = getattr(recipe.build, name)
        body = getattr(preset.phases, name) if own is None else own
        before, after = (getattr(recipe.build, f"{when}_{name}") for when in ("before", "after"))
        phases.append(Phase(name, _joined(before, body, after)))
    phases.append(Phase("check", _joined(recipe.check.command if recipe.check else None)))
    return tuple(phase for phase in phases if phase.script)


def _joined(*texts: str | None) -> str:
    """The texts that say anything, each ended by a newline."""
    return "".join(text.rstrip("\n") + "\n" for text in texts if text and text.strip())
