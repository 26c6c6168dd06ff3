"""Which recipes a recipe needs, and these need: found by name, each once, in the order in which they are built."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from xbuild.base.errors import RecipeError
from xbuild.base.yamlfile import shown
from xbuild.model.load import dependency_path, read_recipe
from xbuild.model.recipe import Recipe
from xbuild.model.toolchain import Toolchain


@dataclass(frozen=True)
class Need:
    """That a recipe needs another one. name: of that; file: where it is; at: `FILE:LINE:COLUMN` that says so."""

    name: str
    file: Path
    at: str


@dataclass(frozen=True)
class Needed:
    """A recipe for one target, by its file, without links; and what it needs itself, in its own order."""

    file: Path
    recipe: Recipe
    needs: tuple[Need, ...]


def needed(file: Path, toolchain: Toolchain, project: Path) -> Needed:
    """The recipe in `file`. Raises UsageError if there is no such file, RecipeError with all that is wrong in it."""
    recipe, tree = read_recipe(file, toolchain, project)
    places: dict[str, str] = {}
    wanted = tree.find("depends", "recipes")
    for _, node in wanted.items() if wanted else ():
        name = (node.find("name") or node).value
        places.setdefault(str(name), f"{shown(file)}:{node.line}:{node.column}")
    return Needed(
        file.resolve(),
        recipe,
        tuple(
            Need(known.name, dependency_path(known.name, file).resolve(), places[known.name])
            for known in recipe.depends.recipes
        ),
    )


def in_order(files: Iterable[Path], read: Callable[[Path], Needed]) -> list[Needed]:
    """The recipes in `files` (without links) and all that they need: each once, and after all that it needs itself.

    read: as `needed`. Raises as that does, and RecipeError for recipes that need each other.
    """
    found: dict[Path, Needed] = {}
    for file in files:
        _visit(file, read, found)
    return list(found.values())


def closure(file: Path, read: Callable[[Path], Needed]) -> tuple[list[Needed], Needed]:
    """What the recipe in `file` needs, as `in_order`, and that recipe itself.

    Raises as `in_order`, and RecipeError if two of them have one name: they would be two versions of one thing.
    """
    *before, own = in_order([file.resolve()], read)
    by_name: dict[str, Path] = {}
    asked = {need.file: need.at for node in (own, *before) for need in node.needs}
    for node in before:
        other = by_name.setdefault(node.recipe.name, node.file)
        if other != node.file:
            raise RecipeError(
                f"{asked[node.file]}: {own.recipe.name} needs two recipes called {node.recipe.name}",
                details=[f"{asked[place]}: {shown(place)}" for place in (other, node.file)],
                hint="a name is looked up beside the recipe that has it, then among those that xbuild brings along",
            )
    return before, own


def _visit(top: Path, read: Callable[[Path], Needed], found: dict[Path, Needed]) -> None:
    # No recursion: a chain may be longer than Python's stack.
    way: dict[Path, Needed] = {}
    left: list[list[Need]] = []
    asked: list[Need] = []

    def begin(file: Path) -> None:
        node = read(file)
        way[file] = node
        left.append(list(node.needs))

    if top not in found:
        begin(top)
    while way:
        if not left[-1]:
            file, node = way.popitem()
            found[file] = node
            left.pop()
            asked = asked[:-1]
            continue
        need = left[-1].pop(0)
        if need.file in way:
            first = list(way).index(need.file)
            raise _circle([known.recipe.name for known in way.values()][first:], [*asked[first:], need])
        if need.file not in found:
            asked.append(need)
            begin(need.file)


def _circle(names: list[str], needs: list[Need]) -> RecipeError:
    """names: the recipes of the circle; needs: what each of them names next."""
    round_trip = " -> ".join([*names, names[0]])
    lines = [f"{need.at}: {name} needs {need.name}" for name, need in zip(names, needs, strict=True)]
    hint = "take one of them away, or build the part that both need as a recipe of its own"
    return RecipeError(f"{needs[-1].at}: recipes need each other: {round_trip}", details=lines, hint=hint)
