"""The executors of this machine: builds whose commands run in sandboxes, and such as run in an emulated machine."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from xbuild.base import log
from xbuild.base.digest import damage, key_of, read_json
from xbuild.base.errors import ProjectSourceError, UsageError, XbuildError
from xbuild.base.walk import shown
from xbuild.base.yamlfile import did_you_mean
from xbuild.build import canary, compilercache, outputs, phases
from xbuild.build.canary.compilers import require_same
from xbuild.build.check import Checked
from xbuild.build.executor import Answers, Event, Executor, Order, Outcome, Tell, failure_of
from xbuild.build.ground import Ground, lay
from xbuild.build.modes.mode import Mode
from xbuild.build.plan import first_step
from xbuild.build.prepared import Prepared, prepared
from xbuild.build.strip import Stripped, is_other, strip
from xbuild.build.subject import Subject, read
from xbuild.build.work import Timed, Work, in_use
from xbuild.model.phases import UNPACK
from xbuild.sources import ChangingError
from xbuild.sources.local import state_in_git
from xbuild.store.local import Store, writing_below
from xbuild.store.shared.entries import obtain
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


_TRIES = 3
"""How often the project's files are looked at, if they change while they are copied."""


def _built(order: Order, store: Store, timed: Timed, *, whole: bool) -> Outcome:
    subject = read(order.request, store)
    _require_possible(subject, whole=whole)
    lock = store.lock(subject.place.path.name, describe=f"builds {subject.title}")
    with in_use(subject), lock, writing_below(store.root):
        for left in reversed(range(_TRIES)):
            try:
                return _built_as_it_is(order, subject, timed)
            except ChangingError as error:
                if not left:
                    hint = "end what writes there; what .gitignore names in a git work tree is no source"
                    raise ProjectSourceError(error.message, hint=hint) from error
                log.info(f"{error.message}; once more, as it is now")
        raise AssertionError("each try returns, or is the last one")


def _built_as_it_is(order: Order, subject: Subject, timed: Timed) -> Outcome:
    """Raises ChangingError, before anything is lost, if files of the project change while they are copied."""
    build = _prepared(order, subject)
    there = _sound(build) if order.request.here.start is None else None
    if there:
        log.info(f"{subject.title}: up to date")
    entry, cache = there, None
    if entry is None:
        _tell_left(build.subject)
        with timed.part("roots"):
            ground = lay(subject)
        # Once more: what the mirror no longer has was resolved anew when the roots were made.
        build = _prepared(order, build.subject)
        making = _Making(build, ground, timed)
        entry, cache = making.make(), making.cache
    manifest = read_json(entry / f"{subject.file_name}.manifest.json")
    status: Literal["up-to-date", "built"] = "up-to-date" if there else "built"
    return Outcome(status, build.key, manifest, tuple(timed.seconds), anew=tuple(timed.begun_anew), cache=cache)


def _tell_left(subject: Subject) -> None:
    for found in filter(None, subject.local or ()):
        if found.left:
            more = f" and {len(found.left) - 3} more" if len(found.left) > 3 else ""
            names = ", ".join(map(shown, found.left[:3]))
            log.info(f"{shown(str(found.origin))}: left out, for builds on this machine made it: {names}{more}")


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
    entry = obtain(store, "artifacts", build.value, f"the artifact of {title}")
    fault = damage(entry) if entry else None
    if fault is None:
        return entry
    log.warn(f"{title}: the artifact in the store is not as it was made ({fault}), and is built anew")
    store.remove("artifacts", build.key)
    return None


class _Making:
    """One build that is not in the store, from the first step that is left to the packed artifact.

    cache: what the compiler cache did, once it is made.
    """

    def __init__(self, build: Prepared, ground: Ground, timed: Timed) -> None:
        self._build = build
        self._subject = build.subject
        self._timed = timed
        self._work = Work(build.subject, ground, timed, base=build.base)
        self.cache: Answers | None = None

    def make(self) -> Path:
        """Run what is left, check, and pack; give the artifact's entry. The work place goes unless it is to stay."""
        subject, wanted = self._subject, self._build.steps
        place, here = subject.place, subject.request.here
        first, reason = self._first()
        begin = wanted[first].name if first < len(wanted) else "the check of outputs"
        change = self._work.kept_change() if first == 0 else None
        reason = f"in the tree that was kept, {change}" if change else reason
        log.info(f"{subject.title}: from {begin}, {reason}")
        for refused in self._work.ground.pairs.refused:
            if refused.kind is Refusal.LATE:
                log.info(f"{refused.path} runs emulated: {refused.reason}")
        if subject.mode.canaries:
            self._run_canaries()
        progress = self._work.run_through(wanted, first, len(wanted))
        self.cache = compilercache.answers(place)
        if self.cache is not None:
            log.info(str(self.cache))
        env = subject.variables(progress.epoch)
        taken = outputs.take_over(place, keep_owners=subject.recipe.build.keep_owners)
        stripped = self._stripped(env, progress)
        with self._timed.part("check outputs"), log.step("check outputs"):
            checked = self._verified(env, stripped.debug)
        entry = self._pack(progress, checked, taken, stripped)
        if not here.keep and self._build.base is None:
            subject.store.discard(place.path)
        return entry

    def _first(self) -> tuple[int, str]:
        """The first step to run, and why it is that one."""
        steps, place = self._build.steps, self._subject.place
        first, reason = first_step(steps, phases.Progress(place).done(), self._subject.request.here.start)
        install = next((number for number, step in enumerate(steps) if step.name == phases.INSTALL), 0)
        if first > install and is_other(place, self._subject.recipe.artifact.strip):
            return install, "it is to be stripped otherwise"
        return first, reason

    def _stripped(self, env: Mapping[str, str], progress: phases.Progress) -> Stripped:
        subject = self._subject
        if not subject.recipe.artifact.strip:
            return Stripped()
        with self._timed.part("strip"), log.step("strip"):
            return strip(subject.recipe, subject.toolchain, subject.place, self._work.root(), env, progress)

    def _verified(self, env: Mapping[str, str], debug: Path | None) -> Checked:
        subject = self._subject
        words = (subject.recipe, subject.toolchain, subject.place)
        # It changes nothing.
        return self._work.with_fewer(lambda: outputs.verify(*words, self._work.root(), env, debug))

    def _run_canaries(self) -> None:
        subject, pairs = self._subject, self._work.ground.pairs
        with self._timed.part("canaries"):
            work = subject.place.path.parent
            canary.run(subject.store, subject.roots, pairs.table, work)
            if any(verdict.offered for verdict in pairs.equivalents.values()):
                require_same(subject.store, subject.roots, pairs.table, work, self._work.ground.site.layers)

    def _pack(
        self, progress: phases.Progress, checked: Checked, taken: outputs.Taken, stripped: Stripped
    ) -> Path:
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
                    stripped=stripped if stripped.strip else None,
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
        if self._build.staged:
            facts["recipes"] = [
                {"name": one.name, "version": one.version, "sha256": one.sha256, "replaces": self._replaced(one.name)}
                for one in self._build.staged
            ]
        if any(subject.local or ()):
            facts["sources"] = _sources(subject)
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

    def _replaced(self, name: str) -> dict[str, int]:
        """Of how many files of each package of the distribution those of a recipe took the place."""
        return {package: len(paths) for package, paths in self._work.ground.replaced.get(name, {}).items()}


def _sources(subject: Subject) -> list[dict[str, Any]]:
    """The sources as the recipe has them, with what git says of those that are of this machine."""
    told = []
    for source, found in zip(subject.recipe.sources, subject.local or (), strict=True):
        state = state_in_git(found.origin) if found else None
        described = source.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        tree = {"tree": True} if found and found.origin.is_dir() else {}
        told.append(described | tree | ({"in-git": state} if state else {}))
    return told


def _told(contents: Mapping[str, Any]) -> dict[str, Any]:
    """Packages by name, and what else is short enough to be read; of the rest the digest."""
    long = ("policy", "makers")
    return {name: key_of(value) if name in long else value for name, value in contents.items()}
