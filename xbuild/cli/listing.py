"""The task that lists recipes, targets and modes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xbuild.base import log, paths
from xbuild.cli.guard import guarded
from xbuild.cli.task import Context, task
from xbuild.model.load import (
    load_presets,
    load_recipe,
    load_toolchain,
    recipe_names,
    recipe_path,
    toolchain_names,
    toolchain_path,
)
from xbuild.model.phases import UNPACK, resolve_phases
from xbuild.model.recipe import Recipe
from xbuild.model.toolchain import Toolchain


@task(name="list", help={"json": "write one JSON object to stdout, and nothing else"})
@guarded
def list_(_c: Context, json: bool = False) -> None:
    """List recipes and targets."""
    log.configure(json=json)
    project = paths.project()
    targets = [load_toolchain(name, project) for name in toolchain_names(project)]
    native = next((toolchain for toolchain in targets if toolchain.native), targets[0])
    recipes = [load_recipe(name, native, project) for name in recipe_names(project)]
    files = [recipe_path(recipe.name, project) for recipe in recipes]
    if json:
        told = [_recipe(known, file) for known, file in zip(recipes, files, strict=True)]
        log.result({"recipes": told, "targets": [_target(known, project) for known in targets], "modes": _modes()})
        return
    rows = [
        (known.name, known.version, _origin(file), known.summary) for known, file in zip(recipes, files, strict=True)
    ]
    log.table(("recipe", "version", "from", "summary"), rows)
    places = [(known, toolchain_path(known.name, project)) for known in targets]
    log.table(("target", "from", "summary"), [(known.name, _origin(file), known.summary) for known, file in places])


def _recipe(known: Recipe, file: Path) -> dict[str, Any]:
    return {
        **{name: getattr(known, name) for name in ("name", "version", "summary", "license", "homepage")},
        "file": str(file),
        "origin": _origin(file),
        "phases": [UNPACK, *(phase.name for phase in resolve_phases(known, load_presets()))],
    }


def _modes() -> list[dict[str, Any]]:
    # Only here: they load all that builds.
    from xbuild.build.modes.table import DEFAULT, MODES

    return [{"name": mode.name, "summary": mode.summary, "default": mode == DEFAULT} for mode in MODES.values()]


def _target(known: Toolchain, project: Path) -> dict[str, Any]:
    file = toolchain_path(known.name, project)
    words = {name: getattr(known, name) for name in ("name", "summary", "architecture", "triplet", "native", "builds")}
    return {**words, "suite": known.distribution.suite, "file": str(file), "origin": _origin(file)}


def _origin(file: Path) -> str:
    """`project` for a file of the user's project, `xbuild` for one that xbuild brings along."""
    return "xbuild" if file.parent in (paths.shipped("recipes"), paths.shipped("toolchains")) else "project"
