"""Runs the steps of a build in its work place, and tells how it goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TypeVar

from xbuild.base import log
from xbuild.base.digest import key_of
from xbuild.base.errors import LateError, PhaseError, called
from xbuild.build import compilercache, elsewhere, phases
from xbuild.build.environment import Root
from xbuild.build.executor import Event, Tell, unheard
from xbuild.build.ground import Ground, furnish
from xbuild.build.jobs import granted
from xbuild.build.kept import Change, Kept, begins_anew
from xbuild.build.late import require_nothing_late
from xbuild.build.plan import Step
from xbuild.build.standing import took
from xbuild.build.stepfiles import StepFiles, recorded
from xbuild.build.subject import Subject
from xbuild.build.taught import remember
from xbuild.model.load import load_presets
from xbuild.model.phases import CONFIGURE, STEPS, UNPACK
from xbuild.model.preset import Incremental
from xbuild.roots import imported as imported_roots
from xbuild.roots import mirror
from xbuild.sources import FetchContext, fetch, lay_out
from xbuild.twins.pairing import Refusal

T = TypeVar("T")

_BEFORE = STEPS[: STEPS.index(CONFIGURE) + 1]
"""The steps that a tree that stays need not have done again."""


class Timed:
    """Tells of the parts of a build as they begin and end. seconds: of each that took any, in order.

    begun_anew: as `Outcome.anew`.
    """

    def __init__(self, tell: Tell = unheard) -> None:
        self._tell = tell
        self.seconds: list[tuple[str, float]] = []
        self.begun_anew: list[tuple[str, tuple[str, ...]]] = []

    def anew(self, error: LateError) -> None:
        """The build begins again from unpack, for this reason."""
        programs = tuple(sorted(error.programs))
        self._tell(Event("anew", error.phase, text=error.message, programs=programs))
        self.begun_anew.append((error.phase, programs))

    @contextmanager
    def part(self, name: str, log_name: str | None = None) -> Iterator[None]:
        """The block is the part `name` of the build."""
        self._tell(Event("began", name, log=log_name))
        started, ended = time.monotonic(), False
        try:
            yield
            ended = True
        finally:
            seconds = time.monotonic() - started
            self._tell(Event("ended" if ended else "failed", name, round(seconds, 3), log_name))
        self.seconds.append((name, seconds))


@contextmanager
def in_use(subject: Subject) -> Iterator[None]:
    """Nobody removes what the build uses."""
    shared = subject.store.in_use()
    with shared, imported_roots.used(subject.store, subject.imported):
        yield


def fetched(subject: Subject) -> list[Path]:
    """The recipe's sources, fetched if they are not there; what is of the project as it is now, if nobody has looked.

    Raises ChangingError if that is not as it was when somebody did.
    """
    subject = subject.settled()

    def mirrors() -> tuple[str, ...]:
        base = subject.store.get("roots", key_of(subject.roots.base_value()))
        snapshot = subject.roots.resolver.archive.snapshot
        addresses = [snapshot, subject.roots.mirror(), *(mirror.of_root(base / "root") if base else [])]
        return tuple(dict.fromkeys(address for address in addresses if address))

    context = FetchContext(subject.store, cache(mirrors), subject.base)
    return [fetch(source, context) for source in subject.recipe.sources]


class Work:
    """A build on its ground. on_step: told the number and the step after each that is done; nothing runs then.

    base: as in `Prepared`; None: step 0 always makes the work place anew.
    """

    def __init__(
        self,
        subject: Subject,
        ground: Ground,
        timed: Timed | None = None,
        on_step: Callable[[int, Step], None] | None = None,
        base: str | None = None,
    ) -> None:
        self.subject = subject
        self._kept = Kept(subject.place, base) if base and not subject.mode.whole else None
        self._change: Change | None = None
        self.ground = ground
        self.timed = timed or Timed()
        self._on_step = on_step
        self._expected = took(subject)

    def root(self) -> Root:
        """What is `/` in the work place, which is there."""
        return furnish(self.subject, self.ground, self.subject.place)

    def run_steps(self, wanted: Sequence[Step], first: int, stop: int) -> phases.Progress:
        """Run the steps from number `first` to before number `stop`, in the work place that is there; 0 makes it anew.

        Whether what came before is done is the caller's matter. Raises PhaseError; SourceError for unpacking.
        """
        subject = self.subject
        archives: list[Path] = []
        self._change = self.kept_change() if first == 0 else None
        if first == 0 and self._change is None:
            with self.timed.part("sources"):
                archives = fetched(subject)
            subject.store.discard(subject.place.path)
        subject.place.make()
        for front in (compilercache, elsewhere):
            front.begin(subject.place)
        progress = phases.Progress(subject.place)
        progress.start_at(first)
        tell_refused(subject, self.ground)
        for number in range(first, stop):
            self._step(number, wanted[number], progress, archives)
            if self._on_step is not None:
                self._on_step(number, wanted[number])
        return progress

    def kept_change(self) -> Change | None:
        """What changed in the project since the tree that stays was brought up to date.

        None: there is no such tree, or it is of no use.
        """
        kept, local = self._kept, (self.subject.settled().local or (None,))[0]
        if kept is None or local is None or not kept.there or self.subject.request.here.start == UNPACK:
            return None
        if phases.Progress(self.subject.place).cut:
            # What was half written might count as finished.
            kept.forget()
            return None
        change = kept.change(local)
        return None if begins_anew(self._incremental, change) else change

    @property
    def _incremental(self) -> Incremental:
        return load_presets()[self.subject.recipe.build.preset].incremental

    def run_through(self, wanted: Sequence[Step], first: int, stop: int) -> phases.Progress:
        """As `run_steps`; all of it anew, with fewer twins each time, where some could neither go on nor begin again.

        Raises LateError if the steps before `first` were not done here, but are the user's to keep (--from).
        """

        def run() -> phases.Progress:
            # xbuild may have been killed before it looked.
            progress = phases.Progress(self.subject.place)
            for files in recorded(self.subject.place.records) if first or progress.cut_in(wanted) else ():
                self._require_nothing_late(files.step, files, progress)
            return self.run_steps(wanted, first, stop)

        def again(error: LateError) -> None:
            nonlocal first
            self._begin_anew(error, ours=not first or self.subject.request.here.start is None)
            first = 0

        return self.with_fewer(run, again)

    def with_fewer(self, attempt: Callable[[], T], again: Callable[[LateError], None] = lambda _: None) -> T:
        """What `attempt` gives, which is made once more, without them, each time that twins could not go on.

        again: is told before. Raises as `do_without`.
        """
        while True:
            try:
                return attempt()
            except LateError as error:
                late = error
            self.do_without(late)
            again(late)

    def _begin_anew(self, error: LateError, *, ours: bool) -> None:
        remember(self.subject, self.ground.tree, error)
        if not ours:
            hint = f"invoke build {self.subject.command_line()}    (from the beginning, with that emulated)"
            raise LateError(error.message, details=error.details, hint=hint)
        log.warn(f"{error.message}; the build begins again, with that emulated")
        self.timed.anew(error)

    def do_without(self, error: LateError) -> None:
        """Take the twins away that could not go on. Raises `error` if they were not there: then something else lies."""
        fewer = self.ground.pairs.without(error.programs)
        if fewer == self.ground.pairs:
            raise error
        self.ground = replace(self.ground, pairs=fewer)

    def _step(self, number: int, step: Step, progress: phases.Progress, archives: Sequence[Path]) -> None:
        if step.phase is None:
            self._unpack(step, progress, archives)
            return
        if self._kept is not None and self._change is not None and step.name in self._kept.ready:
            progress.add(step, "done", 0.0)
            return
        subject, files, started = self.subject, StepFiles(number, step.name), time.monotonic()
        env, root = subject.variables(progress.epoch), self.root()
        kept = self._kept if step.name in _BEFORE else None
        if kept is not None:
            kept.begun(step)
        # A machine that is killed has changed nothing.
        changing = not subject.mode.whole or step.phase.network

        def stopped() -> None:
            progress.add(step, "stopped", time.monotonic() - started)

        try:
            with self.timed.part(step.name, files.log), granted(subject, step, self.ground.tree, env) as may:
                subject.place.set_variables(may.text)
                root, all_env = replace(root, jobs=may.pipe), {**env, **may.env}
                if changing:
                    progress.begin(step)
                seconds = phases.run_phase(
                    subject.recipe, step, files, subject.place, root, all_env, subject.title,
                    expected=self._expected.get(step.name), on_stopped=stopped,
                )  # fmt: skip
        except PhaseError as error:
            error.cut = error.cut and changing
            if not error.cut:
                progress.add(step, "failed", time.monotonic() - started)
            self._require_nothing_late(step.name, files, progress)
            raise error.with_details(*self._ways_out(error.next_time, as_root=step.phase.root)) from None
        # A script may have taken it for the answer to a question: its exit code says nothing.
        self._require_nothing_late(step.name, files, progress)
        progress.add(step, "done", seconds)
        if kept is not None:
            kept.done(step)

    def _require_nothing_late(self, step: str, files: StepFiles, progress: phases.Progress) -> None:
        try:
            title = f"{self.subject.title}: in phase {step!r}"
            require_nothing_late(self.subject.place.record(files), title, step)
        except LateError:
            # Nobody is to go on from what there is now.
            progress.start_at(0)
            if self._kept is not None:
                self._kept.forget()
            raise

    def _unpack(self, step: Step, progress: phases.Progress, archives: Sequence[Path]) -> None:
        subject, started = self.subject, time.monotonic()
        local = (subject.settled().local or (None,))[0]
        if self._kept is not None and local is not None and self._change is not None:
            with self.timed.part("update"), log.step(f"update: {self._change}"):
                self._kept.bring(local, self._change, self._incremental, self.root(), subject.variables(0))
            progress.add(step, "done", time.monotonic() - started)
            return

        def fill(place: Path) -> None:
            for source, archive in zip(subject.recipe.sources, archives, strict=True):
                lay_out(source, archive, place)

        patches = [subject.patches / name for name in subject.recipe.patches]
        with self.timed.part("unpack"), log.step("unpack"):
            progress.epoch = phases.unpack(subject.place, fill, patches, self.root(), subject.variables(0))
        progress.add(step, "done", time.monotonic() - started)
        if self._kept is not None and local is not None:
            self._kept.note(local.records, ())

    def _ways_out(self, next_time: str, *, as_root: bool) -> list[str]:
        words = self.subject.command_line()
        # A shell has nothing to strip.
        shell = replace(self.subject, request=replace(self.subject.request, strip=None)).command_line()
        shell = f"{shell} --as-root" if as_root else shell
        ways = [f"shell:  invoke shell {shell}", f"retry:  invoke build {words}    ({next_time})"]
        return [called(way) for way in ways]


def tell_refused(subject: Subject, ground: Ground) -> None:
    """Tell which tools run emulated though they need not, and what is doubtful."""
    pairs = ground.pairs
    for refused in pairs.refused:
        if refused.kind is not Refusal.SWITCHED_OFF:
            log.detail(f"no twin for {refused.path}: {refused.reason}")
    for risk in pairs.risks:
        log.warn(risk)
    if subject.lacking:
        log.warn(
            f"imported root {subject.root_name} has no apt, so nothing is installed into it; the build needs what "
            f"{' '.join(subject.lacking)} brings in Debian"
        )
    if subject.imported is not None:
        for refused in pairs.refused:
            # One program of the compilers tells it for all.
            if "gcc-" in refused.path and refused.kind in (Refusal.OFFERED, Refusal.LACKING):
                log.info(f"{refused.path} runs emulated: {refused.reason}")
        return
    odd = [refused for refused in pairs.refused if refused.kind.by_roots]
    if odd:
        remedy = called("(--verbose lists them; if one root is older, `invoke clean --roots` makes both anew)")
        log.warn(
            f"{len(odd)} tools run emulated because native and target root differ, e.g. {odd[0].path}: "
            f"{odd[0].reason} {remedy}"
        )
