"""What ran in a build: natively or emulated, why, at what price, and what would make it faster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from xbuild.base.errors import UsageError
from xbuild.base.yamlfile import did_you_mean
from xbuild.build.ground import lay
from xbuild.build.phases import Progress
from xbuild.build.standing import kept, things
from xbuild.build.stepfiles import StepFiles, recorded
from xbuild.build.subject import Subject
from xbuild.formats.record import Choice, read
from xbuild.proof.trace.account import Phase, Sum, Use, account, merge, read_cpu, sum_up
from xbuild.proof.trace.advice import SLOWDOWN, Advice, advise, reasons
from xbuild.proof.trace.answer import Answer, answer
from xbuild.proof.trace.explain import Explanation, Surroundings, Why, explain

__all__ = ["Answer", "Trace", "explain_exec", "trace"]



@dataclass(frozen=True)
class RecordsOf:
    """Where a record was found. what: in words. states: of the steps of a work place by name; None: all done."""

    what: str
    records: Path
    states: Mapping[str, str] | None = None


class Trace:
    """What the record of one build tells. around: what its decisions were made from; None: no longer known."""

    def __init__(self, title: str, source: RecordsOf, phases: list[Phase], around: Surroundings | None) -> None:
        self.title = title
        self.source = source
        self.phases = phases
        self._around = around
        self.uses = [account(phase.record.counts, phase.cpu) for phase in phases]

    def explain(self, path: str, verdict: Choice) -> Explanation:
        """Why the program at the real path ran as it did, by the verdict that the record has."""
        if self._around is None:
            return Explanation(Why.NOT_KNOWN, "the roots of this build are no longer in the store")
        return explain(path, self._around, verdict)

    def package_of(self, path: str) -> str | None:
        """The package that owns the program."""
        return self._around.package_of(path) if self._around else None

    @cached_property
    def programs(self) -> list[tuple[Use, Use]]:
        """By program what it used natively and emulated, the one that cost most first."""
        uses = {(use.name, use.native): use for use in merge(use for uses in self.uses for use in uses)}
        names = {name for name, _ in uses}
        pairs = [
            (uses.get((name, True), Use(name, True)), uses.get((name, False), Use(name, False))) for name in names
        ]
        return sorted(pairs, key=_cost)

    @cached_property
    def sums(self) -> list[Sum]:
        """What each phase used."""
        return [sum_up(uses, [phase.cpu]) for uses, phase in zip(self.uses, self.phases, strict=True)]

    @cached_property
    def total(self) -> Sum:
        """What all of it used."""
        return sum_up([use for uses in self.uses for use in uses], [phase.cpu for phase in self.phases])

    @cached_property
    def advice(self) -> list[Advice]:
        """What to do about what ran emulated, and what cannot be helped."""
        return advise([emulated for _, emulated in self.programs], self.explain, self.package_of)

    def reasons(self, use: Use) -> dict[str, int]:
        """How often a program was emulated for which reason, the most frequent first."""
        return {why.value: count for why, count in reasons(use, self.explain).most_common()}

    def warnings(self) -> list[str]:
        """What is lacking in the record."""
        found = []
        if cut := [phase.name for phase in self.phases if not phase.record.whole]:
            found.append(f"the record of {', '.join(cut)} was cut short: what follows is as far as it goes")
        if silent := [phase.name for phase in self.phases if phase.cpu is None]:
            found.append(f"CPU seconds of {', '.join(silent)} are not known: it has not come to its end")
        if self._around is None:
            found.append("the roots of this build are no longer in the store, so there are neither reasons nor advice")
        return found

    def as_json(self) -> dict[str, Any]:
        """For --json. Seconds are CPU seconds, null where they are not known."""
        return {
            "of": self.title,
            "from": self.source.what,
            "records": str(self.source.records),
            "warnings": self.warnings(),
            "phases": [
                {"name": phase.name, "status": phase.status, "whole": phase.record.whole, **_sum_json(known),
                 "unrecorded": round(phase.cpu.unrecorded, 3) if phase.cpu else None}
                for phase, known in zip(self.phases, self.sums, strict=True)
            ],
            "totals": _sum_json(self.total),
            "programs": [self._program_json(native, emulated) for native, emulated in self.programs],
            "advice": [_advice_json(advice) for advice in self.advice],
            "slowdown": SLOWDOWN,
        }  # fmt: skip

    def _program_json(self, native: Use, emulated: Use) -> dict[str, Any]:
        return {
            "program": native.name,
            "package": self.package_of(native.name),
            "native": _use_json(native),
            "emulated": {**_use_json(emulated), "reasons": self.reasons(emulated)},
        }


def _cost(pair: tuple[Use, Use]) -> tuple[float, int, str]:
    return (-sum(use.seconds for use in pair), -sum(use.execs for use in pair), pair[0].name)


def _use_json(use: Use) -> dict[str, Any]:
    return {
        "execs": use.execs,
        "seconds": round(use.seconds, 3),
        "unseen": round(use.shared, 3),
        "error": round(use.error, 3),
    }


def _sum_json(known: Sum) -> dict[str, Any]:
    seconds = {"seconds": known.total, "native": known.native, "emulated": known.emulated, "error": known.error}
    shares = {"share_emulated": known.share(known.emulated), "share_unseen": known.share(known.hidden)}
    lost = known.total is None
    return {
        "execs": {"native": known.native_execs, "emulated": known.emulated_execs},
        **{name: None if lost or value is None else round(value, 3) for name, value in seconds.items()},
        **{name: None if value is None else round(value, 4) for name, value in shares.items()},
    }


def _advice_json(advice: Advice) -> dict[str, Any]:
    return {
        "why": advice.explanation.why.value,
        "reason": advice.explanation.reason,
        "remedy": advice.explanation.remedy,
        "possible": advice.possible,
        "packages": sorted(advice.packages),
        "programs": dict(advice.programs.most_common()),
        "emulated": round(advice.seconds, 3),
        "gain": round(advice.gain, 3) if advice.possible else None,
    }


def trace(subject: Subject, phase: str | None = None) -> Trace:
    """What the last build of `subject`'s recipe, target and mode tells. phase: only this one.

    Raises UsageError if there is no record, or none of the phase.
    """
    source = _source(subject)
    steps = _current([_step(files, source) for files in recorded(source.records)])
    known = [step.name for step in steps]
    if phase is not None and phase not in known:
        hint = f"there are records of: {', '.join(known)}"
        raise UsageError(f"no record of a phase {phase!r}{did_you_mean(phase, known)}", hint=hint)
    chosen = [step for step in steps if phase in (None, step.name)]
    around = surroundings(subject) if all(things(subject).values()) else None
    return Trace(subject.title, source, chosen, around)


def explain_exec(subject: Subject, path: str) -> Answer:
    """How the program `path` (or a name, looked for in PATH) would run in the recipe's environment, and why.

    Raises UsageError if the roots have not been made, or for a target that is this machine itself.
    """
    if subject.toolchain.native:
        raise UsageError(f"{subject.toolchain.name} is this machine itself: all programs run as they are")
    if missing := [name for name, there in things(subject).items() if not there]:
        hint = f"invoke build {subject.command_line()}"
        message = f"{missing[0]} is not made yet, so xbuild cannot tell how a program would run"
        raise UsageError(f"{subject.title}: {message}", hint=hint)
    around = surroundings(subject)
    return answer(path, around, subject.variables(0)["PATH"].split(":"))


def surroundings(subject: Subject) -> Surroundings:
    """What the decisions of `subject`'s builds are made from; the roots are made if they are not there."""
    policy = subject.roots.policy
    assert policy is not None
    ground = lay(subject)
    return Surroundings(
        mode=subject.mode,
        policy=policy,
        toolchain=subject.toolchain,
        tree=subject.roots.tree_of(ground.site.layers),
        below=ground.tree,
        pairs=ground.pairs,
        twins=ground.natives.twins if ground.natives else (),
        removed=frozenset(subject.recipe.twins.remove),
        without=subject.request.without,
    )


def _step(files: StepFiles, source: RecordsOf) -> Phase:
    status = "done" if source.states is None else source.states.get(files.step, "unfinished")
    return Phase(files.step, status, read(source.records / files.record), read_cpu(source.records / files.accounts))


def _current(steps: list[Phase]) -> list[Phase]:
    """`steps` without what an earlier run in the same work place has left of later ones."""
    ended = [step for step in steps if step.status != "unfinished"]
    failed = any(step.status == "failed" for step in ended)
    return ended + [step for step in steps if step not in ended and not failed][:1]


def _source(subject: Subject) -> RecordsOf:
    title = subject.title
    if subject.toolchain.native:
        text = f"{title}: there is no record, for nothing is emulated where the target is this machine itself"
        raise UsageError(text, hint="name another target: --target armhf")
    if subject.mode.unrecorded:
        text = f"{title}: there is no record, for {subject.mode.unrecorded}"
        raise UsageError(text, hint="name another mode: --mode emulated")
    place = subject.place.records
    if recorded(place):
        ended = [record for record in Progress(subject.place).records if record.status in ("done", "failed")]
        states = {record.name: record.status for record in ended}
        return RecordsOf("the work place of a build that failed, runs or was kept", place, states)
    if found := kept(subject, "records"):
        path, present = found
        return RecordsOf("the artifact" if present else "an older artifact, whose inputs have changed since", path)
    hint = f"invoke build {subject.command_line()}"
    raise UsageError(f"no build of {title} has left a record", hint=hint)
