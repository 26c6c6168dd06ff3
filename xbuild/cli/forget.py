"""The task that forgets what builds of a recipe have taught."""

from __future__ import annotations

from xbuild.base import log, paths
from xbuild.build import taught
from xbuild.cli.arguments import COMMON, recipe_named
from xbuild.cli.guard import guarded
from xbuild.cli.task import Context, task
from xbuild.model.load import load_recipe, load_toolchain, toolchain_names
from xbuild.store.own import open_store


@task(
    positional=["recipe"],
    help={
        "recipe": COMMON["recipe"],
        "target": "only for this target (default: for all)",
        "json": "write one JSON object to stdout, and nothing else",
    },
)
@guarded
def forget(_c: Context, recipe: str, target: str = "", json: bool = False) -> None:
    """Let programs run natively again that builds had to emulate; those whose twins could not go on are tried again."""
    log.configure(json=json)
    project = paths.project()
    toolchain = load_toolchain(target or toolchain_names(project)[0], project)
    name = load_recipe(recipe_named(recipe), toolchain, project).name
    store = open_store()
    with store.in_use():
        gone = taught.forget(store, name, target or None)
    log.result({"forgotten": [one.as_json() for one in gone]})
    for one in gone:
        log.output(f"forgotten, for {one.target}: {one.program} ({one.package})")
    if not gone:
        log.info(f"nothing is remembered of builds of {name}{f' for {target}' if target else ''}")
