"""Builds a source package for a target, natively and, if asked, emulated; holds it against the archive's own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from xbuild import packages
from xbuild.base import log, paths, process
from xbuild.base.digest import file_sha256, key_of
from xbuild.base.errors import DiskFullError, MachineError, UsageError, XbuildError
from xbuild.build.phases import keep_copy
from xbuild.build.prepared import prepare
from xbuild.build.request import Here, Request
from xbuild.build.subject import read
from xbuild.formats.deb import opened
from xbuild.model.load import load_toolchain, toolchain_names
from xbuild.model.native import here
from xbuild.model.toolchain import Toolchain
from xbuild.packages import Built, Options, SourcePackage, Where
from xbuild.packages.find import where
from xbuild.packages.recipe import can_lie
from xbuild.packages.remarks import remarks
from xbuild.proof.reproduce import archive, hold
from xbuild.proof.reproduce.archive import Buildinfo, Reference
from xbuild.proof.reproduce.causes import Known
from xbuild.proof.reproduce.verdict import Held, Row
from xbuild.store.local import Store, writing_below

KIND = "reproduced"
"""The store's kind of entry: `row.json`."""

_ROW = "row.json"
_PLACE = "reproduce"
"""The directory of dist/ that differing packages come to."""

_EMULATED = "emulated"


@dataclass(frozen=True)
class Wanted:
    """What is to be reproduced. word: a source as of `packages.find`, or FILE.deb, or FILE.buildinfo.

    emulated: build it emulated too. native: build it for the machine itself too.
    """

    word: str
    target: str
    mode: str
    emulated: bool = False
    native: bool = True
    suite: str | None = None
    snapshot: str | None = None
    options: Options = field(default_factory=Options)
    jobs: int = 0


@dataclass(frozen=True)
class Question:
    """What a word comes to. source: as of `packages.find`. given: packages that it names by itself. told: in words.

    notes: what is done otherwise than it says.
    """

    source: str
    target: str
    options: Options
    given: tuple[Reference, ...] = ()
    buildinfo: Buildinfo | None = None
    told: str = "the archive's own, by its signed index"
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Side:
    """One target's build: what is built, and what it is held against."""

    toolchain: Toolchain
    package: SourcePackage
    references: tuple[Reference, ...]
    request: Request


def reproduce(wanted: Wanted, store: Store) -> Row:
    """Build and hold, unless the store has the row.

    Raises what finding and building raise; a native build that fails is a note.
    """
    question = ask(wanted)
    side = _side(wanted, question, question.target, store)
    native = None
    if wanted.native and not side.toolchain.native:
        native = _side(wanted, replace(question, given=(), buildinfo=None), here().name, store)
    value = _value(wanted, question, [side, *([native] if native else [])], store)
    if found := store.get(KIND, key_of(value)):
        return Row.read(json.loads((found / _ROW).read_text()))
    row = _row(wanted, question, side, native, store)

    def make(staging: Path) -> None:
        (staging / _ROW).write_text(json.dumps(row.as_json(), indent=1))

    store.ensure(KIND, value, f"what came of {row.title}", make)
    return row


def ask(wanted: Wanted) -> Question:
    """What the word of the command line means. Raises UsageError."""
    file = Path(wanted.word)
    if file.suffix == ".buildinfo" and file.is_file():
        return _of_buildinfo(wanted, file)
    if file.suffix in (".deb", ".udeb") and file.is_file():
        return _of_deb(wanted, file)
    return Question(wanted.word, wanted.target or "armhf", wanted.options)


def _of_deb(wanted: Wanted, file: Path) -> Question:
    with opened(file) as deb:
        name, version = deb.source
        package, own, architecture = (deb.fields[field] for field in ("Package", "Version", "Architecture"))
    given = Reference(package, own, architecture, file_sha256(file), version, file=file)
    options = replace(wanted.options, build="all") if architecture == "all" else wanted.options
    target = _target(wanted, (architecture,), file)
    return Question(f"{name}={version}", target, options, (given,), None, f"{file.name}, and the archive's own")


def _of_buildinfo(wanted: Wanted, file: Path) -> Question:
    said = archive.read_buildinfo(file)
    given = tuple(_named(file, name, sha256, said) for name, sha256 in said.sums.items())
    environment = said.environment or {}
    words = [word for word in environment.get("DEB_BUILD_OPTIONS", "").split() if not word.startswith("parallel=")]
    profiles = tuple(environment.get("DEB_BUILD_PROFILES", "").split())
    own = wanted.options.build_options
    options = replace(wanted.options, build_options=tuple(dict.fromkeys([*words, *own])), profiles=profiles)
    options = replace(options, build=said.kind, binnmu=said.changes)
    notes = []
    if can_lie(said.directory):
        options = replace(options, directory=said.directory)
    elif said.directory:
        notes.append(f"{file.name} was built in {said.directory}, which cannot be had here: paths in it may differ")
    target, told = _target(wanted, said.architecture, file), f"the sums in {file.name}"
    return Question(f"{said.source}={said.version}", target, options, given, said, told, tuple(notes))


def _named(file: Path, name: str, sha256: str, said: Buildinfo) -> Reference:
    package, version, architecture = [*name.rpartition(".")[0].split("_"), "", ""][:3]
    beside = file.with_name(name)
    return Reference(
        package, version, architecture, sha256, said.version, file=beside if _is(beside, sha256) else None
    )


def _is(file: Path, sha256: str) -> bool:
    return file.is_file() and file_sha256(file) == sha256


def _target(wanted: Wanted, architectures: tuple[str, ...], file: Path) -> str:
    """The target of a file's architecture. Raises UsageError if there is none, or if another one is asked for."""
    real = [name for name in architectures if name not in ("all", "source")]
    if not real:
        return wanted.target or here().name
    for name in [wanted.target] if wanted.target else toolchain_names(paths.project()):
        if load_toolchain(name, paths.project()).architecture in real:
            return name
    hint = "leave out --target" if wanted.target else "docs/how-to/add-a-target.md"
    raise UsageError(f"{file} is for {' '.join(real)}, and no target is" if not wanted.target else
                     f"{file} is for {' '.join(real)}, not for {wanted.target}", hint=hint)


def _side(wanted: Wanted, question: Question, target: str, store: Store) -> Side:
    toolchain = load_toolchain(target, paths.project())
    toolchain = toolchain.with_suite(wanted.suite) if wanted.suite else toolchain
    place = where(store, toolchain, wanted.snapshot)
    package = packages.find(question.source, place)
    references = _references(question, place, package)
    rebuilt = [one for one in references if one.is_rebuild and one.source == package.version]
    options = question.options
    if rebuilt and not options.binnmu:
        options = replace(options, binnmu=archive.rebuild_entry(archive.brought(rebuilt[0], store)))
    recipe = packages.recipe_of(package, options, store)
    request = Request(
        str(recipe), target, wanted.mode, suite=wanted.suite, snapshot=wanted.snapshot,
        here=Here(jobs=wanted.jobs, publish=False),
    )  # fmt: skip
    return Side(toolchain, package, references, request)


def _references(question: Question, place: Where, package: SourcePackage) -> tuple[Reference, ...]:
    architecture = place.toolchain.architecture
    words = (place.store, place.archive, architecture, package.name)
    listed = archive.of_source(*words)
    if any(binary.kind == "udeb" for binary in package.binaries):
        try:
            listed += archive.udebs_of_source(*words)
        except DiskFullError:
            raise
        except MachineError as error:
            log.warn(f"udebs cannot be compared: {error.message}")
    sums = {one.sha256: one for one in listed}
    # Where the file itself is not at hand, the archive may have it.
    given = [one if one.file or one.sha256 not in sums else sums[one.sha256] for one in question.given]
    named = {(one.package, one.architecture) for one in given}
    if question.buildinfo is not None:
        return tuple(given)
    return (*given, *(one for one in listed if (one.package, one.architecture) not in named))


def _value(wanted: Wanted, question: Question, sides: list[Side], store: Store) -> dict[str, Any]:
    """What decides about a row."""
    requests = [side.request for side in sides]
    requests += [replace(sides[0].request, mode=_EMULATED)] if wanted.emulated else []
    makers = sorted(Path(__file__).parent.parent.glob("[cr]*/*.*"))
    return {
        "what": "reproduced",
        "mode": wanted.mode,
        "builds": [prepare(request, store).key for request in requests],
        "references": [sorted((one.package, one.version, one.sha256) for one in side.references) for side in sides],
        "buildinfo": dict(question.buildinfo.built_with) if question.buildinfo else None,
        "makers": [file_sha256(file) for file in makers if file.suffix in (".py", ".yml")],
    }


def _row(wanted: Wanted, question: Question, side: Side, native: Side | None, store: Store) -> Row:
    package, name = side.package, side.request.target
    row = Row(package.name, package.version, name, wanted.mode, side.request.recipe, references=question.told)
    lock = f"reproduce-{package.name}-{name}"
    with store.lock(lock, describe=f"reproduces {row.title}"), _scratch(store, lock) as scratch:
        for line in remarks(package, question.options):
            log.warn(f"{package.name}: {line}")
        built = packages.build_deb(package, side.request, scratch / "target", store)
        seconds = {wanted.mode if not side.toolchain.native else "native": _seconds(built)}
        control: tuple[Held, ...] = ()
        notes = [*question.notes]
        if native is not None:
            try:
                own = packages.build_deb(native.package, native.request, scratch / "native", store)
                seconds["native"] = _seconds(own)
                control = hold.hold(own.files, _against(native, question, own, None, store))
            except XbuildError as error:
                # That is not of the package, and the row would stay.
                if process.disk_full(error.details) or isinstance(error, DiskFullError):
                    raise
                notes.append(f"the native build failed: {error.message}")
        against = _against(side, question, built, (native, control) if control and native else None, store)
        with log.step(f"hold {row.title} against {question.told}"):
            debs = hold.hold(built.files, against)
        if wanted.emulated:
            request = replace(side.request, mode=_EMULATED)
            slow = packages.build_deb(package, request, scratch / _EMULATED, store)
            seconds[_EMULATED] = _seconds(slow)
            debs = hold.with_emulated(debs, slow.files)
        notes += _kept(side, debs, built, store)
    notes += _not_built(side, debs)
    return replace(row, seconds=seconds, debs=debs, control=control, notes=tuple(notes))


@contextmanager
def _scratch(store: Store, lock: str) -> Iterator[Path]:
    store.discard_scratch_of(lock)
    scratch = store.scratch(lock)
    with writing_below(store.root):
        scratch.mkdir()
        try:
            yield scratch
        finally:
            store.discard(scratch)


def _seconds(built: Built) -> float:
    return round(sum(seconds for _, seconds in built.result.phases), 1)


def _plain(toolchain: Toolchain, path: str) -> str:
    return path.replace(toolchain.triplet, "TRIPLET")


def _against(
    side: Side, question: Question, built: Built, control: tuple[Side, tuple[Held, ...]] | None, store: Store
) -> hold.Against:
    info = next((archive.read_buildinfo(file) for file in built.files if file.suffix == ".buildinfo"), None)
    ours = info.built_with if info else {}
    subject = read(side.request, store)
    known = Known(
        tools=archive.tools(subject.roots.tree(subject.packages), ours),
        ours=ours,
        theirs=question.buildinfo.built_with if question.buildinfo else {},
        native=side.toolchain.native,
        control=frozenset(hold.differing(control[1], partial(_plain, control[0].toolchain))) if control else None,
    )
    brought = partial(archive.brought, store=store)
    return hold.Against(side.references, side.package.version, brought, known, partial(_plain, side.toolchain))


def _kept(side: Side, debs: tuple[Held, ...], built: Built, store: Store) -> list[str]:
    """Copies of both files of each pair that differs, for who wants to look; what says so."""
    name = f"{side.package.name}_{side.package.file_version}_{side.request.target}"
    folder = paths.project() / "dist" / _PLACE / name
    sums = {one.sha256: one for one in side.references}
    differ = [held for held in debs if held.found]
    for held in differ:
        ours = next(file for file in built.files if file.name == held.name)
        for side_name, file in (("ours", ours), ("archive", archive.brought(sums[held.theirs], store))):
            place = folder / side_name / held.name
            # It may be the very file that is asked about.
            if not place.exists() or not place.samefile(file):
                keep_copy(file, place)
    if not differ:
        return []
    tool = "; diffoscope shows more of them" if shutil.which("diffoscope") else ""
    return [f"both files of each pair that differs: {folder}{tool}"]


def _not_built(side: Side, debs: tuple[Held, ...]) -> list[str]:
    held = {one.name.partition("_")[0] for one in debs}
    others = sorted(
        one.package for one in side.references if one.source == side.package.version and one.package not in held
    )
    return [f"not built, as --all would: {', '.join(others)}"] if others else []
