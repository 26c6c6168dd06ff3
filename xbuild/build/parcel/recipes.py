"""A recipe's file as it travels: what of its paths is of the sender's machine leads into the parcel instead."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import yaml

from xbuild.base.yamlfile import file_error, read_tree, validate
from xbuild.model.recipe import Override, RecipeFile

NOT_HERE = "# Not for this target.\n"
"""In the place of a recipe that another one names for other targets only: that there is one of this name is asked."""


class Written:
    """What stands in the recipe's file `file`, whatever the target. Raises RecipeError for what is no recipe."""

    def __init__(self, file: Path) -> None:
        tree = read_tree(file)
        known = validate(tree, RecipeFile)
        if isinstance(known, list):
            raise file_error(file, known)
        self._tree = tree
        self._parts: tuple[RecipeFile | Override, ...] = (known, *known.overrides)
        self.paths = tuple(source.path for source in known.sources if source.path is not None)

    @property
    def patches(self) -> list[str]:
        """All that it names, as paths without detours: that they are there is asked for every target."""
        named = [name for part in self._parts for name in part.patches]
        return list(dict.fromkeys(str(PurePosixPath(name)) for name in named))

    @property
    def recipes(self) -> list[str]:
        """The names of all recipes that it names, for whatever target."""
        return list(dict.fromkeys(one.name for part in self._parts for one in part.depends.recipes))

    def text(self, paths: Mapping[int, str]) -> str:
        """It with other paths for the sources of these numbers; comments are left out."""
        value = self._tree.plain()
        for number, path in paths.items():
            value["sources"][number]["path"] = path
        return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=1 << 20)
