"""The task that checks again what has been built."""

from __future__ import annotations

from collections.abc import Sequence

from xbuild.base import log
from xbuild.build.modes.table import MODES
from xbuild.build.recheck import recheck, require_possible
from xbuild.build.request import Here
from xbuild.build.subject import read
from xbuild.cli.arguments import COMMON, FOREIGN, REPO, number, request_of
from xbuild.cli.guard import guarded
from xbuild.cli.task import Context, task
from xbuild.doctor import require


@task(
    positional=["recipe"],
    help={
        "recipe": COMMON["recipe"],
        "target": FOREIGN,
        "mode": f"mode of the build: {', '.join(MODES)}",
        "system": "check in a whole emulated machine with a kernel of the target",
        "suite": COMMON["suite"],
        "root": COMMON["root"],
        "jobs": "processes at once (default: as many as there are cores)",
        "repo": REPO,
        "json": "write one JSON object to stdout, and nothing else",
        "verbose": "tell more",
    },
    iterable=["repo"],
)
@guarded
def check(
    _c: Context,
    recipe: str,
    target: str = "armhf",
    mode: str = "substituted",
    system: bool = False,
    suite: str = "",
    root: str = "",
    jobs: str = "",
    repo: Sequence[str] | None = None,
    json: bool = False,
    verbose: bool = False,
) -> None:
    """Check again what was built, by the recipe's check and its promised outputs; exit 5 if any fails."""
    log.configure(json=json, verbose=int(verbose))
    here = Here(jobs=number("--jobs", jobs), keep=True)
    subject = read(request_of(recipe, target, mode, suite, root, here=here, repositories=repo or ()))
    # Before anything is installed for what cannot be done.
    require_possible(subject, system=system)
    require(native=subject.toolchain.native)
    checked = recheck(subject, system=system)
    log.result(checked.as_json())
    if fault := checked.fault():
        raise fault
    if not json:
        for line in checked.lines():
            log.output(line)
