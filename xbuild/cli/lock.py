"""The task that fixes the packages of a recipe."""

from __future__ import annotations

from invoke.context import Context
from invoke.tasks import task

from xbuild.base import log
from xbuild.build.locking import lock as lock_recipe
from xbuild.cli.arguments import COMMON, names, request_of
from xbuild.cli.guard import guarded


@task(
    positional=["recipe"],
    auto_shortflags=False,
    help={
        "recipe": COMMON["recipe"],
        "target": "targets, separated by commas (default: those that the lock file has, else armhf)",
        "suite": COMMON["suite"],
        "snapshot": COMMON["snapshot"],
        "update": "packages of today, in the place of those that were resolved before",
        "json": "one JSON object on stdout",
    },
)
@guarded
def lock(
    _c: Context,
    recipe: str,
    target: str = "",
    suite: str = "",
    snapshot: str = "",
    update: bool = False,
    json: bool = False,
) -> None:
    """Write down, beside the recipe, the exact packages that its build is made with; builds then take just these."""
    log.configure(json=json)
    targets = names("--target", target) if target else []
    request = request_of(recipe, targets[0] if targets else "armhf", "substituted", suite, snapshot=snapshot or None)
    path = lock_recipe(request, targets, update=update)
    log.result({"lock": str(path)})
    if not json:
        log.output(str(path))
