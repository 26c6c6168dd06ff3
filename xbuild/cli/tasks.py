"""The tasks. Each translates its words into one call and says what came of it."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from invoke.collection import Collection
from invoke.context import Context
from invoke.tasks import task

from xbuild.base import log, paths
from xbuild.base.errors import UsageError
from xbuild.build import taught
from xbuild.build.build import build_or_else
from xbuild.build.modes.table import mode_of
from xbuild.build.plan import Facts
from xbuild.build.prepared import Prepared, prepared
from xbuild.build.request import Here
from xbuild.build.result import Result
from xbuild.build.standing import actions, facts, kept
from xbuild.build.stepfiles import logged
from xbuild.build.subject import read
from xbuild.cli import binfmt
from xbuild.cli.arguments import COMMON, EMULATE, emulated, number, request_of
from xbuild.cli.bisect import bisect
from xbuild.cli.compare import compare
from xbuild.cli.development import lint, run_tests
from xbuild.cli.export import export
from xbuild.cli.forget import forget
from xbuild.cli.guard import guarded
from xbuild.cli.lock import lock
from xbuild.cli.machine import clean, doctor
from xbuild.cli.measure import bench
from xbuild.cli.recheck import check
from xbuild.cli.reference import write_reference
from xbuild.cli.root import namespace as root_namespace
from xbuild.cli.session import run, shell
from xbuild.cli.store import namespace as store_namespace
from xbuild.cli.trace import trace
from xbuild.cli.words import allow_missing_words
from xbuild.doctor import require
from xbuild.model.load import load_recipe, load_toolchain, recipe_names, recipe_path, toolchain_names, toolchain_path
from xbuild.model.schema import write_schemas
from xbuild.proof.trace import explain_exec


def _plan(build: Prepared, present: Facts, *, json: bool, **more: Any) -> None:
    steps = actions(build, present)
    known = taught.of(build.subject) if build.subject.mode.twins else []
    told = {"taught": [one.as_json() for one in known], **more}
    log.result({"key": build.key, "plan": [vars(action) for action in steps], **told})
    if not json:
        log.table(("step", "", "reason"), [(action.name, action.verdict, action.reason) for action in steps])
        log.output(f"key: {build.key}")
        for one in known:
            log.output(f"taught: {one.line()}")


def _summary(result: Result) -> None:
    rows = [(name, log.human_time(seconds)) for name, seconds in result.parts]
    total = sum(seconds for _, seconds in result.parts)
    log.table(("part", "time"), [*rows, ("total", log.human_time(total))])
    for path, (again, native) in result.began_again.items():
        log.output(f"{PurePosixPath(path).name}: {native} native, {again} began again emulated")
    facts = result.as_json()
    log.output(f"{facts['artifact']}  {log.human_size(facts['bytes'])}  sha256 {facts['sha256']}")


@task(
    positional=["recipe"],
    auto_shortflags=False,
    help={
        **COMMON,
        "jobs": "compilers at once (default: as many as there are cores)",
        "from": "begin with this phase, in the tree that is there",
        "keep": "keep the build tree after success",
        "plan": "print what would be done and why; do nothing",
        "json": "one JSON object on stdout, nothing else there",
        "verbose": "tell more",
        "yes": "install what the machine lacks without asking",
        "fallback": "when the build fails, build again in this mode: emulated or distcc",
        "distcc-hosts": "mode distcc: machines of your own, as in DISTCC_HOSTS; the phases then have the network",
        "without": "real paths of programs that are to run emulated, separated by commas",
        "emulate": EMULATE,
    },
)
@guarded
def build(
    _c: Context,
    recipe: str,
    target: str = "armhf",
    mode: str = "substituted",
    suite: str = "",
    snapshot: str = "",
    root: str = "",
    jobs: str = "",
    from_: str = "",
    keep: bool = False,
    plan: bool = False,
    json: bool = False,
    verbose: bool = False,
    yes: bool = False,
    fallback: str = "",
    distcc_hosts: str = "",
    without: str = "",
    emulate: str = "",
) -> None:
    """Build a recipe for a target; the artifact comes to dist/."""
    log.configure(json=json, verbose=int(verbose))
    here = Here(jobs=number("--jobs", jobs), start=from_ or None, keep=keep)
    more: dict[str, Any] = {"servers": tuple(distcc_hosts.split()), "snapshot": snapshot or None}
    more |= {"without": frozenset(filter(None, without.split(","))), "emulate": emulated(emulate)}
    request = request_of(recipe, target, mode, suite, root, here=here, **more)
    subject = read(request)
    other = mode_of(fallback) if fallback else subject.mode
    if plan:
        wanted = prepared(subject)
        _plan(wanted, facts(wanted), json=json)
        return
    require(native=subject.toolchain.native, assume_yes=yes)
    result = build_or_else(request, other, subject.store)
    if json:
        log.result(result.as_json())
    else:
        _summary(result)


@task(
    positional=["recipe"],
    auto_shortflags=False,
    help={
        **COMMON,
        "exec": "a path or name: tell how this program would run, and why",
        "json": "one JSON object on stdout",
    },
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
    json: bool = False,
) -> None:
    """Tell what a build would do and which inputs changed since the last one; or how one program would run."""
    log.configure(json=json)
    subject = read(request_of(recipe, target, mode, suite, root, snapshot=snapshot or None))
    if exec:
        answer = explain_exec(subject, exec)
        for line in [] if json else answer.lines():
            log.output(line)
        log.result(answer.as_json())
        return
    build = prepared(subject)
    present = facts(build)
    _plan(build, present, json=json, changes=list(present.changes))
    for line in [] if json else present.changes:
        log.output(f"changed: {line}")


@task(positional=["recipe"], auto_shortflags=False, help={**COMMON, "phase": "only the log of this phase"})
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
) -> None:
    """Print the logs of the last build."""
    subject = read(request_of(recipe, target, mode, suite, root, snapshot=snapshot or None))
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


@task(auto_shortflags=False, name="list", help={"json": "one JSON object on stdout"})
@guarded
def list_(_c: Context, json: bool = False) -> None:
    """List recipes and targets."""
    log.configure(json=json)
    project = paths.project()
    targets = [load_toolchain(name, project) for name in toolchain_names(project)]
    native = next((toolchain for toolchain in targets if toolchain.native), targets[0])
    recipes = [load_recipe(name, native, project) for name in recipe_names(project)]
    files = [recipe_path(recipe.name, project) for recipe in recipes]
    if json:
        found = [
            {"name": recipe.name, "version": recipe.version, "file": str(file)}
            for recipe, file in zip(recipes, files, strict=True)
        ]
        log.result({"recipes": found, "targets": [toolchain.name for toolchain in targets]})
        return
    rows = [
        (known.name, known.version, _origin(file), known.summary) for known, file in zip(recipes, files, strict=True)
    ]
    log.table(("recipe", "version", "from", "summary"), rows)
    places = [(known, toolchain_path(known.name, project)) for known in targets]
    log.table(("target", "from", "summary"), [(known.name, _origin(file), known.summary) for known, file in places])


def _origin(file: Path) -> str:
    """`project` for a file of the user's project, `xbuild` for one that xbuild brings along."""
    return "xbuild" if file.parent in (paths.shipped("recipes"), paths.shipped("toolchains")) else "project"


@task(auto_shortflags=False)
@guarded
def reference(_c: Context) -> None:
    """Write docs/schema and docs/reference, from the models and the tasks."""
    log.configure()
    documentation = paths.checkout() / "docs"
    write_schemas(documentation / "schema")
    write_reference(namespace, documentation / "reference")


allow_missing_words()
namespace = Collection("xbuild")
for _task in (
    build, lock, check, compare, bisect, trace, bench, why, forget, run, shell, export,
    list_, clean, doctor, run_tests, lint, reference,
):  # fmt: skip
    namespace.add_task(_task)
namespace.add_task(log_, name="log")
namespace.add_collection(binfmt.collection)
namespace.add_collection(root_namespace)
namespace.add_collection(store_namespace)

__all__ = ["namespace"]
