"""Recipes, presets and toolchains by name: found, read, checked, and resolved for a target."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel

from xbuild.base import paths
from xbuild.base.errors import UsageError
from xbuild.base.yamlfile import Location, Node, Problem, did_you_mean, file_error, load_model, read_tree, validate
from xbuild.model import native, overrides, template
from xbuild.model.base import NAME
from xbuild.model.policy import Policy
from xbuild.model.toolchain import Toolchain

if TYPE_CHECKING:
    from xbuild.model.preset import Preset
    from xbuild.model.recipe import Recipe

M = TypeVar("M", bound=BaseModel)

SUFFIX = ".yml"

TEMPLATED: tuple[tuple[str, ...], ...] = (
    ("sources", "*", "url"),
    ("sources", "*", "mirrors", "*"),
    ("sources", "*", "distribution", "package"),
    ("sources", "*", "distribution", "file"),
    ("outputs", "*", "path"),
    ("outputs", "*", "prints"),
    ("overrides", "*", "outputs", "*", "path"),
    ("overrides", "*", "outputs", "*", "prints"),
)
"""Where templates are rendered; `*` is any item of a list. Never in shell text: it has variables."""


def names(*directories: Path) -> list[str]:
    """Names, sorted, of the recipes, presets or toolchains in `directories`."""
    return sorted({path.stem for directory in directories for path in paths.definitions(directory)})


def _places(kind: str, project: Path) -> tuple[Path, ...]:
    """Where `recipes` or `toolchains` are looked for, in this order."""
    return (project / kind, paths.shipped(kind))


def recipe_names(project: Path) -> list[str]:
    """Names of the recipes that `project` has or xbuild brings along, sorted."""
    return names(*_places("recipes", project))


def toolchain_names(project: Path) -> list[str]:
    """Names of the targets that `project` has or xbuild brings along, sorted."""
    return names(*_places("toolchains", project))


@cache
def load_presets() -> Mapping[str, Preset]:
    """All presets by name."""
    return {name: load_preset(name) for name in names(paths.PRESETS)}


def load_preset(name: str) -> Preset:
    """The preset `name`. Raises UsageError for an unknown one, RecipeError for a wrong file."""
    # As with recipes: what only runs a program needs none.
    from xbuild.model.preset import Preset

    return _load_named(_find("preset", (paths.PRESETS,), name), Preset)


def load_toolchain(name: str, project: Path) -> Toolchain:
    """The toolchain of the target `name`, as it is on this machine.

    Raises UsageError when unknown or not for this machine, RecipeError for a wrong file.
    """
    return _load_named(toolchain_path(name, project), Toolchain).on(native.find())


def toolchain_path(name: str, project: Path) -> Path:
    """The file of a target: the project's own, else the shipped one. Raises UsageError when there is none."""
    return _find("target", _places("toolchains", project), name)


def load_policy(toolchain: Toolchain) -> Policy | None:
    """Which tools get twins for the target; None for the machine's own, which has none. Raises RecipeError."""
    return load_model(paths.POLICIES / f"{toolchain.policy}.yml", Policy) if toolchain.policy else None


def load_recipe(name_or_path: str, toolchain: Toolchain, project: Path) -> Recipe:
    """A recipe as it is for one target: overrides merged, templates rendered, options checked.

    name_or_path: a recipe of `project`, else a shipped one, or (with a slash, or ending in .yml) the path of a file.
    Raises UsageError for an unknown name, RecipeError with all that is wrong in the file.
    """
    return read_recipe(recipe_path(name_or_path, project), toolchain, project)[0]


def read_recipe(path: Path, toolchain: Toolchain, project: Path) -> tuple[Recipe, Node]:
    """As `load_recipe`, of the file `path`; and the tree that it was made from, where each field has its line."""
    from xbuild.model.recipe import Recipe, RecipeFile

    tree, problems = _rendered(read_tree(path), toolchain.name)
    if path.parent in _places("recipes", project):
        problems += _name_problems(tree, path)
    problems += _patch_problems(tree, patches_directory(path))
    problems += _target_problems(tree, project, toolchain.name)
    problems += _build_problems(tree) + _dependency_problems(tree, path)
    written = validate(tree, RecipeFile)
    if isinstance(written, list):
        # A template that cannot be rendered is not a valid address either: one error is enough.
        told = {problem.field for problem in problems}
        problems += [problem for problem in written if problem.field not in told]
    if problems:
        raise file_error(path, problems)
    merged = overrides.resolved(tree, toolchain.name)
    recipe = validate(merged, Recipe)
    problems = recipe if isinstance(recipe, list) else _build_problems(merged)
    if isinstance(recipe, list) or problems:
        raise file_error(path, problems)
    return recipe.completed(toolchain.name), merged


def dependency_path(name: str, recipe: Path) -> Path:
    """The file of the recipe `name` that the one in the file `recipe` names: beside it, else a shipped one.

    Raises UsageError when there is none of that name.
    """
    return _find("recipe", _beside(recipe), name)


def _beside(recipe: Path) -> tuple[Path, ...]:
    return (recipe.absolute().parent, paths.shipped("recipes"))


def recipe_path(name_or_path: str, project: Path) -> Path:
    """The file of a recipe. Raises UsageError, with a suggestion, when there is none of that name."""
    if "/" in name_or_path or name_or_path.endswith((SUFFIX, ".yaml")):
        return Path(name_or_path)
    return _find("recipe", _places("recipes", project), name_or_path)


def sources_directory(recipe: Path) -> Path:
    """What relative paths of sources are relative to: where the file lies, or the project whose `recipes/` has it."""
    folder = recipe.absolute().parent
    return folder.parent if folder.name == "recipes" else folder


def patches_directory(recipe: Path) -> Path:
    """What the patches of the recipe in the file `recipe` are relative to: where it lies, wherever that is."""
    return recipe.absolute().parent


def _find(kind: str, directories: tuple[Path, ...], name: str) -> Path:
    known = names(*directories)
    if name not in known:
        raise UsageError(f"unknown {kind} {name!r}{did_you_mean(name, known)}", hint=f"known: {', '.join(known)}")
    files = (directory / f"{name}{SUFFIX}" for directory in directories)
    # A link that leads nowhere was found by its name too: reading it will say so.
    return next(file for file in files if os.path.lexists(file))


def _load_named(path: Path, model: type[M]) -> M:
    return load_model(path, model, lambda tree: (tree, _name_problems(tree, path)))


def _name_problems(tree: Node, path: Path) -> list[Problem]:
    """A name that is not the file's would be found under one name and stored under another."""
    name = tree.find("name")
    if name is None or not isinstance(name.value, str) or name.value == path.stem:
        return []
    return [Problem.at(tree, ("name",), f"must be {path.stem!r}, as the file is called")]


def _rendered(tree: Node, target: str) -> tuple[Node, list[Problem]]:
    """`tree` with its templates rendered, and what is wrong with them."""
    given = {key: tree.find(key) for key in ("name", "version")}
    known = {key: node.value if node and isinstance(node.value, str) else "" for key, node in given.items()}
    values = template.variables(known["name"], known["version"], target)
    problems: list[Problem] = []

    def walk(node: Node, location: Location) -> Node:
        if isinstance(node.value, dict):
            entries = {key: walk(child, (*location, key)) for key, child in node.value.items()}
            return Node(entries, node.line, node.column)
        if isinstance(node.value, list):
            items = [walk(child, (*location, index)) for index, child in enumerate(node.value)]
            return Node(items, node.line, node.column)
        if not isinstance(node.value, str) or not _templated(location):
            return node
        try:
            return Node(template.render(node.value, values), node.line, node.column)
        except ValueError as error:
            problems.append(Problem.at(tree, location, str(error)))
            return node

    return walk(tree, ()), problems


def _templated(location: Location) -> bool:
    return tuple("*" if isinstance(part, int) else part for part in location) in TEMPLATED


def _overrides(tree: Node) -> list[tuple[Location, Node]]:
    overrides_node = tree.find("overrides")
    return [(("overrides", index), node) for index, node in overrides_node.items()] if overrides_node else []


def _patch_problems(tree: Node, directory: Path) -> list[Problem]:
    problems = []
    for location, part in [((), tree), *_overrides(tree)]:
        patches = part.find("patches")
        for index, node in patches.items() if patches else ():
            if isinstance(node.value, str) and not os.path.isfile(directory / node.value):  # noqa: PTH113
                text = f"no file {directory.name}/{node.value}"
                problems.append(Problem.at(tree, (*location, "patches", index), text))
    return problems


def _dependency_problems(tree: Node, path: Path) -> list[Problem]:
    """Recipes that are not there."""
    problems, known = [], names(*_beside(path))
    for location, part in [((), tree), *_overrides(tree)]:
        wanted = part.find("depends", "recipes")
        for index, node in wanted.items() if wanted else ():
            named = node.find("name") or node
            if isinstance(named.value, str) and re.fullmatch(NAME, named.value) and named.value not in known:
                text = f"there is no recipe {named.value!r}{did_you_mean(named.value, known)}"
                problems.append(Problem.at(tree, (*location, "depends", "recipes", index), text))
    return problems


def _target_problems(tree: Node, project: Path, target: str) -> list[Problem]:
    """Patterns that match no target's name: an override with a typing error would silently do nothing."""
    known = sorted({*toolchain_names(project), target})
    problems: list[Problem] = []
    for location, _ in _overrides(tree):
        problems += _pattern_problems(tree, (*location, "targets"), known)
    for location, part in [((), tree), *_overrides(tree)]:
        wanted = part.find("depends", "recipes")
        for index, _ in wanted.items() if wanted else ():
            problems += _pattern_problems(tree, (*location, "depends", "recipes", index, "when"), known)
    return problems


def _pattern_problems(tree: Node, location: Location, known: list[str]) -> list[Problem]:
    patterns, problems = tree.find(*location), []
    for index, node in patterns.items() if patterns else ():
        if isinstance(node.value, str) and not any(fnmatchcase(name, node.value) for name in known):
            text = f"{node.value!r} matches no target{did_you_mean(node.value, known)}"
            problems.append(Problem.at(tree, (*location, index), text))
    return problems


def _build_problems(tree: Node) -> list[Problem]:
    """Presets that do not exist, and options that the preset does not have or that have the wrong type."""
    presets = load_presets()
    problems = []
    base = tree.find("build", "preset")
    for location, part in [((), tree), *_overrides(tree)]:
        preset_node = part.find("build", "preset") or base
        name = preset_node.value if preset_node else None
        if not isinstance(name, str):
            continue
        if name not in presets:
            if part.find("build", "preset"):
                text = f"{name!r} is not one of {', '.join(presets)}{did_you_mean(name, presets)}"
                problems.append(Problem.at(tree, (*location, "build", "preset"), text))
            continue
        options = part.find("build", "options")
        for key, node in options.items() if options else ():
            if wrong := _option_fault(presets[name], str(key), node):
                problems.append(Problem.at(tree, (*location, "build", "options", key), wrong))
    return problems


def _option_fault(preset: Preset, key: str, node: Node) -> str | None:
    option = preset.options.get(key)
    if option is None:
        return f"preset {preset.name!r} has no such option{did_you_mean(key, preset.options)}"
    value = node.plain()
    return option.refusal(tuple(value) if isinstance(value, list) else value)
