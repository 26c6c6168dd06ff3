"""The task that checks again what has been built."""

from __future__ import annotations

from invoke.context import Context
from invoke.tasks import task

from xbuild import log
from xbuild.build import Builder
from xbuild.cli.arguments import mode_word, number, recipe_word
from xbuild.cli.guard import guarded
from xbuild.doctor import require
from xbuild.environment import MODES
from xbuild.recheck import recheck
from xbuild.result import Options


@task(
    positional=["recipe"],
    auto_shortflags=False,
    help={
        "recipe": "name of a file in recipes/ (or a path)",
        "target": "name of a file in toolchains/: armhf, arm64 ...",
        "mode": f"mode of the build: {', '.join(MODES)}",
        "system": "in a whole emulated machine with a kernel of the target",
        "suite": "another release of the distribution, e.g. bookworm",
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
    jobs: str = "",
    json: bool = False,
    verbose: bool = False,
) -> None:
    """Run the recipe's check and the promised outputs of what is built once more; exit 5 if any fails."""
    log.configure(json=json, verbose=int(verbose))
    options = Options(mode=mode_word(mode), suite=suite or None, jobs=number("--jobs", jobs), keep=True)
    builder = Builder(recipe_word(recipe), target, options)
    require(native=builder.toolchain.native)
    checked = recheck(builder, system=system)
    log.result(checked.as_json())
    if fault := checked.fault():
        raise fault
    if not json:
        for line in checked.lines():
            log.output(line)
