"""Words by which several builds are named; what makes them stands in `many`, which takes longer to load."""

from __future__ import annotations

from collections.abc import Sequence

from xbuild.base import paths
from xbuild.base.errors import UsageError
from xbuild.model.load import recipe_names

ALL = "build all recipes of the project; if it has none, those that come with xbuild"
AT_ONCE = "builds at once, at most (default: as many as there are jobs)"
KEEP_GOING = "after a failure go on with all that does not need what failed"
JUNIT = "write the results to FILE, as JUnit XML"
PAGE = "write a page about the run to FILE, as HTML"
"""Help of options that several commands have."""


def recipes_of(word: str, also: Sequence[str] | None, *, every: bool) -> list[str]:
    """What is to be built: the words of the command line, each once, or with --all the recipes. Raises UsageError."""
    words = list(dict.fromkeys([word, *(also or ())]))
    if not every:
        return words
    if words != [""]:
        raise UsageError(f"--all is all recipes, and so is {words[0]!r}", hint="leave out one of them")
    project = paths.project()
    own = [file.stem for file in paths.definitions(project / "recipes")]
    return own or recipe_names(project)
