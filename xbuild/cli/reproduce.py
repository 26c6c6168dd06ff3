"""The task that holds packages against the archive's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from xbuild.base import log, paths
from xbuild.base.errors import UsageError
from xbuild.build.modes.table import DEFAULT, mode_of
from xbuild.cli.arguments import COMMON, names, number
from xbuild.cli.guard import guarded
from xbuild.cli.many import Many
from xbuild.cli.pages import require_writable, written
from xbuild.cli.several import JUNIT, PAGE
from xbuild.cli.task import Context, task
from xbuild.cli.together import reproduce_together
from xbuild.doctor import require
from xbuild.model.load import load_toolchain
from xbuild.packages import Options
from xbuild.packages.recipe import kind
from xbuild.proof import report
from xbuild.proof.reproduce import text
from xbuild.proof.reproduce.lists import read_list, reproduce_all
from xbuild.proof.reproduce.run import Wanted, ask
from xbuild.proof.reproduce.verdict import Row, counts, fault, mean_ratio
from xbuild.store.own import open_store


@task(
    positional=["source"],
    help={
        "source": "NAME or NAME=VERSION of the archive, a .dsc, a directory, FILE.deb, or FILE.buildinfo",
        "target": "targets, separated by commas (default: armhf, or what a file is for)",
        "file": "a list of sources, one a line; a list that was stopped goes on",
        "emulated": "build it emulated too; that tells whether native tools have a part in a difference",
        "native": "--no-native: do not build it for this machine too",
        "any": "build the packages of the target's architecture (the default without --all)",
        "all": "build the packages that are independent of the architecture; with --any both",
        "nocheck": "skip the packages' own tests (they seldom change a byte)",
        "suite": COMMON["suite"],
        "snapshot": COMMON["snapshot"],
        "jobs": "compilers at once, of all sources together (default: as many as there are cores)",
        "at-once": "sources at once (default: one)",
        "junit": JUNIT,
        "page": PAGE,
        "html": "write the verdicts to FILE, as HTML",
        "markdown": "write the verdicts to FILE, as a table in Markdown",
        "json": "write one JSON object to stdout, and nothing else",
        "verbose": "tell more",
    },
)
@guarded
def reproduce(
    _c: Context, source: str, target: str = "", file: str = "", mode: str = DEFAULT.name, emulated: bool = False,
    native: bool = True, any: bool = False, all: bool = False, nocheck: bool = False, suite: str = "",
    snapshot: str = "", jobs: str = "", at_once: str = "", junit: str = "", page: str = "", html: str = "",
    markdown: str = "", json: bool = False, verbose: bool = False,
) -> None:  # fmt: skip
    """Build Debian packages and hold each against the archive's own, byte for byte; exit 5 if one is not explained."""
    log.configure(json=json, verbose=int(verbose))
    targets = _targets(target)
    options = Options(kind(any=any, all=all), build_options=("nocheck",) if nocheck else ())
    more = (emulated, native, suite or None, snapshot or None, options, number("--jobs", jobs))
    wanted = Wanted("", "", mode_of(mode).name, *more)
    words = _words(source, file)
    require_writable(html, markdown, junit, page)
    require()

    def told(rows: Sequence[Row]) -> dict[str, Any]:
        files = {"html": _written(html, report.reproduce_page, rows)}
        files |= {"markdown": _written(markdown, text.markdown, rows)}
        totals = {str(word): count for word, count in counts(rows).items()}
        return {"rows": [row.as_json() for row in rows], "counts": totals, "mean_ratio": mean_ratio(rows), **files}

    many = Many("sources", wanted.jobs, number("--at-once", at_once) or 1, True, junit, page)
    if at_once or junit or page:
        rows = reproduce_together(wanted, words, targets, many, open_store(), told)
    else:
        rows = _one_by_one(wanted, words, targets)
        log.result(told(rows))
    if not json:
        log.table(text.COLUMNS, text.table(rows))
        for line in text.lines(rows):
            log.output(line)
    if error := fault(rows):
        raise error


def _one_by_one(wanted: Wanted, words: Sequence[str], targets: Sequence[str]) -> list[Row]:
    rows = []
    for row in reproduce_all(wanted, words, targets, open_store()):
        rows.append(row)
        log.info(f"{row.title}: {row.failed or text.verdicts(row.debs)}")
    return rows


def _targets(words: str) -> list[str]:
    """The targets; [""] is the one that a file is for. Raises UsageError for what is none."""
    targets = names("--target", words) if words else []
    for name in targets:
        load_toolchain(name, paths.project())
    return targets or [""]


def _written(name: str, page: Callable[[Sequence[Row]], str], rows: Sequence[Row]) -> str | None:
    """The file `name`, which has the page of the rows then; None if there is no name, or it cannot be written."""
    if not name:
        return None
    if file := written(name, page(rows)):
        log.info(f"report: {file}")
    return file


def _words(source: str, file: str) -> list[str]:
    """What is to be reproduced. Raises UsageError if that is nothing, or both kinds."""
    if source.startswith("-") or bool(source) == bool(file):
        message = "there is no source" if not source or source.startswith("-") else "a source, or --file, but not both"
        raise UsageError(message, hint="for example: invoke reproduce less")
    words = read_list(Path(file)) if file else [source]
    for word in words:
        # What is wrong with a file is told before anything is built.
        ask(Wanted(word, "", DEFAULT.name))
    return words
