"""Runs the steps of a build in its work place, and tells how it goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from xbuild.base import log
from xbuild.base.digest import key_of
from xbuild.base.errors import PhaseError, called
from xbuild.build import phases
from xbuild.build.environment import Root
from xbuild.build.executor import Event, Tell, unheard
from xbuild.build.ground import Ground, furnish
from xbuild.build.plan import Step
from xbuild.build.stepfiles import StepFiles
from xbuild.build.subject import Subject
from xbuild.formats import record
from xbuild.roots import imported as imported_roots
from xbuild.roots import mirror
from xbuild.sources import FetchContext, fetch, lay_out
from xbuild.twins.pairing import Refusal


class Timed:
    """Tells of the parts of a build as they begin and end. seconds: of each that took any, in order."""

    def __init__(self, tell: Tell = unheard) -> None:
        self._tell = tell
        self.seconds: list[tuple[str, float]] = []

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
    """The recipe's sources, fetched if they are not there."""

    def mirrors() -> tuple[str, ...]:
        base = subject.store.get("roots", key_of(subject.roots.base_value()))
        addresses = [subject.roots.mirror(), *(mirror.of_root(base / "root") if base else [])]
        return tuple(dict.fromkeys(address for address in addresses if address))

    context = FetchContext(subject.store, cache(mirrors), subject.project)
    return [fetch(source, context) for source in subject.recipe.sources]


class LateError(PhaseError):
    """Twins that could not go on, nor begin again. programs: the target's own, by their real paths."""

    programs: frozenset[str] = frozenset()


class Work:
    """A build on its ground. on_step: told the number and the step after each that is done; nothing runs then."""

    def __init__(
        self,
        subject: Subject,
        ground: Ground,
        timed: Timed | None = None,
        on_step: Callable[[int, Step], None] | None = None,
    ) -> None:
        self.subject = subject
        self.ground = ground
        self.timed = timed or Timed()
        self._on_step = on_step

    def root(self) -> Root:
        """What is `/` in the work place, which is there."""
        return furnish(self.subject, self.ground, self.subject.place)

    def run_steps(self, wanted: Sequence[Step], first: int, stop: int) -> phases.Progress:
        """Run the steps from number `first` to before number `stop`, in the work place that is there; 0 makes it anew.

        Whether what came before is done is the caller's matter. Raises PhaseError; SourceError for unpacking.
        """
        subject = self.subject
        archives: list[Path] = []
        if first == 0:
            with self.timed.part("sources"):
                archives = fetched(subject)
            subject.store.discard(subject.place.path)
        subject.place.make()
        subject.place.set_variables(subject.assignments)
        progress = phases.Progress(subject.place)
        progress.start_at(first)
        tell_refused(subject, self.ground)
        for number in range(first, stop):
            self._step(number, wanted[number], progress, archives)
            if self._on_step is not None:
                self._on_step(number, wanted[number])
        return progress

    def _step(self, number: int, step: Step, progress: phases.Progress, archives: Sequence[Path]) -> None:
        if step.phase is None:
            self._unpack(step, progress, archives)
            return
        subject, files, started = self.subject, StepFiles(number, step.name), time.monotonic()
        env, root = subject.variables(progress.epoch), self.root()
        try:
            with self.timed.part(step.name, files.log):
                seconds = phases.run_phase(subject.recipe, step, files, subject.place, root, env, subject.title)
        except PhaseError as error:
            progress.add(step, "failed", time.monotonic() - started)
            self._require_nothing_late(step, files)
            raise error.with_details(*self._ways_out()) from None
        # A script may have taken it for the answer to a question: its exit code says nothing.
        self._require_nothing_late(step, files)
        progress.add(step, "done", seconds)

    def _require_nothing_late(self, step: Step, files: StepFiles) -> None:
        told = record.read(self.subject.place.record(files)).counts
        late = sorted({path for path, verdict in told if verdict is record.Choice.TOO_LATE})
        if late:
            error = LateError(
                f"{self.subject.title}: in phase {step.name!r}, {', '.join(late)} asked for a library that is only "
                "there for the target, and had done something already"
            )
            error.programs = frozenset(late)
            raise error

    def _unpack(self, step: Step, progress: phases.Progress, archives: Sequence[Path]) -> None:
        subject, started = self.subject, time.monotonic()

        def fill(place: Path) -> None:
            for source, archive in zip(subject.recipe.sources, archives, strict=True):
                lay_out(source, archive, place)

        patches = [subject.patches / name for name in subject.recipe.patches]
        with self.timed.part("unpack"), log.step("unpack"):
            progress.epoch = phases.unpack(subject.place, fill, patches, self.root(), subject.variables(0))
        progress.add(step, "done", time.monotonic() - started)

    def _ways_out(self) -> list[str]:
        words = self.subject.command_line()
        ways = [f"shell:  invoke shell {words}", f"retry:  invoke build {words}    (resumes at this phase)"]
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
            f"imported root {subject.root_name} has no apt, so nothing is installed into it; the build wants "
            f"{' '.join(subject.lacking)} of Debian, by whatever name the root has them"
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
