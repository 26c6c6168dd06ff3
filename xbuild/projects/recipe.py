"""The recipe that a project comes to: an ordinary file, so that it is built and explained as any recipe is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from xbuild.base import log
from xbuild.base.digest import key_of
from xbuild.base.errors import UsageError
from xbuild.base.paths import definitions
from xbuild.base.walk import shown
from xbuild.model.load import SUFFIX, recipe_names
from xbuild.projects.brought import PLACE, brought, is_archive, is_repository, named_as_archive
from xbuild.projects.recognise import Recognised, recognise
from xbuild.store.local import Store, writing_below

_DIGITS = 8
_OWN_PRESET = "the recipe's own build.preset counts; a directory that is called as a recipe is: ./NAME"
_PACKAGES = "packages"
"""The file beside a recipe with the packages that the project was found to need."""


def is_own(recipe: str, store: Store) -> bool:
    """Whether the recipe is one that was made of a project."""
    return Path(recipe).is_relative_to(store.root / PLACE)


def recipe_word(word: str, project: Path, store: Callable[[], Store], preset: str | None = None) -> str:
    """What a request is to name as its recipe for what the command line says: a recipe, its file, or a project.

    That is a directory, an archive, or the address of a git repository; "": the working directory. A directory whose
    own `recipes/` has one file is that recipe. preset: for a project. Raises UsageError if its build system is not
    known, SourceError if it cannot be had.
    """
    if is_repository(word) or is_archive(word):
        return str(recipe_of(brought(word, store()), store(), preset))
    top = Path(word or ".")
    if word and (not top.is_dir() or word in recipe_names(project)):
        _require_recipe(word)
        if preset is not None:
            raise UsageError(f"--preset is for a project without a recipe, and {word} names a recipe", hint=_OWN_PRESET)
        return word
    _require_readable(top)
    own = definitions(top / "recipes") if preset is None else []
    if len(own) == 1:
        return str(own[0])
    if own:
        known = ", ".join(file.stem for file in own)
        raise UsageError(f"{shown(str(top.absolute()))} has several recipes", hint=f"name one of {known}")
    return str(recipe_of(top, store(), preset))


def _require_readable(top: Path) -> None:
    """Raise UsageError for a directory that cannot be looked into."""
    if not os.access(top, os.R_OK | os.X_OK):
        raise UsageError(f"{shown(str(top.absolute()))}: the directory cannot be read", hint="is it yours?")


def _require_recipe(word: str) -> None:
    """Raise UsageError for the name of a file that is no recipe's."""
    if word.endswith((SUFFIX, ".yaml")):
        return
    hint = "a recipe, a directory, an archive (.tar..., .tgz, .zip), or the address of a git repository can be built"
    if named_as_archive(word):
        raise UsageError(f"there is no archive {word}", hint=hint)
    if Path(word).is_file():
        raise UsageError(f"{word} is no recipe, and no archive", hint=hint)


def recipe_of(top: Path, store: Store, preset: str | None = None) -> Path:
    """The recipe of the project in the directory `top`, written into the store; nothing is written to `top`.

    Raises UsageError if its build system is not known.
    """
    top = top.resolve()
    try:
        str(top).encode()
    except UnicodeEncodeError as error:
        message = f"{shown(os.fsencode(top))}: its path is not UTF-8, and no recipe can name it"
        raise UsageError(message, hint="rename the directory") from error
    known = recognise(top, preset)
    if known.others:
        others = " or ".join(f"--preset {name}" for name in known.others)
        log.info(f"{shown(str(top))} is built by {known.preset}; there is also {others}")
    file = _place(top, known, store)
    folder = file.parent
    text = _text(top, known, _packages(file))
    # Others may be at the same; and what is there already need not be written.
    with store.lock(f"project-{folder.name}", describe=f"looks at {shown(str(top))}"), writing_below(store.root):
        folder.mkdir(exist_ok=True)
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            beside = file.with_suffix(".new")
            beside.write_text(text, encoding="utf-8")
            beside.replace(file)
    return file


def _place(top: Path, known: Recognised, store: Store) -> Path:
    """Where the recipe of the project in `top` lies in the store."""
    return store.directory(PLACE) / f"{known.name}-{key_of(str(top))[:_DIGITS]}" / f"{known.name}{SUFFIX}"


def add_packages(recipe: Path, packages: Iterable[str]) -> None:
    """From now on, builds of the project whose recipe this is have these packages too."""
    known = _packages(recipe)
    file = recipe.with_name(_PACKAGES)
    beside = file.with_suffix(".new")
    beside.write_text("".join(f"{name}\n" for name in sorted({*known, *packages})))
    beside.replace(file)
    value = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    value["depends"] = {"packages": _packages(recipe)}
    beside = recipe.with_suffix(".new")
    beside.write_text(yaml.safe_dump(value, sort_keys=False), encoding="utf-8")
    beside.replace(recipe)


def _packages(recipe: Path) -> list[str]:
    file = recipe.with_name(_PACKAGES)
    return file.read_text().split() if file.is_file() else []


def _text(top: Path, known: Recognised, packages: Sequence[str]) -> str:
    value: dict[str, Any] = {
        "schema": 1,
        "name": known.name,
        "version": known.version,
        "sources": [{"path": str(top)}],
        **({"depends": {"packages": packages}} if packages else {}),
        "build": {"preset": known.preset, "incremental": True},
    }
    return yaml.safe_dump(value, sort_keys=False)


_RECIPE = """\
# How {name} is built. Every field stands in xbuild's docs/recipes.md; `invoke build {name}` builds it.
schema: 1
name: {name}
version: {version}
# summary: One line about it
# license: MIT
sources:
  - path: .                   # this directory as it is now, without what .gitignore names
{depends}
build:
  preset: {preset}{others}
  incremental: true           # what was not changed is not compiled again
#   options: {{...}}            # of the preset: docs/recipes.md
# check:
#   command: make check       # runs after each build
# outputs:                    # what must be there in the end; a program is run
#   - {{path: usr/bin/{name}, kind: executable, run: [--version]}}
"""


_NO_PACKAGES = """\
# depends:
#   packages: [zlib1g-dev]    # what the build needs: packages of the target, by Debian's names"""


def write_recipe(top: Path, store: Store, preset: str | None = None) -> Path:
    """Write a recipe of what is found out, with comments, to `recipes/NAME.yml` in the directory `top`.

    The packages that builds without a recipe were found to need are in it. Raises UsageError if there is one, or if the
    build system is not known.
    """
    _require_readable(top)
    known = recognise(top, preset)
    file = top / "recipes" / f"{known.name}{SUFFIX}"
    others = f"{' ' * max(1, 18 - len(known.preset))}# there is also: {', '.join(known.others)}" if known.others else ""
    version = yaml.safe_dump(known.version, default_style='"').strip()
    packages = ", ".join(_packages(_place(top.resolve(), known, store)))
    depends = f"depends:\n  packages: [{packages}]" if packages else _NO_PACKAGES
    text = _RECIPE.format(name=known.name, version=version, preset=known.preset, others=others, depends=depends)
    with writing_below(top):
        file.parent.mkdir(exist_ok=True)
        try:
            with file.open("x", encoding="utf-8") as stream:
                stream.write(text)
        except FileExistsError as error:
            raise UsageError(f"{file} is there already", hint="edit it, or remove it first") from error
    return file
