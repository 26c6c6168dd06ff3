"""The task that tells what ran in a build."""

from __future__ import annotations

from invoke.context import Context
from invoke.tasks import task

from xbuild import log
from xbuild.cli.guard import guarded
from xbuild.environment import MODES
from xbuild.errors import UsageError
from xbuild.inputs import Inputs
from xbuild.result import Options
from xbuild.trace import Trace, tables
from xbuild.trace import trace as trace_build
from xbuild.yamlfile import did_you_mean


def _inputs(recipe: str, target: str, mode: str, suite: str) -> Inputs:
    if recipe.startswith("-"):
        # invoke takes any word for the recipe as long as there is none.
        raise UsageError(f"there is no recipe before {recipe!r}", hint="`--help COMMAND` shows what a command takes")
    chosen = next((known for known in MODES if known == mode), None)
    if chosen is None:
        raise UsageError(f"unknown mode {mode!r}{did_you_mean(mode, MODES)}", hint=f"modes: {', '.join(MODES)}")
    return Inputs(recipe, target, Options(mode=chosen, suite=suite or None))


def _number(text: str) -> int:
    # Not left to invoke, which would show a traceback.
    if not (text.isascii() and text.isdigit() and int(text)):
        raise UsageError(f"--top must be a number from 1 on, not {text!r}")
    return int(text)


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
            log.output(f"\n{title}:")
            log.table(columns, rows)
    for line in tables.notes(found):
        log.output(line)


@task(
    positional=["recipe"],
    auto_shortflags=False,
    help={
        "recipe": "name of a file in recipes/ (or a path)",
        "target": "name of a file in toolchains/: armhf, arm64 ...",
        "mode": f"mode of the build: {', '.join(MODES)}",
        "suite": "another release of the distribution, e.g. bookworm",
        "phase": "only this phase",
        "top": "rows of a table (default 15); the rest is summed up",
        "json": "one JSON object on stdout, nothing else there",
    },
)
@guarded
def trace(
    _c: Context,
    recipe: str,
    target: str = "armhf",
    mode: str = "substituted",
    suite: str = "",
    phase: str = "",
    top: str = "15",
    json: bool = False,
) -> None:
    """Tell what ran in the last build, natively or emulated and why, at what price, and what would make it faster."""
    log.configure(json=json)
    rows = _number(top)
    found = trace_build(_inputs(recipe, target, mode, suite), phase or None)
    for warning in found.warnings():
        log.warn(warning)
    if not json:
        _show(found, rows)
    log.result(found.as_json())
