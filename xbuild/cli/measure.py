"""The task that measures."""

from __future__ import annotations

from dataclasses import asdict

from invoke.context import Context
from invoke.tasks import task

from xbuild import bench as benches
from xbuild import log
from xbuild.cli.guard import guarded
from xbuild.result import Options


@task(
    positional=[],
    auto_shortflags=False,
    help={
        "recipes": "names, separated by commas",
        "targets": "names, separated by commas; amd64 is what the others are held against",
        "emulated": "also build fully emulated, which takes long",
        "exec": "only measure what one exec through the dispatcher costs",
        "jobs": "compilers at once (default: as many as there are cores)",
        "json": "one JSON object on stdout",
    },
)
@guarded
def bench(
    _c: Context,
    recipes: str = "zlib,xz,lua,bash",
    targets: str = "amd64,armhf",
    emulated: bool = False,
    exec: bool = False,
    jobs: int = 0,
    json: bool = False,
) -> None:
    """Build recipes anew for several targets and print the ratios, all from one run."""
    log.configure(json=json)
    options = Options(jobs=jobs)
    if exec:
        target = next(name for name in targets.split(",") if name != "amd64")
        dispatched, direct = benches.exec_cost(target, options)
        log.output(f"exec of true: {dispatched:.0f} us dispatched, {direct:.0f} us direct, "
                   f"{dispatched - direct:.0f} us is the dispatcher's")  # fmt: skip
        log.result({"dispatched_us": dispatched, "direct_us": direct})
        return
    runs = benches.compare(recipes.split(","), targets.split(","), emulated=emulated, options=options)
    log.table(("recipe", "phase", "target", "mode", "seconds", "ratio"), benches.rows(runs))
    log.result({"runs": [asdict(run) for run in runs]})
