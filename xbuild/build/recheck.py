"""Runs the checks of a finished build once more, where its mode runs things or in an emulated machine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from xbuild.base import log
from xbuild.base.digest import read_json
from xbuild.base.errors import CheckError, PhaseError, UsageError
from xbuild.build import outputs, phases
from xbuild.build.builder import Builder
from xbuild.build.modes.system.mode import machine
from xbuild.build.plan import Step
from xbuild.store.local import IN_USE, writing_below

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


def recheck(builder: Builder, *, system: bool) -> Checked:
    """Run the check phase and the promised outputs of the artifact that `builder` has in the store.

    system: in an emulated machine, whatever the mode. The check phase needs the build tree, which is built anew if it
    was not kept; the machine works on a copy of it. Raises UsageError if there is no artifact, or no machine.
    """
    if system and builder.toolchain.native:
        raise UsageError(f"{builder.toolchain.name} is this machine itself: there is none to emulate")
    store, place = builder.store, builder.place
    with (
        store.lock(IN_USE, shared=True, describe="cleans the store"),
        store.lock(place.path.name, describe=f"builds {builder.title}"),
        writing_below(store.root),
    ):
        found = builder.artifact()
        if found is None:
            raise UsageError(f"there is no artifact of {builder.title}", hint=f"invoke build {builder.command_line()}")
        there = place.path.exists()
        checked = _recheck(builder, found, system=system)
        if not there and not checked.faults:
            store.discard(place.path)
        else:
            store.discard(place.path / "artifact")
        return checked


def _recheck(builder: Builder, found: Path, *, system: bool) -> Checked:
    artifact = found / f"{builder.file_name}.tar.zst"
    epoch = read_json(found / f"{builder.file_name}.manifest.json")["source-date-epoch"]
    steps = builder.steps()
    number = next((number for number, step in enumerate(steps) if step.name == "check"), None)
    if number is not None:
        _make_tree(builder, steps, number)
    builder.place.make()
    builder.place.set_variables(builder.assignments)
    builder.place.give_to_builder("src", "obj", "dest")
    root = builder.root
    if system or root.machine:
        root = replace(root, machine=machine(builder.site(root.layers), keep=False))
    where: Where = "machine" if root.machine else "sandbox"
    name, env = f"check-{where}", builder.variables(epoch)
    faults: list[str] = []
    seconds = 0.0
    if number is not None:
        try:
            # In a sandbox it works in the tree itself, as it did in the build.
            around = (builder.place, root, env, builder.title)
            seconds = phases.run_phase(builder.recipe, steps[number], name, *around)
        except PhaseError as error:
            faults += [error.message, *error.details]
    failed = bool(faults)
    with log.step("check outputs"):
        installed = builder.unpacked_artifact()
        faults += outputs.broken_promises(builder.recipe, builder.toolchain, builder.place, root, env, installed)
    phase = None if number is None else not failed
    file = builder.place.logs / f"{name}.log" if failed else None
    return Checked(builder.title, where, artifact, len(builder.recipe.outputs), phase, seconds, tuple(faults), file)


def _make_tree(builder: Builder, steps: list[Step], number: int) -> None:
    """See that the work place holds the tree as it was before step `number`, the last one."""
    done = [(record.name, record.key, record.status) for record in phases.Progress(builder.place).done()]
    wanted = [(step.name, step.key, "done") for step in steps[:number]]
    if done[:number] == wanted and builder.place.build.is_dir():
        return
    log.info(f"{builder.title}: built anew up to the check, for its build tree was not kept")
    builder.run_steps(steps, 0, number)
