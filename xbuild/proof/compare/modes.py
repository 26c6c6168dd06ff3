"""Builds a recipe in one mode, for a comparison: once, and once more in a fresh place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from xbuild.base import log
from xbuild.base.digest import read_json
from xbuild.base.errors import CheckError, MachineError, PhaseError, SourceError, XbuildError
from xbuild.build import outputs, phases
from xbuild.build.artifact import pack
from xbuild.build.builder import Builder
from xbuild.build.environment import WorkPlace
from xbuild.build.modes.distcc import Summary
from xbuild.build.plan import UNPACK
from xbuild.build.result import Options, Result
from xbuild.proof.compare.files import Where, differing
from xbuild.proof.compare.outcome import Again, Cpu, ModeRun
from xbuild.proof.compare.trees import Artifact, BuildTree
from xbuild.store.local import Store

_FAULTS = (PhaseError, SourceError, CheckError, MachineError)
"""What ends the build of one mode, but not the comparison."""


@dataclass
class Built:
    """One mode's build, and its files. tree: None if build trees are not compared."""

    run: ModeRun
    builder: Builder
    artifact: Artifact | None = None
    tree: BuildTree | None = None
    manifest: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Wanted:
    """What is to be built. objects: with its build tree. scratch: a directory for what is unpacked."""

    recipe: str
    target: str
    options: Options
    objects: bool
    store: Store
    scratch: Path

    def builder(self, **changes: Any) -> Builder:
        """A builder, with changes to the options."""
        return Builder(self.recipe, self.target, replace(self.options, keep=self.objects, **changes), self.store)


def is_kept(builder: Builder) -> bool:
    """Whether the work place holds the tree of a whole build of the same inputs; makes the roots."""
    done = [(step.name, step.key, step.status) for step in phases.Progress(builder.place).done()]
    wanted = [(step.name, step.key, "done") for step in builder.steps()]
    return done == wanted and builder.place.build.is_dir()


def build(wanted: Wanted) -> Built:
    """Build, unless the store and the work place hold all that is wanted; a failure is a result too."""
    builder = wanted.builder()
    mode = builder.mode.name
    try:
        if wanted.objects and builder.artifact() and not is_kept(builder):
            log.info(f"{builder.title}: built anew, for its build tree was not kept")
            builder = wanted.builder(start=UNPACK)
        result = builder.build()
        return _read(wanted, builder, result)
    except _FAULTS as error:
        log.warn(f"mode {mode} failed: {error.message}")
        for line in error.details:
            log.detail(line)
        return Built(_failed(builder, error), builder)


def _read(wanted: Wanted, builder: Builder, result: Result) -> Built:
    scratch = wanted.scratch / builder.mode.name
    artifact = Artifact(result.artifact, scratch)
    tree = None
    if wanted.objects:
        with reading(builder):
            tree = BuildTree(builder.place.build, scratch)
    manifest = read_json(result.manifest)
    run = ModeRun(
        builder.mode.name,
        "built" if result.status == "built" else "up-to-date",
        phases=tuple(result.phases),
        resumed=manifest["resumed"],
        artifact=result.artifact,
        bytes=result.artifact.stat().st_size,
        files=len(artifact.listing),
        objects=len(tree.listing) if tree else None,
        cpu=cpu_of(result.records),
        distcc=Summary(**result.told["distcc"]) if "distcc" in result.told else None,
        kept=builder.place.path if tree else None,
    )
    return Built(run, builder, artifact, tree, manifest)


@contextmanager
def reading(builder: Builder) -> Iterator[None]:
    """Nobody changes the build tree inside the block. Raises MachineError if somebody has done so before."""
    with builder.store.lock(builder.place.path.name, describe=f"builds {builder.title}"):
        if not is_kept(builder):
            raise MachineError(f"{builder.title}: another xbuild has changed the build tree", hint="compare again")
        yield


def _failed(builder: Builder, error: XbuildError) -> ModeRun:
    file = next((line.removeprefix("log:").strip() for line in error.details if line.startswith("log:")), None)
    records = phases.Progress(builder.place).records if file else []
    return ModeRun(
        builder.mode.name,
        "failed",
        phases=tuple((record.name, record.seconds) for record in records),
        message=error.message,
        details=error.details,
        log=file,
        kept=builder.place.path if file else None,
    )


def cpu_of(records: Path) -> dict[str, Cpu]:
    """CPU seconds by phase, from the files of a record; what is not there or damaged is left out."""
    found = {}
    for file in sorted(records.glob("*.cpu.json")):
        try:
            value = read_json(file)
            parts = [(bool(item["native"]), float(item["seconds"])) for item in value["programs"]]
            total = float(value["total"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        native = sum(seconds for is_native, seconds in parts if is_native)
        emulated = sum(seconds for is_native, seconds in parts if not is_native)
        found[file.name.removesuffix(".cpu.json").partition("-")[2]] = Cpu(emulated, native, total)
    return found


def build_again(wanted: Wanted, first: Built) -> Again:
    """Build once more in the mode of `first`, in a fresh place that is removed then; compare both."""
    builder = wanted.builder(mode=first.run.mode)
    builder.place = WorkPlace(builder.place.path.with_name(f"{builder.place.path.name}-again"))
    place, scratch = builder.place, wanted.scratch / "again"
    log.info(f"{builder.title}: built a second time, to see what differs by itself")
    with wanted.store.lock(place.path.name, describe=f"builds {builder.title} again"):
        try:
            steps = builder.steps()
            progress = builder.run_steps(steps, 0, len(steps))
            modes = outputs.take_over(place)
            packed = wanted.scratch / "again.tar.zst"
            pack(place.dest, packed, progress.epoch, modes)
            found = _self_differences(first, Artifact(packed, scratch), scratch, place)
        except _FAULTS as error:
            log.warn(f"the second build in mode {builder.mode.name} failed: {error.message}")
            return Again(builder.mode.name, None, error.message)
        wanted.store.discard(place.path)
    return Again(builder.mode.name, found)


def _self_differences(
    first: Built, artifact: Artifact, scratch: Path, place: WorkPlace
) -> frozenset[tuple[Where, str]]:
    assert first.artifact is not None
    found: set[tuple[Where, str]] = {("artifact", path) for path in differing(first.artifact.listing, artifact.listing)}
    if first.tree is not None:
        tree = BuildTree(place.build, scratch)
        found |= {("objects", path) for path in differing(first.tree.listing, tree.listing)}
    return frozenset(found)
