"""The executors of this machine: builds whose commands run in sandboxes, and such as run in an emulated machine."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from xbuild.base import log
from xbuild.base.digest import damage, key_of, read_json
from xbuild.base.errors import LateError, UsageError, XbuildError
from xbuild.base.yamlfile import did_you_mean
from xbuild.build import canary, outputs, phases
from xbuild.build.canary.compilers import require_same
from xbuild.build.check import Checked
from xbuild.build.executor import Event, Executor, Order, Outcome, Tell, failure_of
from xbuild.build.ground import Ground, lay
from xbuild.build.modes.mode import Mode
from xbuild.build.plan import first_step
from xbuild.build.prepared import Prepared, prepared
from xbuild.build.subject import Subject, read
from xbuild.build.work import Timed, Work, in_use
from xbuild.model.phases import UNPACK
from xbuild.store.local import Store, writing_below
from xbuild.twins.pairing import Refusal


@dataclass(frozen=True)
class SandboxExecutor:
    """Builds in the store, with a sandbox for every command."""

    store: Store

    def perform(self, order: Order, tell: Tell) -> Outcome:
        """As `Executor.perform`."""
        return _performed(order, self.store, tell, whole=False)


@dataclass(frozen=True)
class MachineExecutor:
    """Builds in the store, with an emulated machine that boots anew for every command without network."""

    store: Store

    def perform(self, order: Order, tell: Tell) -> Outcome:
        """As `Executor.perform`."""
        return _performed(order, self.store, tell, whole=True)


def executor_of(mode: Mode, store: Store) -> Executor:
    """What runs builds of this mode here."""
    return MachineExecutor(store) if mode.whole else SandboxExecutor(store)


def _performed(order: Order, store: Store, tell: Tell, *, whole: bool) -> Outcome:
    timed = Timed(tell)

    def warned(text: str) -> None:
        tell(Event("warning", text=text))

    with log.warnings_told(warned):
        try:
            return _built(order, store, timed, whole=whole)
        except XbuildError as error:
            parts, anew = tuple(timed.seconds), tuple(timed.begun_anew)
            return Outcome("failed", order.key, parts=parts, failure=failure_of(error), anew=anew)


def _built(order: Order, store: Store, timed: Timed, *, whole: bool) -> Outcome:
    subject = read(order.request, store)
    _require_possible(subject, whole=whole)
    lock = store.lock(subject.place.path.name, describe=f"builds {subject.title}")
    with in_use(subject), lock, writing_below(store.root):
        # Before anything is called up to date: the recipe's digest may be that of other files.
        subject.require_sources()
        build = _prepared(order, subject)
        there = _sound(build) if order.request.here.start is None else None
        if there:
            log.info(f"{subject.title}: up to date")
        entry = there
        if entry is None:
            with timed.part("roots"):
                ground = lay(subject)
            # Once more: what the mirror no longer has was resolved anew when the roots were made.
            build = _prepared(order, subject)
            entry = _Making(build, ground, timed).make()
        manifest = read_json(entry / f"{subject.file_name}.manifest.json")
        status: Literal["up-to-date", "built"] = "up-to-date" if there else "built"
        return Outcome(status, build.key, manifest, tuple(timed.seconds), anew=tuple(timed.begun_anew))


def _prepared(order: Order, subject: Subject) -> Prepared:
    """Raises UsageError if that has another key than the one who orders knows."""
    build = prepared(subject)
    if order.key not in (None, build.key):
        raise UsageError(
            f"{subject.title} has another key here ({build.key}) than where it was ordered ({order.key})",
            hint="here and there differ in the recipe, the packages of the distribution, or xbuild itself",
        )
    return build


def _require_possible(subject: Subject, *, whole: bool) -> None:
    """Raises UsageError if this cannot be built, whatever is in the store."""
    start, toolchain = subject.request.here.start, subject.toolchain
    if subject.mode.whole != whole:
        what = "in emulated machines" if whole else "in sandboxes"
        raise UsageError(f"mode {subject.mode.name} is not for an executor that works {what}")
    if not toolchain.builds:
        message = f"target {toolchain.name} only runs programs: its root has no compiler"
        raise UsageError(message, hint=f"see toolchains/{toolchain.name}.yml")
    names = [phase.name for phase in subject.phases]
    if start and start not in (UNPACK, *names):
        raise UsageError(f"no phase {start!r} in this recipe{did_you_mean(start, names)}", hint=", ".join(names))


def _sound(build: Prepared) -> Path | None:
    """The artifact in the store; a damaged one is removed, with a word."""
    store, title = build.subject.store, build.subject.title
    entry = store.get("artifacts", build.key)
    fault = damage(entry) if entry else None
    if fault is None:
        return entry
    log.warn(f"{title}: the artifact in the store is not as it was made ({fault}), and is built anew")
    store.remove("artifacts", build.key)
    return None


class _Making:
    """One build that is not in the store, from the first step that is left to the packed artifact."""

    def __init__(self, build: Prepared, ground: Ground, timed: Timed) -> None:
        self._build = build
        self._subject = build.subject
        self._timed = timed
        self._work = Work(build.subject, ground, timed)

    def make(self) -> Path:
        """Run what is left, check, and pack; give the artifact's entry. The work place goes unless it is to stay."""
        subject, wanted = self._subject, self._build.steps
        place, here = subject.place, subject.request.here
        first, reason = first_step(wanted, phases.Progress(place).done(), here.start)
        begin = wanted[first].name if first < len(wanted) else "the check of outputs"
        log.info(f"{subject.title}: from {begin}, {reason}")
        for refused in self._work.ground.pairs.refused:
            if refused.kind is Refusal.LATE:
                log.info(f"{refused.path} runs emulated: {refused.reason}")
        if subject.mode.canaries:
            self._run_canaries()
        progress = self._work.run_through(wanted, first, len(wanted))
        env = subject.variables(progress.epoch)
        with self._timed.part("check outputs"), log.step("check outputs"):
            taken = outputs.take_over(place, keep_owners=subject.recipe.build.keep_owners)
            checked = self._verified(env)
        entry = self._pack(progress, checked, taken)
        if not here.keep:
            subject.store.discard(place.path)
        return entry

    def _verified(self, env: Mapping[str, str]) -> Checked:
        subject = self._subject
        while True:
            try:
                return outputs.verify(subject.recipe, subject.toolchain, subject.place, self._work.root(), env)
            except LateError as error:
                # Nothing was changed: they are asked once more.
                self._work.do_without(error)

    def _run_canaries(self) -> None:
        subject, pairs = self._subject, self._work.ground.pairs
        with self._timed.part("canaries"):
            work = subject.place.path.parent
            canary.run(subject.store, subject.roots, pairs.table, work)
            if any(verdict.offered for verdict in pairs.equivalents.values()):
                require_same(subject.store, subject.roots, pairs.table, work, self._work.ground.site.layers)

    def _pack(self, progress: phases.Progress, checked: Checked, taken: outputs.Taken) -> Path:
        subject = self._subject
        facts = self._facts(progress)

        def make(staging: Path) -> None:
            with self._timed.part("pack"), log.step("pack"):
                shutil.copytree(subject.place.logs, staging / "logs")
                outputs.keep_records(subject.place, staging / "records")
                usage = outputs.usage_of(subject.place)
                if usage.cut:
                    log.warn(f"the record of {', '.join(usage.cut)} was cut short: not all of its execs are counted")
                outputs.finish(
                    subject.recipe,
                    subject.toolchain,
                    subject.place,
                    staging,
                    subject.file_name,
                    checked=checked,
                    epoch=progress.epoch,
                    facts=facts,
                    twins=self._work.ground.pairs.twins,
                    usage=usage,
                    taken=taken,
                )

        if subject.request.here.start is not None:
            subject.store.remove("artifacts", self._build.key)
        return subject.store.ensure("artifacts", self._build.value, f"the artifact of {subject.title}", make)

    def _facts(self, progress: phases.Progress) -> dict[str, object]:
        """What the manifest tells of the build beside what it made."""
        subject, pairs, imported = self._subject, self._work.ground.pairs, self._subject.imported
        facts: dict[str, object] = {
            "mode": subject.mode_name,
            "key": self._build.key,
            "resumed": progress.resumed,
            "phases": {record.name: record.seconds for record in progress.records},
            "inputs": _told(self._build.value["contents"]),
        }
        if subject.recipe.build.as_root:
            facts["as-root"] = list(subject.recipe.build.as_root)
        if late := sorted(refused.path for refused in pairs.refused if refused.kind is Refusal.LATE):
            # The same whether it was met now or in an earlier build.
            facts["emulated-late"] = late
        if imported is not None:
            facts["root"] = {"name": imported.name, **imported.value(), **imported.facts.as_json()}
            facts["pairing"] = pairs.pairing
            facts["risks"] = pairs.risks
        return facts if subject.toolchain.native else facts | subject.mode.told(subject.place)


def _told(contents: Mapping[str, Any]) -> dict[str, Any]:
    """Packages by name, and what else is short enough to be read; of the rest the digest."""
    long = ("policy", "makers")
    return {name: key_of(value) if name in long else value for name, value in contents.items()}
