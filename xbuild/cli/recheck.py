"""The task that checks again what has been built."""

from __future__ import annotations

from invoke.context import Context
from invoke.tasks import task

from xbuild.base import log
from xbuild.build.modes.table import MODES
from xbuild.build.recheck import recheck
from xbuild.build.request import Here
from xbuild.build.subject import read
from xbuild.cli.arguments import COMMON, number, request_of
from xbuild.cli.guard import guarded
from xbuild.doctor import require


@task(
    positional=["recipe"],
    auto_shortflags=False,
    help={
        "recipe": COMMON["recipe"],
        "target": "name of a file in toolchains/: armhf, arm64 ...",
        "mode": f"mode of the build: {', '.join(MODES)}",
        "system": "in a whole emulated machine with a kernel of the target",
        "suite": COMMON["suite"],
        "root": COMMON["root"],
        "jobs": "processes at once (default: as many as there are cores)",
        "json": "one JSON object on stdout, nothing else there",
        "verbose": "tell more",
    },
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
    json: bool = False,
    verbose: bool = False,
) -> None:
    """Run the recipe's check and the promised outputs of what is built once more; exit 5 if any fails."""
    log.configure(json=json, verbose=int(verbose))
    here = Here(jobs=number("--jobs", jobs), keep=True)
    subject = read(request_of(recipe, target, mode, suite, root, here=here))
    require(native=subject.toolchain.native)
    checked = recheck(subject, system=system)
    log.result(checked.as_json())
    if fault := checked.fault():
        raise fault
    if not json:
        for line in checked.lines():
            log.output(line)
