"""The task that builds Debian packages."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from xbuild.base import log, paths, process
from xbuild.base.digest import file_sha256
from xbuild.base.errors import UsageError, XbuildError
from xbuild.build.request import Here, Request
from xbuild.cli.arguments import COMMON, EMULATE, REPO, TARGETS, cache_of, emulated, names, number, request_of
from xbuild.cli.guard import guarded
from xbuild.cli.planned import looked_at
from xbuild.cli.task import Context, task
from xbuild.cli.together import SEVERAL, Link, several
from xbuild.doctor import require
from xbuild.graph.nodes import Graph, Node
from xbuild.graph.planned import COLUMNS, planned, tree
from xbuild.model.load import load_toolchain
from xbuild.model.toolchain import Toolchain
from xbuild.packages import Built, Options, SourcePackage, build_deb, find, recipe_of
from xbuild.packages.changelog import rebuilt
from xbuild.packages.find import is_of_archive, where
from xbuild.packages.flat import INDEX, folder_of
from xbuild.packages.order import Source, needs_of
from xbuild.packages.recipe import kind
from xbuild.packages.remarks import remarks
from xbuild.packages.source import require_for
from xbuild.packages.trials import Trials, trials_of
from xbuild.store.local import Store
from xbuild.store.own import open_store

_NOCHECK = "nocheck"
_ALSO_OPTIONS = (_NOCHECK, "nodoc")
"""Profiles that stand in DEB_BUILD_OPTIONS too: rules ask for these words there (wiki.debian.org/BuildProfileSpec)."""


@dataclass(frozen=True)
class _Asked:
    """What the command line asks for, before there is a package."""

    source: str
    options: Options
    binnmu: str
    mode: str
    suite: str
    snapshot: str
    more: Mapping[str, Any]
    store: Store

    def found(self, target: str) -> tuple[SourcePackage, Options, Toolchain]:
        """The package for one target, and what is asked of its build."""
        toolchain = load_toolchain(target, paths.project())
        toolchain = toolchain.with_suite(self.suite) if self.suite else toolchain
        package = find(self.source, where(self.store, toolchain, self.snapshot or None))
        return package, self._options(package, toolchain), toolchain

    def on(self, target: str) -> tuple[SourcePackage, Request]:
        """The package for one target, and how it is built. Raises UsageError if there is nothing to build."""
        package, options, toolchain = self.found(target)
        for wanted in ("all", "any") if self.options.build == "both" else (self.options.build,):
            words = self.options.profiles
            require_for(package, toolchain.architecture, independent=wanted == "all", profiles=words)
        recipe = recipe_of(package, options, self.store)
        words = (str(recipe), target, self.mode, self.suite)
        return package, request_of(*words, snapshot=self.snapshot or None, **self.more)

    def _options(self, package: SourcePackage, toolchain: Toolchain) -> Options:
        if not self.binnmu:
            return self.options
        if self.options.build != "any":
            message = "--binnmu is for packages of an architecture, not for those of Architecture: all"
            raise UsageError(message, hint="leave out --all: no archive takes such a rebuild of them")
        entry = rebuilt(package.changelog, self.binnmu, toolchain.architecture)
        return replace(self.options, binnmu=entry)


def _links(values: Mapping[str, Any], pairs: Sequence[tuple[str, str]]) -> list[Link]:
    """What several sources need of each other: packages of the user's own, which come out of `dist/` then.

    Sources of the archive are built with the archive's packages, and with the user's.
    """
    if all(is_of_archive(word) for word, _ in pairs):
        return [Link()] * len(pairs)
    options = _options(**{name: values[name] for name in ("any", "all", "nocheck", "profiles", "data")})
    rest = (options, *(values[name] for name in ("binnmu", "mode", "suite", "snapshot")), {}, open_store())
    found: dict[tuple[str, str], Link] = {}
    for target in dict.fromkeys(target for _, target in pairs):
        words = [word for word, on in pairs if on == target]
        known = [_Asked(_source(word), *rest).found(target) for word in words]
        architecture = load_toolchain(target, paths.project()).architecture
        sources = [
            Source(package, own, not is_of_archive(word)) for word, (package, own, _) in zip(words, known, strict=True)
        ]
        dist = paths.project() / "dist"
        folders = [str(dist / folder_of(one.package, one.options, architecture)) for one in sources]
        for word, needs in zip(words, needs_of(sources, architecture), strict=True):
            numbers = tuple(pairs.index((words[need], target)) for need in needs)
            more = tuple(part for need in needs for part in ("--repo", folders[need]))
            found[word, target] = Link(numbers, more, tuple(needs.values()))
    return [found[pair] for pair in pairs]


class _Package(Node):
    """A source package of several; its repositories are not for its title."""

    @property
    def title(self) -> str:
        """`less for armhf`."""
        return f"{self.name} for {self.target}"


def _plan_of(values: Mapping[str, Any], pairs: Sequence[tuple[str, str]], links: Sequence[Link]) -> None:
    """Tell as a tree what building several would do; what is built against others is known after these."""
    options = _options(**{name: values[name] for name in ("any", "all", "nocheck", "profiles", "data")})
    store, nodes = open_store(), list[Node]()
    for (word, target), link in zip(pairs, links, strict=True):
        own = (*(values["repo"] or ()), *link.words[1::2])
        more: dict[str, Any] = {"emulate": emulated(values["emulate"]), "here": Here(), "repositories": own}
        how = (values["binnmu"], values["mode"], values["suite"], values["snapshot"], more)
        package, request = _Asked(_source(word), options, *how, store).on(target)
        nodes.append(_Package(request, package.name, Path(request.recipe)))
    needs = {
        nodes[number]: tuple(nodes[need] for need in links[number].needs if not _between(need, number, links))
        for number in sorted(range(len(nodes)), key=lambda number: len(links[number].needs))
    }
    places = {
        nodes[need]: Path(place) for link in links for need, place in zip(link.needs, link.words[1::2], strict=True)
    }
    by = {
        nodes[number]: {nodes[need]: why for need, why in zip(link.needs, link.by, strict=True)}
        for number, link in enumerate(links)
    }
    found = planned(Graph(needs, tuple(nodes)), store, lambda node: (places[node] / INDEX).is_file())
    told = [(one, {need.title: by[one.node][need] for need in one.needs}) for one in found.values()]
    log.result({"planned": [{**one.as_json(), "by": why} for one, why in told]})
    if not values["json"]:
        log.table(COLUMNS, list(tree(found, by)))


def _between(need: int, number: int, links: Sequence[Link]) -> bool:
    """Whether `number` needs it by way of another one, below which it is shown."""
    return any(need in links[other].needs for other in links[number].needs)


@task(
    positional=["source"],
    help={
        "source": "NAME or NAME=VERSION of the archive, a .dsc file, a directory, or a git URL (URL#BRANCH)",
        "target": TARGETS,
        "suite": COMMON["suite"],
        "snapshot": COMMON["snapshot"],
        "any": "build the packages of the target's architecture (the default without --all)",
        "all": "build the packages that are independent of the architecture; with --any both",
        "nocheck": "skip the package's own tests",
        "profiles": "build profiles, separated by commas: nodoc,pkg.foo.bar",
        "data": "patterns of files that the target never runs: firmware, samples for other machines",
        "binnmu": "rebuild without changes: a number (1), one with a reason (1: Rebuild with x2), or a changelog entry",
        "jobs": "compilers at once (default: as many as there are cores)",
        "from": "begin with this phase, in the build tree as it is",
        "keep": "keep the build tree after success",
        "trials": "further tests of the packages, separated by commas: install, autopkgtest, lintian, lintian=fail",
        "output": "directory for what is built (default: dist/NAME_VERSION_ARCHITECTURE)",
        "emulate": EMULATE,
        "repo": REPO,
        "plan": "print what would be done and why; build nothing",
        "recipe": "print the recipe made for the package; build nothing",
        "json": "write one JSON object to stdout, and nothing else",
        "verbose": "tell more",
        "yes": "install what the machine lacks without asking",
        **SEVERAL,
    },
    iterable=["repo", "also"],
)
@guarded
@several("packages", "source", "builds", _links, _plan_of)
def deb(
    _c: Context,
    source: str,
    target: str = "armhf",
    mode: str = "substituted",
    suite: str = "",
    snapshot: str = "",
    any: bool = False,
    all: bool = False,
    nocheck: bool = False,
    profiles: str = "",
    data: str = "",
    binnmu: str = "",
    jobs: str = "",
    from_: str = "",
    keep: bool = False,
    trials: str = "",
    output: str = "",
    emulate: str = "",
    repo: Sequence[str] | None = None,
    plan: bool = False,
    recipe: bool = False,
    json: bool = False,
    verbose: bool = False,
    yes: bool = False,
) -> None:
    """Build the packages of a Debian source package for your targets; they go to dist/NAME_VERSION_ARCHITECTURE/."""
    log.configure(json=json, verbose=int(verbose))
    further = trials_of(names("--trials", trials) if trials else ())
    here = Here(jobs=number("--jobs", jobs), start=from_ or None, keep=keep, cache=cache_of("", mode))
    more: dict[str, Any] = {"emulate": emulated(emulate), "here": here, "repositories": repo or ()}
    options = _options(any=any, all=all, nocheck=nocheck, profiles=profiles, data=data)
    asked = _Asked(_source(source), options, binnmu, mode, suite, snapshot, more, open_store())
    targets = names("--target", target)
    if recipe or plan:
        log.result({"packages": [_looked_at(asked, name, recipe=recipe, json=json) for name in targets]})
        return
    _build_all(asked, targets, Path(output).absolute() if output else None, further, json=json, yes=yes)


def _source(word: str) -> str:
    # invoke takes any word for the source as long as there is none.
    if word.startswith("-"):
        raise UsageError(f"there is no source before {word!r}", hint="`--help deb` shows what it takes")
    return word


def _options(*, any: bool, all: bool, nocheck: bool, profiles: str, data: str) -> Options:
    words = names("--profiles", profiles) if profiles else []
    words += [_NOCHECK] if nocheck and _NOCHECK not in words else []
    options = Options(kind(any=any, all=all), tuple(words))
    patterns = tuple(names("--data", data)) if data else ()
    return replace(options, build_options=tuple(word for word in _ALSO_OPTIONS if word in words), data=patterns)


def _looked_at(asked: _Asked, target: str, *, recipe: bool, json: bool) -> dict[str, Any]:
    package, request = asked.on(target)
    for line in remarks(package, asked.options):
        log.warn(line)
    known = {"package": package.name, "version": package.version, "checked": package.checked, "recipe": request.recipe}
    return looked_at(request, known, recipe=recipe, json=json)


def _build_all(
    asked: _Asked, targets: list[str], folder: Path | None, trials: Trials, *, json: bool, yes: bool
) -> None:
    """Build for each target. Raises the first failure, after the others are built."""
    made = [asked.on(name) for name in targets]
    native = [load_toolchain(name, paths.project()).native for name in targets]
    require(native=min(native), assume_yes=yes)
    told: list[dict[str, Any]] = []
    failed: list[XbuildError] = []
    for name, (package, request) in zip(targets, made, strict=True):
        log.info(f"{package.name} {package.version} for {name}: {package.checked}; recipe: {request.recipe}")
        for line in remarks(package, asked.options):
            log.warn(line)
        place = folder / name if folder and len(targets) > 1 else folder
        try:
            built = build_deb(package, request, place, asked.store, process.show(sys.argv[1:]))
            tried = trials.of(built)
        except XbuildError as error:
            failed.append(error)
            if len(targets) > 1:
                log.warn(f"nothing for {name}: {error.message}")
            continue
        said = {trial.name: {"passed": trial.passed, "lines": list(trial.lines)} for trial in tried}
        told.append({"target": name, **built.as_json(), **({"trials": said} if said else {})})
        if not json:
            _show(built)
            for trial in tried:
                log.output_text("\n".join(trial.lines))
    log.result({"builds": told})
    for fault in failed[1:]:
        log.error(fault)
    if failed:
        raise failed[0]


def _show(built: Built) -> None:
    if built.result.parts:
        log.table(("part", "time"), [(name, log.human_time(seconds)) for name, seconds in built.result.parts])
    for file in built.files:
        log.output(f"{file}  {log.human_size(file.stat().st_size)}  sha256 {file_sha256(file)}")
