"""The task that brings what was built to a board."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xbuild.base import log
from xbuild.base.walk import shown
from xbuild.build.modes.table import MODES
from xbuild.build.subject import read
from xbuild.cli.arguments import COMMON, FOREIGN, REPO, request_of
from xbuild.cli.guard import guarded
from xbuild.cli.handing import strip_of
from xbuild.cli.task import Context, task
from xbuild.deploy import Deployed
from xbuild.deploy import deploy as deploy_to

_SIGNS = {"new": "+", "changed": "~", "removed": "-", "left": "!"}
_MOST = 20
"""Paths of a kind that are shown, unless more are asked for."""


@task(
    positional=["board", "recipe"],
    help={
        "board": "as ssh has it: BOARD, USER@BOARD, or a name of ~/.ssh/config",
        "recipe": f"{COMMON['recipe']}; none: the working directory",
        "prefix": "copy to this directory of the board; a relative one is in the home of the user who logs in",
        "dry-run": "tell what would be sent and removed; do nothing",
        "debug": "copy also the debug information that was split off",
        "target": FOREIGN,
        "mode": f"mode of the build: {', '.join(MODES)}",
        "suite": COMMON["suite"],
        "snapshot": COMMON["snapshot"],
        "root": COMMON["root"],
        "preset": "use this build system, for a project without a recipe that has several",
        "repo": REPO,
        "json": "write one JSON object to stdout, and nothing else",
        "verbose": "name all files",
    },
    iterable=["repo"],
)
@guarded
def deploy(
    _c: Context, board: str, recipe: str, prefix: str = "/", dry_run: bool = False, debug: bool = False,
    target: str = "armhf", mode: str = "substituted", suite: str = "", snapshot: str = "", root: str = "",
    strip: str = "", preset: str = "", repo: Sequence[str] | None = None, json: bool = False, verbose: bool = False,
) -> None:  # fmt: skip
    """Copy what was built to a board, by ssh; only what changed is sent, and only what it put there is removed."""
    log.configure(json=json, verbose=int(verbose))
    more: dict[str, Any] = {"snapshot": snapshot or None, "strip": strip_of(strip), "repositories": repo or ()}
    subject = read(request_of(recipe, target, mode, suite, root, preset=preset, **more))
    done = deploy_to(subject, board, prefix, debug=debug, dry_run=dry_run)
    log.result(done.as_json())
    if not json:
        _tell(done, everything=verbose or dry_run)


def _tell(done: Deployed, *, everything: bool) -> None:
    plan = done.plan
    for name, sign in _SIGNS.items():
        paths = getattr(plan, name)
        for path in paths if everything else paths[:_MOST]:
            log.output(f"{sign} {shown(path)}")
        if not everything and len(paths) > _MOST:
            log.output(f"{sign} {len(paths) - _MOST} more (--verbose names them)")
    verb = "would be " if done.dry_run else ""
    how = f", {log.human_size(done.bytes)} by {done.by}" if done.by else ""
    log.output(
        f"{done.board}:{done.directory}: {verb}{len(plan.new)} new, {len(plan.changed)} changed, {len(plan.removed)} "
        f"removed, {plan.same} as they were{how}"
    )
    if plan.foreign:
        log.output(f"{len(plan.foreign)} of the changed ones were put there by somebody else: {_some(plan.foreign)}")
    if plan.left:
        log.output(f"{len(plan.left)} that were put there changed since, and are left: {_some(plan.left)}")


def _some(paths: Sequence[str]) -> str:
    return ", ".join([*map(shown, paths[:3]), *(["..."] if len(paths) > 3 else [])])
