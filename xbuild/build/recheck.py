"""Runs the checks of a finished build once more, where its mode runs things or in an emulated machine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from xbuild.base import log
from xbuild.base.digest import read_json
from xbuild.base.errors import CheckError, LateError, PhaseError, UsageError
from xbuild.build import outputs, phases
from xbuild.build.artifact import ARCHIVE
from xbuild.build.build import provide
from xbuild.build.ground import lay
from xbuild.build.late import require_nothing_late
from xbuild.build.modes.system.mode import machine
from xbuild.build.plan import Step
from xbuild.build.prepared import Prepared, prepared
from xbuild.build.shell import unpacked
from xbuild.build.standing import artifact, built, not_built
from xbuild.build.stepfiles import StepFiles
from xbuild.build.subject import Subject
from xbuild.build.taught import remember
from xbuild.build.work import Work
from xbuild.store.local import writing_below

Where = Literal["sandbox", "machine"]


@dataclass(frozen=True)
class Checked:
    """What came of it. phase: whether the check phase passed; None: the recipe has none. outputs: how many were asked.

    seconds: what the check phase took. faults: all that is wrong, in lines. log: of a check phase that failed.
    """

    title: str
    where: Where
    artifact: Path
    outputs: int
    phase: bool | None
    seconds: float
    faults: tuple[str, ...]
    log: Path | None

    def as_json(self) -> dict[str, Any]:
        """For --json."""
        return {
            "of": self.title,
            "where": self.where,
            "artifact": str(self.artifact),
            "phase": None if self.phase is None else "passed" if self.phase else "failed",
            "seconds": round(self.seconds, 3),
            "outputs": self.outputs,
            "faults": list(self.faults),
            "log": str(self.log) if self.log else None,
        }

    def lines(self) -> list[str]:
        """In words."""
        where = "an emulated machine" if self.where == "machine" else "a sandbox"
        phase = "no check phase" if self.phase is None else f"check phase passed in {log.human_time(self.seconds)}"
        return [f"{self.title}, in {where}: {phase}; {self.outputs} outputs as promised"]

    def fault(self) -> CheckError | None:
        """The error that says what is wrong; None if nothing is."""
        if not self.faults:
            return None
        where = " in an emulated machine" if self.where == "machine" else ""
        return CheckError(f"{self.title}: checks failed{where}", details=self.faults[:60])


def require_possible(subject: Subject, *, system: bool) -> None:
    """Raise UsageError if there is nothing to check yet, or no machine to emulate. system: as of `recheck`."""
    if system and subject.toolchain.native:
        raise UsageError(f"{subject.toolchain.name} is this machine itself: --system is for emulated targets")
    if not built(subject):
        raise not_built(subject)


def recheck(subject: Subject, *, system: bool) -> Checked:
    """Run the check phase and the promised outputs of the artifact of `subject` that is in the store.

    system: in an emulated machine, whatever the mode. The check phase needs the build tree, which is built anew if it
    was not kept; the machine works on a copy of it. Raises as `require_possible`.
    """
    require_possible(subject, system=system)
    provide(subject)
    store, place = subject.store, subject.place
    with (
        store.in_use(),
        store.lock(place.path.name, describe=f"builds {subject.title}"),
        writing_below(store.root),
    ):
        build = prepared(subject)
        subject = build.subject
        entry = artifact(build)
        if entry is None:
            raise not_built(subject)
        there = place.path.exists()
        checked = _recheck(Work(subject, lay(subject)), build, entry, system=system)
        if not there and not checked.faults:
            store.discard(place.path)
        else:
            store.discard(place.path / "artifact")
        return checked


def _recheck(work: Work, build: Prepared, entry: Path, *, system: bool) -> Checked:
    subject, steps = build.subject, build.steps
    epoch = read_json(entry / f"{subject.file_name}.manifest.json")["source-date-epoch"]
    number = next((number for number, step in enumerate(steps) if step.name == "check"), None)

    def check() -> Checked:
        if number is not None:
            _make_tree(work, build, number)
        return _checked(work, None if number is None else steps[number], entry, epoch, system=system)

    def again(error: LateError) -> None:
        remember(subject, work.ground.tree, error)
        log.warn(f"{error.message}; the check begins again, with that emulated")
        subject.store.discard(subject.place.path)

    return work.with_fewer(check, again)


def _checked(work: Work, step: Step | None, entry: Path, epoch: int, *, system: bool) -> Checked:
    subject, place = work.subject, work.subject.place
    place.make()
    place.set_variables(subject.assignments)
    place.complete()
    root = work.root()
    if system or root.machine:
        root = replace(root, machine=machine(work.ground.site, keep=False))
    where: Where = "machine" if root.machine else "sandbox"
    files, env = StepFiles(None, f"check-{where}"), subject.variables(epoch)
    faults: list[str] = []
    seconds = 0.0
    if step is not None:
        try:
            # In a sandbox it works in the tree itself, as it did in the build.
            seconds = phases.run_phase(subject.recipe, step, files, place, root, env, subject.title)
        except PhaseError as error:
            faults += [error.message, *error.details]
        require_nothing_late(place.record(files), f"{subject.title}: in phase {step.name!r}", step.name)
    failed = bool(faults)
    with log.step("check outputs"):
        installed = unpacked(subject, entry)
        faults += outputs.broken_promises(subject.recipe, subject.toolchain, place, root, env, installed)
    phase = None if step is None else not failed
    file = place.log(files) if failed else None
    made = entry / f"{subject.file_name}{ARCHIVE}"
    return Checked(subject.title, where, made, len(subject.recipe.outputs), phase, seconds, tuple(faults), file)


def _make_tree(work: Work, build: Prepared, number: int) -> None:
    """See that the work place holds the tree as it was before step `number`, the last one."""
    subject = build.subject
    done = [(record.name, record.key, record.status) for record in phases.Progress(subject.place).done()]
    wanted = [(step.name, step.key, "done") for step in build.steps[:number]]
    if done[:number] == wanted and subject.place.build.is_dir():
        return
    log.info(f"{subject.title}: built anew up to the check, for its build tree was not kept")
    work.run_through(build.steps, 0, number)
