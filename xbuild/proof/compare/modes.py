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
from xbuild.build.artifact import ARCHIVE, DEBUG_ARCHIVE, pack
from xbuild.build.build import build as build_it
from xbuild.build.environment import WorkPlace
from xbuild.build.ground import Ground, furnish, lay
from xbuild.build.modes.distcc import Summary
from xbuild.build.prepared import prepared
from xbuild.build.request import Request
from xbuild.build.result import Result
from xbuild.build.standing import artifact
from xbuild.build.stepfiles import accounted
from xbuild.build.strip import strip
from xbuild.build.subject import Subject, read
from xbuild.build.work import Work
from xbuild.formats.record import read as read_record
from xbuild.model.phases import UNPACK
from xbuild.proof.compare.files import Where, differing
from xbuild.proof.compare.outcome import Again, Cpu, ModeRun
from xbuild.proof.compare.trees import Artifact, BuildTree
from xbuild.proof.trace.account import account, read_cpu, sum_up
from xbuild.store.local import Store

_FAULTS = (PhaseError, SourceError, CheckError, MachineError)
"""What ends the build of one mode, but not the comparison."""


@dataclass
class Built:
    """One mode's build, and its files. tree: None if build trees are not compared."""

    run: ModeRun
    subject: Subject
    artifact: Artifact | None = None
    tree: BuildTree | None = None
    manifest: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Wanted:
    """What is to be built, with its build tree if its work place is kept. scratch: a directory for what is unpacked."""

    request: Request
    store: Store
    scratch: Path


def is_kept(subject: Subject) -> bool:
    """Whether the work place holds the tree of a whole build of the same inputs; makes the roots."""
    done = [(step.name, step.key, step.status) for step in phases.Progress(subject.place).done()]
    wanted = [(step.name, step.key, "done") for step in prepared(subject).steps]
    return done == wanted and subject.place.build.is_dir()


def build(wanted: Wanted) -> Built:
    """Build, unless the store and the work place hold all that is wanted; a failure is a result too."""
    request, store = wanted.request, wanted.store
    subject = read(request, store)
    try:
        if request.here.keep and artifact(prepared(subject)) and not is_kept(subject):
            log.info(f"{subject.title}: built anew, for its build tree was not kept")
            request = replace(request, here=replace(request.here, start=UNPACK))
        return _read(wanted, subject, build_it(request, store))
    except _FAULTS as error:
        log.warn(f"mode {subject.mode.name} failed: {error.message}")
        for line in error.details:
            log.detail(line)
        return Built(_failed(subject, error), subject)


def _read(wanted: Wanted, subject: Subject, result: Result) -> Built:
    scratch = wanted.scratch / subject.mode.name
    files = Artifact(result.stored.files, scratch)
    tree = None
    if wanted.request.here.keep:
        with reading(subject):
            tree = BuildTree(subject.place.build, scratch)
    manifest = read_json(result.stored.manifest)
    run = ModeRun(
        subject.mode.name,
        "built" if result.status == "built" else "up-to-date",
        phases=tuple(result.phases),
        resumed=manifest["resumed"],
        artifact=result.handed.artifact,
        bytes=result.stored.artifact.stat().st_size,
        files=len(files.listing),
        objects=len(tree.listing) if tree else None,
        cpu=cpu_of(result.records),
        distcc=Summary(**result.told["distcc"]) if "distcc" in result.told else None,
        kept=subject.place.path if tree else None,
    )
    return Built(run, subject, files, tree, manifest)


@contextmanager
def reading(subject: Subject) -> Iterator[None]:
    """Nobody changes the build tree inside the block. Raises MachineError if somebody has done so before."""
    with subject.store.lock(subject.place.path.name, describe=f"builds {subject.title}"):
        if not is_kept(subject):
            raise MachineError(f"{subject.title}: another xbuild has changed the build tree", hint="compare again")
        yield


def _failed(subject: Subject, error: XbuildError) -> ModeRun:
    file = error.log if isinstance(error, PhaseError) else None
    records = phases.Progress(subject.place).records if file else []
    return ModeRun(
        subject.mode.name,
        "failed",
        phases=tuple((record.name, record.seconds) for record in records),
        message=error.message,
        details=error.details,
        log=str(file) if file else None,
        kept=subject.place.path if file else None,
    )


def cpu_of(records: Path) -> dict[str, Cpu]:
    """CPU seconds by phase, from the files of a record, as `trace` tells them; what is damaged is left out."""
    found = {}
    for files in accounted(records):
        cpu = read_cpu(records / files.accounts)
        if cpu is None:
            continue
        known = sum_up(account(read_record(records / files.record).counts, cpu), [cpu])
        found[files.step] = Cpu(known.emulated, known.native, cpu.total)
    return found


def build_again(wanted: Wanted, first: Built) -> Again:
    """Build once more in the mode of `first`, in a fresh place that is removed then; compare both."""
    subject = read(replace(wanted.request, mode=first.run.mode), wanted.store)
    place = replace(subject.place, path=subject.place.path.with_name(f"{subject.place.path.name}-again"))
    subject, scratch = replace(subject, place=place), wanted.scratch / "again"
    log.info(f"{subject.title}: built a second time, to see what differs by itself")
    with wanted.store.lock(place.path.name, describe=f"builds {subject.title} again"):
        try:
            ground = lay(subject)
            known = prepared(subject)
            # With the digests that its paths have now.
            subject, steps = known.subject, known.steps
            progress = Work(subject, ground).run_through(steps, 0, len(steps))
            packed = _packed(subject, ground, progress, wanted.scratch)
            found = _self_differences(first, Artifact(packed, scratch), scratch, place)
        except _FAULTS as error:
            log.warn(f"the second build in mode {subject.mode.name} failed: {error.message}")
            return Again(subject.mode.name, None, error.message)
        wanted.store.discard(place.path)
    return Again(subject.mode.name, found)


def _packed(subject: Subject, ground: Ground, progress: phases.Progress, scratch: Path) -> list[Path]:
    """What was installed, and debug information if it is split off, as archives in `scratch`."""
    recipe, place, epoch = subject.recipe, subject.place, progress.epoch
    taken = outputs.take_over(place, keep_owners=recipe.build.keep_owners)
    root, env = furnish(subject, ground, place), subject.variables(epoch)
    stripped = strip(recipe, subject.toolchain, place, root, env, progress)
    archives = [scratch / f"again{ARCHIVE}"]
    pack(place.dest, archives[0], epoch, taken.modes, owners=taken.owners)
    if stripped.debug is not None:
        archives.append(scratch / f"again{DEBUG_ARCHIVE}")
        pack(stripped.debug, archives[1], epoch)
    return archives


def _self_differences(
    first: Built, artifact: Artifact, scratch: Path, place: WorkPlace
) -> frozenset[tuple[Where, str]]:
    assert first.artifact is not None
    found: set[tuple[Where, str]] = {("artifact", path) for path in differing(first.artifact.listing, artifact.listing)}
    if first.tree is not None:
        tree = BuildTree(place.build, scratch)
        found |= {("objects", path) for path in differing(first.tree.listing, tree.listing)}
    return frozenset(found)
