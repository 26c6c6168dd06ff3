"""The tasks that build, and tell of a build. Each translates its words into one call and says what came of it.

What not every build needs is loaded where it is: to say that there is nothing to do is to take no time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from xbuild.base import log, paths, process
from xbuild.base.errors import UsageError, called
from xbuild.build.build import build_or_else
from xbuild.build.modes.table import mode_of
from xbuild.build.prepared import NotBuiltError, prepared
from xbuild.build.request import Here, Request
from xbuild.build.subject import Subject, read
from xbuild.cli import arguments
from xbuild.cli.arguments import COMMON, DISTCC, EMULATE, REPO, cache_of, emulated, names, number, request_of
from xbuild.cli.guard import guarded
from xbuild.cli.handing import NOTHING, Handover, handing_over
from xbuild.cli.several import ALL, AT_ONCE, JUNIT, KEEP_GOING, PAGE, recipes_of
from xbuild.cli.task import Context, task
from xbuild.doctor import require
from xbuild.model.load import load_toolchain
from xbuild.projects import is_own

if TYPE_CHECKING:
    from xbuild.build.result import Result


def _plan_of(subject: Subject, *, json: bool, changes: bool = False) -> None:
    """changes: tell also what changed since the last build."""
    from xbuild.build.standing import facts
    from xbuild.cli.planned import plan_json, show_plan, show_waiting, waiting_json

    try:
        build = prepared(subject)
    except NotBuiltError as error:
        log.result(waiting_json(subject, error, **({"changes": []} if changes else {})))
        if not json:
            show_waiting(subject, error)
        return
    present = facts(build)
    log.result(plan_json(build, present, **({"changes": list(present.changes)} if changes else {})))
    if not json:
        show_plan(build, present)
    for line in present.changes if changes and not json else ():
        log.output(f"changed: {line}")


def _summary(result: Result, word: str, options: str) -> None:
    """Tell what came of it. word: as the command line names it; options: of what was asked, besides the target."""
    from xbuild.proof.trace.brief import emulated_line

    rows = [(name, log.human_time(seconds)) for name, seconds in result.parts]
    total = sum(seconds for _, seconds in result.parts)
    log.table(("part", "time"), [*rows, ("total", log.human_time(total))])
    for path, (again, native) in result.began_again.items():
        log.output(f"{PurePosixPath(path).name}: {native} native, {again} began again emulated")
    facts = result.as_json()
    log.output(f"{facts['artifact']}  {log.human_size(facts['bytes'])}  sha256 {facts['sha256']}")
    log.output(f"manifest: {facts['manifest']}")
    for name in [name for name in ("debug", "sbom", "provenance") if name in facts]:
        log.output(f"{name}: {facts[name]}")
    words = process.show([word, "--target", result.target])
    if line := emulated_line(result.records):
        log.output(line)
        log.output(called(f"what would make it faster: invoke trace {words}"))
    log.output(called(f"to have it on a board: invoke deploy USER@BOARD {words} {options}").rstrip())


@task(
    positional=["recipe"],
    help={
        **COMMON,
        "recipe": f"{COMMON['recipe']}; none: the working directory",
        "target": f"{COMMON['target']}; several separated by commas",
        "also": "one more recipe",
        "all": ALL,
        "keep-going": KEEP_GOING,
        "at-once": AT_ONCE,
        "junit": JUNIT,
        "page": PAGE,
        "preset": "use this build system, for a project without a recipe that has several",
        "pack": "put a copy of the artifact into dist/, of a project without a recipe too",
        "jobs": "compilers at once, of all builds together (default: as many as there are cores)",
        "from": "begin with this phase, in the build tree as it is",
        "keep": "keep the build tree after success",
        "publish": "--no-publish: put no copy of the artifact into dist/",
        "plan": "print what would be done and why; do nothing",
        "json": "write one JSON object to stdout, and nothing else",
        "verbose": "tell more",
        "yes": "install what the machine lacks without asking",
        "fallback": "if the build fails, build again in this mode: emulated or distcc",
        "distcc-hosts": DISTCC,
        "without": "run these programs emulated: real paths, separated by commas",
        "emulate": EMULATE,
        "ccache": "keep what compilers give for later builds: on, off, or the size that it may have, such as 10G",
        "repo": REPO,
        "cluster": "build on the cluster at this address (tls://MACHINE:PORT), not on this machine",
    },
    iterable=["repo", "also"],
)
@guarded
@handing_over
def build(
    _c: Context, recipe: str, target: str = "armhf", mode: str = "substituted", suite: str = "", snapshot: str = "",
    root: str = "", jobs: str = "", from_: str = "", keep: bool = False, plan: bool = False, json: bool = False,
    verbose: bool = False, yes: bool = False, fallback: str = "", distcc_hosts: str = "", without: str = "",
    emulate: str = "", preset: str = "", pack: bool = False, repo: Sequence[str] | None = None,
    also: Sequence[str] | None = None, all: bool = False, keep_going: bool = False, at_once: str = "",
    junit: str = "", page: str = "", publish: bool = True, ccache: str = "", cluster: str = "",
    over: Handover = NOTHING,
) -> None:  # fmt: skip
    """Build recipes, or the project in a directory, for one or more targets; the artifact of a recipe goes to dist/."""
    log.configure(json=json, verbose=int(verbose))
    here = Here(number("--jobs", jobs), from_ or None, keep, publish, cache=cache_of(ccache, mode), **over.here)
    more: dict[str, Any] = {"servers": tuple(distcc_hosts.split()), "snapshot": snapshot or None, "strip": over.strip}
    more |= {"without": arguments.real_paths("--without", without), "emulate": emulated(emulate)}
    more |= {"here": here, "preset": preset, "repositories": repo or ()}
    targets, recipes = names("--target", target), recipes_of(recipe, also, every=all)
    single = len(targets) * len(recipes) == 1 and not (junit or page or cluster)
    if from_ and not single:
        raise UsageError("--from is for one build", hint="name one recipe, and one target")
    asked = [request_of(word, name, mode, suite, root, **more) for word in recipes for name in targets]
    if plan:
        _plan(asked, at_once, single=single, json=json)
        return
    native = min(load_toolchain(name, paths.project()).native for name in targets)
    # What is wrong with a recipe is told before anything is installed.
    if single:
        subject = _with_cache(read(asked[0]), ccache)
        require(native=native, assume_yes=yes)
        _build_one(subject, recipe or ".", fallback, pack=pack or over.published, yes=yes, json=json)
        return
    from xbuild.cli.many import Many, build_many
    from xbuild.graph import builds, nodes

    graph = nodes.Graph.from_requests(asked)
    if not cluster:
        require(native=native, assume_yes=yes)
    many = Many(builds.WHAT, here.jobs, number("--at-once", at_once), keep_going, junit, page, cluster)
    anywhere = _options(fallback=fallback, ccache=ccache)
    words = [*_options(keep=keep, pack=pack, yes=yes, verbose=verbose), *over.words, *anywhere]
    build_many(graph, many, words, here, pack=pack or over.published, json=json, elsewhere=anywhere)


def _with_cache(subject: Subject, ccache: str) -> Subject:
    """A project in a directory of the user's has a compiler cache, unless he says otherwise."""
    if not subject.recipe.build.incremental:
        return subject
    request = subject.request
    here = replace(request.here, cache=cache_of(ccache, request.mode, own=True))
    return replace(subject, request=replace(request, here=here))


def _options(**given: bool | str) -> list[str]:
    named = [(f"--{name}", value) for name, value in given.items() if value]
    return [word for name, value in named for word in ((name, value) if isinstance(value, str) else (name,))]


def _plan(asked: Sequence[Request], at_once: str, *, single: bool, json: bool) -> None:
    number("--at-once", at_once)
    from xbuild.cli.many import plan_many

    _plan_of(read(asked[0]), json=json) if single else plan_many(asked, json=json)


def _build_one(subject: Subject, word: str, fallback: str, *, pack: bool, yes: bool, json: bool) -> None:
    result = _built(subject, fallback, pack=pack, yes=yes)
    log.result(result.as_json())
    if not json:
        _summary(result, word, subject.request.options())


def _built(subject: Subject, fallback: str, *, pack: bool, yes: bool) -> Result:
    request, other = subject.request, mode_of(fallback) if fallback else subject.mode
    if not is_own(request.recipe, subject.store):
        return build_or_else(request, other, subject.store)
    from xbuild.cli.project import completed

    # Nothing is written into a project that did not ask for it.
    request = replace(request, here=replace(request.here, publish=pack))
    return completed(request, subject, lambda: build_or_else(request, other, subject.store), assume_yes=yes)


@task(
    positional=["recipe"],
    help={
        **COMMON,
        "exec": "tell how this program (a path or a name) would run, and why",
        "repo": REPO,
        "json": "write one JSON object to stdout, and nothing else",
    },
    iterable=["repo"],
)
@guarded
def why(
    _c: Context,
    recipe: str,
    target: str = "armhf",
    mode: str = "substituted",
    suite: str = "",
    snapshot: str = "",
    root: str = "",
    exec: str = "",
    repo: Sequence[str] | None = None,
    json: bool = False,
) -> None:
    """Tell what a build would do, and which inputs have changed; or how one program would run."""
    log.configure(json=json)
    subject = read(request_of(recipe, target, mode, suite, root, snapshot=snapshot or None, repositories=repo or ()))
    if exec:
        from xbuild.proof.trace import explain_exec

        answer = explain_exec(subject, exec)
        for line in [] if json else answer.lines():
            log.output(line)
        log.result(answer.as_json())
        return
    _plan_of(subject, json=json, changes=True)


@task(
    name="log",
    positional=["recipe"],
    help={**COMMON, "phase": "print only the log of this phase", "repo": REPO},
    iterable=["repo"],
)
@guarded
def log_(
    _c: Context,
    recipe: str,
    target: str = "armhf",
    mode: str = "substituted",
    suite: str = "",
    snapshot: str = "",
    root: str = "",
    phase: str = "",
    repo: Sequence[str] | None = None,
) -> None:
    """Print the logs of the last build."""
    from xbuild.build.standing import kept
    from xbuild.build.stepfiles import logged

    subject = read(request_of(recipe, target, mode, suite, root, snapshot=snapshot or None, repositories=repo or ()))
    logs, place = kept(subject, "logs"), subject.place.logs
    folder = place if logged(place) or not logs else logs[0]
    steps = logged(folder)
    chosen = [folder / files.log for files in steps if phase in ("", files.step)]
    if not chosen:
        names = ", ".join(files.step for files in steps)
        hint = f"there are logs of: {names}" if names else f"invoke build {subject.command_line()}"
        raise UsageError(f"no log of {subject.title}" + (f", phase {phase!r}" if phase else ""), hint=hint)
    for file in chosen:
        log.output(f"==> {file}")
        log.output_file(file)
