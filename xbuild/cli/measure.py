"""The task that measures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from xbuild.base import log, paths, process
from xbuild.base.errors import EXIT_PHASE, UsageError
from xbuild.cli.arguments import mode_words, names, number, recipe_word
from xbuild.cli.guard import guarded
from xbuild.cli.pages import require_writable, written
from xbuild.cli.task import Context, task
from xbuild.doctor import require
from xbuild.model.load import load_toolchain
from xbuild.proof.bench import measure, plot, show
from xbuild.proof.bench.cost import exec_cost
from xbuild.proof.bench.series import Series

_RECIPES = "zlib,xz,lua,bash"


@task(
    positional=["recipe"],
    help={
        "recipe": f"a recipe to build (default: {_RECIPES})",
        "also": "one more recipe",
        "recipes": "recipes by name, separated by commas",
        "targets": "targets, separated by commas; the others are compared with the machine's own",
        "modes": "modes, separated by commas, for targets that are not native",
        "repeat": "build each this many times (default: 3; with --ablation 1)",
        "ablation": "measure also with few native tools, then with more and more; takes long",
        "exec": "measure only what one exec through the dispatcher costs",
        "jobs": "compilers at once (default: as many as there are cores)",
        "suite": "another release of the distribution, e.g. bookworm",
        "json": "write one JSON object to stdout, with every run",
        "markdown": "write the tables to FILE, anew after each build",
        "svg": "write the picture to FILE, anew after each build",
    },
    iterable=["also"],
)
@guarded
def bench(
    _c: Context,
    recipe: str,
    also: Sequence[str] | None = None,
    recipes: str = "",
    targets: str = "amd64,armhf",
    modes: str = "substituted",
    repeat: str = "",
    ablation: bool = False,
    exec: bool = False,
    jobs: str = "",
    suite: str = "",
    json: bool = False,
    markdown: str = "",
    svg: str = "",
) -> int:
    """Time builds of recipes for several targets and modes, in turn; compare how long each takes."""
    log.configure(json=json)
    conditions = measure.Conditions(suite or None, number("--jobs", jobs))
    if exec:
        return _exec_cost(names("--targets", targets), conditions.suite)
    rounds = number("--repeat", repeat) or (1 if ablation else 3)
    files = {file: render for file, render in ((markdown, show.markdown), (svg, plot.picture)) if file}
    require_writable(*files)
    chosen = _recipes([recipe, *(also or ())], recipes), names("--targets", targets), mode_words(modes)
    command = _command(*chosen, rounds, conditions, ablation=ablation)
    series = measure.plan(*chosen, rounds, conditions, command=command, ablation=ablation)
    require(native=all(variant.native for variant in series.variants))
    try:
        measure.prepare(series, conditions)
        measure.measure(series, conditions, lambda: _write(series, files))
    finally:
        # Also what has been measured until an interruption is worth having.
        _write(series, files)
        log.table(show.COLUMNS, show.rows(series))
        for remark in show.remarks(series):
            log.output(remark)
        log.result(show.as_json(series))
    return EXIT_PHASE if series.failures else 0


def _recipes(words: Sequence[str], listed: str) -> list[str]:
    """Those named by words, and those of --recipes, each once; if there are none, `_RECIPES`."""
    found = [recipe_word(word) for word in words if word] + (names("--recipes", listed) if listed else [])
    return list(dict.fromkeys(found)) or _RECIPES.split(",")


def _exec_cost(targets: Sequence[str], suite: str | None) -> int:
    project = paths.project()
    target = next((name for name in targets if not load_toolchain(name, project).native), None)
    if target is None:
        raise UsageError("there is no dispatcher for a native target", hint="name another one: --targets armhf")
    require()
    dispatched, direct = exec_cost(target, suite)
    log.output(f"exec of true: {dispatched:.0f} us dispatched, {direct:.0f} us direct, "
               f"{dispatched - direct:.0f} us is the dispatcher's")  # fmt: skip
    log.result({"dispatched_us": dispatched, "direct_us": direct})
    return 0


def _command(
    recipes: Sequence[str],
    targets: Sequence[str],
    modes: Sequence[str],
    rounds: int,
    conditions: measure.Conditions,
    *,
    ablation: bool,
) -> str:
    """The command line that repeats the benchmark, with all that the figures depend on."""
    words = ["invoke", "bench", "--recipes", ",".join(recipes), "--targets", ",".join(targets)]
    words += ["--modes", ",".join(modes), "--repeat", str(rounds)]
    words += ["--ablation"] if ablation else []
    words += ["--jobs", str(conditions.jobs)] if conditions.jobs else []
    words += ["--suite", conditions.suite] if conditions.suite else []
    return process.show(words)


Files = Mapping[str, Callable[[Series], str]]
"""Names of files, and what makes their contents."""


def _write(series: Series, files: Files) -> None:
    for name, render in files.items():
        written(name, render(series))
