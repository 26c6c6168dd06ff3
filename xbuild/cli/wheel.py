"""The task that builds Python wheels."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from xbuild.base import log, paths, process
from xbuild.base.errors import UsageError, XbuildError
from xbuild.build.request import Here, Request
from xbuild.cli.arguments import COMMON, EMULATE, REPO, TARGETS, emulated, names, number, request_of
from xbuild.cli.guard import guarded
from xbuild.cli.planned import looked_at
from xbuild.cli.task import Context, task
from xbuild.cli.together import words_of
from xbuild.doctor import require as require_machine
from xbuild.model.load import load_policy, load_toolchain
from xbuild.roots import mirror
from xbuild.roots.distribution import Roots
from xbuild.store.local import Store
from xbuild.store.own import open_store
from xbuild.wheels import simple
from xbuild.wheels.ahead import Ahead
from xbuild.wheels.build import Made, Maker
from xbuild.wheels.closure import close, lines_of
from xbuild.wheels.known import known
from xbuild.wheels.recipe import Options, place_of, recipe_of
from xbuild.wheels.settings import together
from xbuild.wheels.trial import Tried, Wanted, tried


@dataclass(frozen=True)
class _Place:
    """What wheels are for. suite: "" is the target's own. python: that this has to have, if any is named."""

    target: str
    suite: str = ""
    python: str = ""


@dataclass(frozen=True)
class _Asked:
    """What the command line asks for, for all targets."""

    store: Store
    options: Options
    tests: Wanted
    trial: bool
    renew: bool
    output: Path
    mode: str
    snapshot: str
    more: dict[str, Any]
    ahead: Ahead

    def maker(self, place: _Place, *, several: bool) -> Maker:
        """What makes wheels for one place. Raises UsageError if it has another python."""
        toolchain = load_toolchain(place.target, paths.project())
        toolchain = toolchain.with_suite(place.suite) if place.suite else toolchain
        address = mirror.snapshot(toolchain, self.snapshot or None)
        roots = Roots(self.store, toolchain, load_policy(toolchain), snapshot=address)
        words = (place.target, self.mode, place.suite)

        def request(recipe: Path) -> Request:
            return request_of(str(recipe), *words, snapshot=self.snapshot or None, **self.more)

        # Pure wheels of two targets have one name, and one may need another's.
        folder = "-".join(filter(None, [place.target, place.python])) if several else ""
        words_of_all = process.show(sys.argv[1:])
        maker = Maker(self.store, roots, place.target, request, self.output / folder, self.renew, words_of_all)
        if place.python and maker.python.short != place.python:
            raise UsageError(f"the python of {place.suite} is {maker.python.version}, not {place.python}")
        return maker

    def several(self, place: _Place) -> Ahead:
        """What builds several at once for this place."""
        suite = ("--suite", place.suite) if place.suite else ()
        return replace(self.ahead, words=(*self.ahead.words, *suite))


@dataclass
class _Results:
    """What came of it."""

    told: list[dict[str, Any]] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)

    def add(self, maker: Maker, made: Made, what: Tried | None) -> None:
        trial = {"tried": what.as_json()} if what else {}
        self.told.append({"target": maker.target, "python": maker.python.version, **made.as_json(), **trial})
        self.files.append(made.file)


@task(
    positional=["source"],
    help={
        "source": "a requirement (numpy, numpy==2.3.1), a sdist, or a directory (./mine)",
        "target": TARGETS,
        "require": "make wheels of all that this requirements file needs: pure ones from the index, the others built",
        "suite": COMMON["suite"],
        "snapshot": COMMON["snapshot"],
        "depends": "build against these packages of the distribution: libxml2-dev,libxslt1-dev",
        "build-requires": "a build requirement instead of the project's own, such as 'setuptools<81'; once for each",
        "config-settings": "KEY=VALUE for the build backend; once for each",
        "data": "patterns of files that the target never runs: firmware, samples for other machines",
        "python": "build for these pythons, each in the release that has it, instead of --suite: 3.13,3.11",
        "test-command": "run this shell text where the wheel is installed; {project} is the project's directory",
        "test-requires": "a requirement that the test command needs; once for each",
        "no-test": "do not install and import it in a plain root",
        "no-repair": "leave the wheel as the backend made it: without bundled libraries, with the tag linux_MACHINE",
        "linux-tag": "take the tag linux_MACHINE where auditwheel gives no other; no index takes such a wheel",
        "repair-args": "a further argument of auditwheel repair, such as --strip; once for each",
        "index": "add the wheels to a package index (PEP 503, PEP 691) in this directory; what is there stays",
        "output": "directory for the wheels (default: dist/); with several targets one a target below it",
        "renew": "ask the package index again which versions meet the requirements",
        "jobs": "compilers at once (default: as many as there are cores)",
        "at-once": "wheels at once, with --require (default: as many as there are jobs)",
        "from": "begin with this phase, in the build tree as it is",
        "keep": "keep the build tree after success",
        "emulate": EMULATE,
        "repo": REPO,
        "plan": "print what would be done and why; build nothing",
        "recipe": "print the recipe made for the project; build nothing",
        "json": "write one JSON object to stdout, and nothing else",
        "verbose": "tell more",
        "yes": "install what the machine lacks without asking",
    },
    iterable=["repo", "build_requires", "config_settings", "test_requires", "repair_args"],
)
@guarded
def wheel(
    _c: Context, source: str, target: str = "armhf", require: str = "", mode: str = "substituted", suite: str = "",
    snapshot: str = "", python: str = "", depends: str = "", build_requires: Sequence[str] | None = None,
    config_settings: Sequence[str] | None = None, data: str = "", test_command: str = "",
    test_requires: Sequence[str] | None = None, no_test: bool = False, no_repair: bool = False,
    linux_tag: bool = False, repair_args: Sequence[str] | None = None, index: str = "", output: str = "",
    renew: bool = False, jobs: str = "", at_once: str = "", from_: str = "", keep: bool = False, emulate: str = "",
    repo: Sequence[str] | None = None, plan: bool = False, recipe: bool = False, json: bool = False,
    verbose: bool = False, yes: bool = False,
) -> None:  # fmt: skip
    """Build Python wheels of a sdist, a project or a requirements file; they go to dist/."""
    log.configure(json=json, verbose=int(verbose))
    _require_words(source, require)
    options = Options(
        depends=tuple(names("--depends", depends)) if depends else (),
        build_requires=tuple(build_requires or ()),
        config_settings=tuple(config_settings or ()),
        repair=not no_repair, linux_tag=linux_tag,
        repair_args=tuple(repair_args or ()),
        data=tuple(names("--data", data)) if data else (),
    )  # fmt: skip
    tests = Wanted(test_command, tuple(test_requires or ()))
    here = Here(jobs=number("--jobs", jobs), start=from_ or None, keep=keep)
    more: dict[str, Any] = {"emulate": emulated(emulate), "here": here, "repositories": repo or ()}
    told = {
        "mode": mode, "snapshot": snapshot, "depends": depends, "build_requires": build_requires, "data": data,
        "config_settings": config_settings, "no_repair": no_repair, "linux_tag": linux_tag, "repair_args": repair_args,
        "renew": renew, "keep": keep, "emulate": emulate, "repo": repo, "verbose": verbose,
    }  # fmt: skip
    folder = Path(output).absolute() if output else paths.project() / "dist"
    budget = here.jobs or len(os.sched_getaffinity(0))
    ahead = Ahead(tuple(words_of(told)), budget, number("--at-once", at_once) or budget)
    asked = _Asked(open_store(), options, tests, not no_test, renew, folder, mode, snapshot, more, ahead)
    places = _places(names("--target", target), suite, names("--python", python) if python else [])
    if recipe or plan:
        makers = [asked.maker(place, several=False) for place in places]
        log.result({"wheels": [_looked_at(one, source, asked, recipe=recipe, json=json) for one in makers]})
        return
    _require_machine(places, assume_yes=yes)
    _for_all(asked, places, partial(_made, asked, source, require), Path(index).absolute() if index else None)


def _places(targets: Sequence[str], suite: str, pythons: Sequence[str]) -> list[_Place]:
    if not pythons:
        return [_Place(target, suite) for target in targets]
    if suite:
        raise UsageError("--python names the release that has it: not with --suite")
    return [_Place(target, known().suite(python), python) for target in targets for python in pythons]


def _require_machine(places: Sequence[_Place], *, assume_yes: bool) -> None:
    native = [load_toolchain(place.target, paths.project()).native for place in places]
    require_machine(native=min(native), assume_yes=assume_yes)


def _require_words(source: str, require: str) -> None:
    """Raise UsageError unless there is one thing to build."""
    if source.startswith("-") or not (source or require):
        hint = "a requirement such as numpy, a sdist, a directory, or --require requirements.txt"
        raise UsageError("there is nothing to make a wheel of", hint=hint)
    if source and require:
        raise UsageError(f"--require {require} or {source}, not both")


def _looked_at(maker: Maker, source: str, asked: _Asked, *, recipe: bool, json: bool) -> dict[str, Any]:
    if not source:
        raise UsageError("--plan and --recipe are for one project", hint="name it, instead of --require")
    project = maker.find(source)
    options, _ = together(project, asked.options, asked.tests)
    needs = maker.needs(project, options)
    place = place_of(project, options, f"{maker.target} {maker.python.version}", maker.store)
    request = maker.request(recipe_of(project, options, needs, place, maker.store))
    facts = {"project": project.name, "version": project.version, "recipe": request.recipe}
    return looked_at(request, facts, recipe=recipe, json=json)


def _for_all(
    asked: _Asked, places: Sequence[_Place], make: Callable[[_Place, Maker, _Results], None], index: Path | None
) -> None:
    """Make wheels for each place, and the index. Raises the first failure, after the others are made."""
    results, failed = _Results(), list[XbuildError]()
    for place in places:
        try:
            make(place, asked.maker(place, several=len(places) > 1), results)
        except XbuildError as error:
            failed.append(error)
            if len(places) > 1:
                log.warn(f"nothing more for {' '.join(filter(None, [place.target, place.python]))}: {error.message}")
    if index is not None and results.files:
        projects = simple.add(index, results.files)
        log.info(f"an index of {len(projects)} projects: pip install --index-url {(index / 'simple').as_uri()}")
    for file in dict.fromkeys(results.files):
        log.output(f"{file}  {log.human_size(file.stat().st_size)}")
    log.result({"wheels": results.told, "files": [str(file) for file in dict.fromkeys(results.files)]})
    for fault in failed[1:]:
        log.error(fault)
    if failed:
        raise failed[0]


def _made(asked: _Asked, source: str, require: str, place: _Place, maker: Maker, results: _Results) -> None:
    """Make what is asked for with one maker."""
    tests: dict[str, Wanted] = {}

    def build(word: str, hashes: Iterable[str] = ()) -> Made:
        project = maker.find(word, hashes)
        options, tests[project.name] = together(project, asked.options, asked.tests)
        log.info(f"{project.name} {project.version} for {maker.target}: python {maker.python.version}")
        return maker.make(project, options)

    if require:
        several = partial(asked.several(place).build, maker)
        made, files = close(maker, lines_of(Path(require)), build, several)
        results.files += files
    else:
        made = [build(source)]
    failed = list[XbuildError]()
    for one in made:
        try:
            what = tried(one, maker, tests[one.project.name], made) if asked.trial else None
            results.add(maker, one, what)
        except XbuildError as error:
            failed.append(error)
    for fault in failed[1:]:
        log.error(fault)
    if failed:
        raise failed[0]
