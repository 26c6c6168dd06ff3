"""The task that compares modes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xbuild.base import log, paths
from xbuild.base.errors import CheckError, UsageError
from xbuild.build.modes.table import MODES
from xbuild.build.request import Here, Request
from xbuild.build.subject import read
from xbuild.cli.arguments import (
    COMMON,
    DISTCC,
    FOREIGN,
    REPO,
    directories,
    mode_words,
    number,
    recipe_named,
    require_servers,
)
from xbuild.cli.guard import guarded
from xbuild.cli.pages import require_writable, written
from xbuild.cli.task import Context, task
from xbuild.doctor import require
from xbuild.proof import report
from xbuild.proof.compare import compare as compare_modes
from xbuild.proof.compare import text
from xbuild.proof.compare.contents import compare_contents
from xbuild.proof.compare.outcome import Comparison
from xbuild.proof.compare.verdict import Verdict, families, printable

_NAMED = 10
"""How many members an error names."""


@task(
    positional=["recipe"],
    help={
        "recipe": f"{COMMON['recipe']}; with --against a file",
        "target": FOREIGN,
        "modes": f"build in these modes, separated by commas: {', '.join(MODES)}",
        "objects": "compare every ELF file and archive of the build trees too; the trees are kept",
        "against": "build nothing; tell how FILE differs from the file that is named instead of the recipe",
        "twice": "build a second time in one mode, even if nothing differs, to see what differs by itself",
        "suite": COMMON["suite"],
        "root": COMMON["root"],
        "jobs": "compilers at once (default: as many as there are cores)",
        "distcc-hosts": DISTCC,
        "html": "write the report to FILE (default: dist/compare-NAME-VERSION-TARGET.html)",
        "repo": REPO,
        "json": "write one JSON object to stdout, and nothing else",
        "verbose": "tell more",
    },
    iterable=["repo"],
)
@guarded
def compare(
    _c: Context,
    recipe: str,
    target: str = "armhf",
    modes: str = "substituted,emulated",
    objects: bool = False,
    against: str = "",
    twice: bool = False,
    suite: str = "",
    root: str = "",
    jobs: str = "",
    distcc_hosts: str = "",
    html: str = "",
    repo: Sequence[str] | None = None,
    json: bool = False,
    verbose: bool = False,
) -> None:
    """Build a recipe in several modes and compare the results, file by file; exit 5 if anything differs."""
    log.configure(json=json, verbose=int(verbose))
    if against:
        _files(recipe, against, json=json)
        return
    chosen = mode_words(modes)
    servers = tuple(distcc_hosts.split())
    require_servers(servers, chosen, "--modes")
    here = Here(jobs=number("--jobs", jobs), keep=objects)
    more: dict[str, Any] = {"suite": suite or None, "root": root or None, "servers": servers, "here": here}
    asked = Request(recipe_named(recipe), target, repositories=directories(repo), **more)
    # Before anything is installed for a recipe that is not there.
    read(asked)
    require_writable(html)
    require()
    comparison = compare_modes(asked, chosen, twice=twice)
    _tell(comparison, html or _page_of(comparison), json=json)
    if fault := comparison.fault():
        raise fault


def _page_of(comparison: Comparison) -> Path:
    return paths.project() / "dist" / f"compare-{comparison.name}.html"


def _tell(comparison: Comparison, html: str | Path, *, json: bool) -> None:
    file = written(html, report.compare_page(comparison))
    if not json:
        log.table(text.COLUMNS, text.mode_rows(comparison.modes))
        for line in text.lines(comparison):
            log.output(line)
        if file:
            log.output(f"report: {file}")
    log.result(comparison.as_json(Path(file) if file else None))


def _files(one: str, other: str, *, json: bool) -> None:
    """Tell how two files differ. Raises CheckError if they do."""
    found = compare_contents(_contents(one), _contents(other))
    words = ", ".join(families(found.sections))
    if not json:
        log.output(f"{one}, {other}: {found.verdict}" + (f" ({printable(words)})" if words else ""))
        for line in text.inside(found.members):
            log.output(line)
    log.result({"files": [one, other], **found.as_json()})
    if found.verdict is not Verdict.IDENTICAL:
        names = [printable(name) for name, _ in found.members]
        raise CheckError(f"{one} and {other} differ", details=names[:_NAMED], hint="diffoscope may show more of it")


def _contents(word: str) -> bytes:
    try:
        return Path(word).read_bytes()
    except OSError as error:
        raise UsageError(f"{word}: {error.strerror}", hint="--against compares two files") from error
