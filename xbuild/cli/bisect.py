"""The task that finds faulty twins."""

from __future__ import annotations

from collections.abc import Sequence

from xbuild.base import log
from xbuild.base.errors import EXIT_CHECK, EXIT_OK
from xbuild.build.modes.table import DEFAULT
from xbuild.build.request import Here
from xbuild.build.subject import read
from xbuild.cli.arguments import COMMON, FOREIGN, REPO, number, request_of
from xbuild.cli.guard import guarded
from xbuild.cli.task import Context, task
from xbuild.doctor import require
from xbuild.proof.bisect import bisect as find_culprits


@task(
    positional=["recipe"],
    help={
        "recipe": COMMON["recipe"],
        "target": FOREIGN,
        "suite": COMMON["suite"],
        "root": COMMON["root"],
        "jobs": "compilers at once (default: as many as there are cores)",
        "objects": "--no-objects: compare only what is installed, not the whole tree after each phase",
        "keep": "keep the right and the wrong tree",
        "repo": REPO,
        "json": "write one JSON object to stdout, and nothing else",
        "verbose": "tell more",
    },
    iterable=["repo"],
)
@guarded
def bisect(
    _c: Context,
    recipe: str,
    target: str = "armhf",
    suite: str = "",
    root: str = "",
    jobs: str = "",
    objects: bool = True,
    keep: bool = False,
    repo: Sequence[str] | None = None,
    json: bool = False,
    verbose: bool = False,
) -> int:
    """Find the native tools that make a build fail, or give other bytes than the emulated build; exit 5 if found."""
    log.configure(json=json, verbose=int(verbose))
    here = Here(jobs=number("--jobs", jobs), keep=keep)
    request = request_of(recipe, target, DEFAULT.name, suite, root, here=here, repositories=repo or ())
    # Before anything is installed for a recipe that is not there.
    read(request)
    require()
    verdict = find_culprits(request, objects=objects)
    if not json:
        for line in verdict.lines():
            log.output(line)
    log.result(verdict.as_json())
    return EXIT_CHECK if verdict.finding else EXIT_OK
