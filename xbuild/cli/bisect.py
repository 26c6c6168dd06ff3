"""The task that finds faulty twins."""

from __future__ import annotations

from invoke.context import Context
from invoke.tasks import task

from xbuild import log
from xbuild.bisect import bisect as find_culprits
from xbuild.cli.guard import guarded
from xbuild.doctor import require
from xbuild.errors import EXIT_CHECK, EXIT_OK, UsageError
from xbuild.result import Options


def _number(text: str) -> int:
    # Not left to invoke, which would show a traceback.
    if text and not (text.isascii() and text.isdigit() and int(text)):
        raise UsageError(f"--jobs must be a number from 1 on, not {text!r}")
    return int(text or 0)


@task(
    positional=["recipe"],
    auto_shortflags=False,
    help={
        "recipe": "name of a file in recipes/ (or a path)",
        "target": "name of a file in toolchains/: armhf, arm64 ...",
        "suite": "another release of the distribution, e.g. bookworm",
        "jobs": "compilers at once (default: as many as there are cores)",
        "objects": "compare the whole tree after each phase (the default; --no-objects: what is installed)",
        "keep": "keep the right and the wrong tree",
        "json": "one JSON object on stdout, nothing else there",
        "verbose": "tell more",
    },
)
@guarded
def bisect(
    _c: Context,
    recipe: str,
    target: str = "armhf",
    suite: str = "",
    jobs: str = "",
    objects: bool = True,
    keep: bool = False,
    json: bool = False,
    verbose: bool = False,
) -> int:
    """Find the native tools that make a build fail, or give other bytes than the emulated build; exit 5 if found."""
    log.configure(json=json, verbose=int(verbose))
    if recipe.startswith("-"):
        # invoke takes any word for the recipe as long as there is none.
        raise UsageError(f"there is no recipe before {recipe!r}", hint="`--help COMMAND` shows what a command takes")
    options = Options(suite=suite or None, jobs=_number(jobs), keep=keep)
    require()
    verdict = find_culprits(recipe, target, options, objects=objects)
    if not json:
        for line in verdict.lines():
            log.output(line)
    log.result(verdict.as_json())
    return EXIT_CHECK if verdict.finding else EXIT_OK
