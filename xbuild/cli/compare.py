"""The task that compares modes."""

from __future__ import annotations

from pathlib import Path

from invoke.context import Context
from invoke.tasks import task

from xbuild.base import log, paths
from xbuild.build.modes.table import MODES
from xbuild.build.request import Here, Request
from xbuild.cli.arguments import COMMON, mode_words, number, recipe_word, require_servers
from xbuild.cli.guard import guarded
from xbuild.doctor import require
from xbuild.proof import report
from xbuild.proof.compare import compare as compare_modes
from xbuild.proof.compare import text


@task(
    positional=["recipe"],
    auto_shortflags=False,
    help={
        "recipe": COMMON["recipe"],
        "target": "name of a file in toolchains/: armhf, arm64 ...",
        "modes": f"modes to build in, separated by commas: {', '.join(MODES)}",
        "objects": "compare every ELF file and archive of the build trees too; the trees are kept",
        "twice": "build a second time in one mode, even if nothing differs, to see what differs by itself",
        "suite": COMMON["suite"],
        "root": COMMON["root"],
        "jobs": "compilers at once (default: as many as there are cores)",
        "distcc-hosts": "mode distcc: machines of your own, in distcc's words, instead of a server of ours",
        "html": "the report's file (default: dist/compare-NAME-VERSION-TARGET.html)",
        "json": "one JSON object on stdout, nothing else there",
        "verbose": "tell more",
    },
)
@guarded
def compare(
    _c: Context,
    recipe: str,
    target: str = "armhf",
    modes: str = "substituted,emulated",
    objects: bool = False,
    twice: bool = False,
    suite: str = "",
    root: str = "",
    jobs: str = "",
    distcc_hosts: str = "",
    html: str = "",
    json: bool = False,
    verbose: bool = False,
) -> None:
    """Build a recipe in several modes and compare what comes out, file by file; exit 5 if anything differs."""
    log.configure(json=json, verbose=int(verbose))
    chosen = mode_words(modes)
    servers = tuple(distcc_hosts.split())
    require_servers(servers, chosen, "--modes")
    require()
    here = Here(jobs=number("--jobs", jobs), keep=objects)
    asked = Request(
        recipe_word(recipe), target, suite=suite or None, root=root or None, servers=servers, here=here
    )
    comparison = compare_modes(asked, chosen, twice=twice)
    file = Path(html).absolute() if html else paths.project() / "dist" / f"compare-{comparison.name}.html"
    report.write(file, report.compare_page(comparison))
    if not json:
        log.table(text.COLUMNS, text.mode_rows(comparison.modes))
        for line in text.lines(comparison):
            log.output(line)
        log.output(f"report: {file}")
    log.result(comparison.as_json(file))
    if fault := comparison.fault():
        raise fault
