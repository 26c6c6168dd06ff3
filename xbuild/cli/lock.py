"""The task that fixes the packages of a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xbuild.base import log
from xbuild.build.locking import lock as lock_recipe
from xbuild.cli.arguments import COMMON, REPO, names, request_of
from xbuild.cli.guard import guarded
from xbuild.cli.task import Context, task


@task(
    positional=["recipe"],
    help={
        "recipe": COMMON["recipe"],
        "target": "targets, separated by commas (default: those in the lock file, else armhf)",
        "suite": COMMON["suite"],
        "snapshot": COMMON["snapshot"],
        "update": "resolve today's packages, instead of those that were resolved before",
        "repo": REPO,
        "json": "write one JSON object to stdout, and nothing else",
    },
    iterable=["repo"],
)
@guarded
def lock(
    _c: Context,
    recipe: str,
    target: str = "",
    suite: str = "",
    snapshot: str = "",
    update: bool = False,
    repo: Sequence[str] | None = None,
    json: bool = False,
) -> None:
    """Write down the exact packages that a recipe is built with, in a file beside it; builds then take just these."""
    log.configure(json=json)
    targets = names("--target", target) if target else []
    more: dict[str, Any] = {"snapshot": snapshot or None, "repositories": repo or ()}
    request = request_of(recipe, targets[0] if targets else "armhf", "substituted", suite, **more)
    path = lock_recipe(request, targets, update=update)
    log.result({"lock": str(path)})
    if not json:
        log.output(str(path))
