"""By what request a recipe is built that another one needs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from xbuild.base.errors import UsageError
from xbuild.build.modes.table import DEFAULT
from xbuild.build.request import Request
from xbuild.model.load import recipe_path
from xbuild.model.recipe import Recipe


def needed_by(request: Request, recipe: Recipe, file: Path, project: Path) -> Request:
    """The request for the recipe in `file`, which the build of `recipe` by `request` needs.

    It is for the same target, release, day, root and repositories. All that only says how programs run is left out: a
    recipe that is needed is built in the default mode with all its twins, whatever the other one is built in, so that
    builds of that can be held against each other.
    """
    here = replace(request.here, start=None, keep=False, publish=False)
    return Request(
        word_for(file, project),
        request.target,
        suite=request.suite,
        snapshot=request.snapshot,
        root=request.root or recipe.root,
        locked=request.locked,
        repositories=request.repositories,
        here=here,
        mode=DEFAULT.name,
    )


def word_for(file: Path, project: Path) -> str:
    """How the recipe in `file`, without links, is named on the command line: by its name, if that leads to it."""
    try:
        found = recipe_path(file.stem, project)
    except UsageError:
        return str(file)
    return file.stem if found.resolve() == file else str(file)
