"""The task that tells what ran in a build."""

from __future__ import annotations

from collections.abc import Sequence

from xbuild.base import log
from xbuild.build.modes.table import MODES
from xbuild.build.subject import read
from xbuild.cli.arguments import COMMON, FOREIGN, REPO, number, request_of
from xbuild.cli.guard import guarded
from xbuild.cli.task import Context, task
from xbuild.proof.trace import Trace, tables
from xbuild.proof.trace import trace as trace_build

TOP = 15
"""Rows of a table, unless the user asks for another number."""


def _show(found: Trace, top: int) -> None:
    log.output(f"{found.title}: {found.source.what}, {found.source.records}")
    log.output("")
    log.table(tables.PHASES, tables.phase_rows(found))
    log.output("")
    log.table(tables.PROGRAMS, tables.program_rows(found, top))
    for title, columns, rows in (
        ("could run natively; gains are estimates", tables.POSSIBLE, tables.possible_rows(found, top)),
        ("has to run emulated", tables.IMPOSSIBLE, tables.impossible_rows(found, top)),
    ):
        if rows:
            log.output("")
            log.output(f"{title}:")
            log.table(columns, rows)
    for line in tables.notes(found):
        log.output(line)


@task(
    positional=["recipe"],
    help={
        "recipe": COMMON["recipe"],
        "target": FOREIGN,
        "mode": f"mode of the build: {', '.join(MODES)}",
        "suite": COMMON["suite"],
        "root": COMMON["root"],
        "phase": "only this phase",
        "top": f"rows of a table (default {TOP}); the rest is summed up",
        "repo": REPO,
        "json": "write one JSON object to stdout, and nothing else",
    },
    iterable=["repo"],
)
@guarded
def trace(
    _c: Context,
    recipe: str,
    target: str = "armhf",
    mode: str = "substituted",
    suite: str = "",
    root: str = "",
    phase: str = "",
    top: str = "",
    repo: Sequence[str] | None = None,
    json: bool = False,
) -> None:
    """Tell what ran in the last build, natively or emulated, and why, at what price, and what would make it faster."""
    log.configure(json=json)
    rows = number("--top", top) or TOP
    found = trace_build(read(request_of(recipe, target, mode, suite, root, repositories=repo or ())), phase or None)
    for warning in found.warnings():
        log.warn(warning)
    if not json:
        _show(found, rows)
    log.result(found.as_json())
