"""What a comparison found: values, their JSON, and the sums over them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from xbuild.base.errors import CheckError, PhaseError, XbuildError
from xbuild.build.modes.distcc import Summary
from xbuild.proof.compare.files import Counts, Difference, Where
from xbuild.proof.compare.verdict import Verdict, families, printable

Status = Literal["built", "up-to-date", "failed"]

_NAMED = 10
"""How many files an error names."""


@dataclass(frozen=True)
class Cpu:
    """CPU seconds of a phase: in emulated programs, in native ones, and in all; what no look has seen is estimated."""

    emulated: float
    native: float
    total: float

    @property
    def share(self) -> float:
        """The emulated part of all, 0 to 1."""
        return self.emulated / self.total if self.total else 0.0


@dataclass(frozen=True)
class ModeRun:
    """One mode's build. up-to-date: its artifact was in the store; the times are those of the build that made it.

    phases: seconds by name, in order. resumed: it went on where an earlier build had ended. files: entries of the
    artifact. objects: ELF files and archives in the build tree. cpu: by phase, where the record tells.
    distcc: what was compiled where, in that mode. message, details, log: why it failed. kept: its build tree.
    """

    mode: str
    status: Status
    phases: tuple[tuple[str, float], ...] = ()
    resumed: bool = False
    artifact: Path | None = None
    bytes: int | None = None
    files: int | None = None
    objects: int | None = None
    cpu: Mapping[str, Cpu] | None = None
    distcc: Summary | None = None
    message: str | None = None
    details: tuple[str, ...] = ()
    log: str | None = None
    kept: Path | None = None

    @property
    def seconds(self) -> float:
        """Of all steps together, the unpacking too."""
        return sum(seconds for _, seconds in self.phases)

    def seconds_of(self, phase: str) -> float | None:
        """Of one phase; None if it did not run."""
        return dict(self.phases).get(phase)

    def as_json(self) -> dict[str, Any]:
        """For --json."""
        failure = {"message": self.message, "log": self.log} if self.status == "failed" else {}
        return {
            "mode": self.mode,
            "status": self.status,
            "seconds": round(self.seconds, 3),
            "phases": [{"name": name, "seconds": round(seconds, 3)} for name, seconds in self.phases],
            "resumed": self.resumed,
            "artifact": str(self.artifact) if self.artifact else None,
            "bytes": self.bytes,
            "files": self.files,
            "objects": self.objects,
            **({"distcc": asdict(self.distcc)} if self.distcc else {}),
            **failure,
        }


@dataclass(frozen=True)
class Pair:
    """Two modes, held against each other. objects: None if build trees were not compared.

    generated: other files of the build tree that differ, without a verdict: they point to causes.
    texts: of differing text files, the difference in lines, by path.
    """

    modes: tuple[str, str]
    artifact: Counts
    objects: Counts | None
    differences: tuple[Difference, ...]
    generated: tuple[str, ...] = ()
    texts: Mapping[str, Sequence[str]] | None = None

    @property
    def identical(self) -> bool:
        """Whether all that was compared is the same, byte for byte."""
        return not self.differences

    @property
    def same_code(self) -> bool:
        """Whether at least code and data are the same everywhere."""
        return all(difference.verdict is Verdict.SAME for difference in self.differences)

    def as_json(self) -> dict[str, Any]:
        """For --json."""
        return {
            "modes": list(self.modes),
            "identical": self.identical,
            "same_code": self.same_code,
            "artifact": self.artifact.as_json(),
            "objects": self.objects.as_json() if self.objects else None,
            "differences": [difference.as_json() for difference in self.differences],
            "generated": [printable(path) for path in self.generated],
        }


@dataclass(frozen=True)
class Again:
    """A second build in the same mode. differing: what is not the same as in the first one; None if it failed."""

    mode: str
    differing: frozenset[tuple[Where, str]] | None
    message: str | None = None

    def as_json(self) -> dict[str, Any]:
        """For --json."""
        return {"mode": self.mode, "status": "failed" if self.differing is None else "built", "message": self.message}


@dataclass(frozen=True)
class Comparison:
    """All that `compare` found.

    again: the second build in the same mode, if there was one. inspected: diffoscope's reports by pair of modes and
    path; None where it is not installed. environment: what versions of what took part, in rows. machine: what it ran
    on, in words. commands: how to repeat it. pairing: whether native tools have the versions of those that they
    stand in for (exact, equivalent, none). risks: what may differ where they have not.
    """

    recipe: str
    version: str
    target: str
    suite: str
    name: str
    modes: tuple[ModeRun, ...]
    pairs: tuple[Pair, ...]
    again: Again | None = None
    inspected: Mapping[tuple[tuple[str, str], str], str] | None = None
    environment: tuple[tuple[str, ...], ...] = ()
    machine: str = ""
    commands: tuple[str, ...] = ()
    pairing: str = "exact"
    risks: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """`zlib 1.3.1 for armhf`."""
        return f"{self.recipe} {self.version} for {self.target}"

    @property
    def failed(self) -> list[ModeRun]:
        """The modes whose build failed."""
        return [run for run in self.modes if run.status == "failed"]

    @property
    def identical(self) -> bool:
        """Whether every mode was built and every pair of modes is the same, byte for byte."""
        return not self.failed and all(pair.identical for pair in self.pairs)

    @property
    def not_reproducible(self) -> list[str]:
        """The files that differ between two builds in the same mode."""
        return sorted({printable(path) for _, path in (self.again and self.again.differing) or ()})

    @property
    def blamed(self) -> list[tuple[Pair, Difference]]:
        """The differences that only another mode explains, each with its pair."""
        return [(pair, found) for pair in self.pairs for found in pair.differences if not found.own]

    def as_json(self, html: Path | None) -> dict[str, Any]:
        """For --json. html: the report."""
        return {
            "recipe": self.recipe,
            "version": self.version,
            "target": self.target,
            "suite": self.suite,
            "modes": [run.as_json() for run in self.modes],
            "identical": self.identical,
            "pairing": self.pairing,
            "risks": list(self.risks),
            "pairs": [pair.as_json() for pair in self.pairs],
            "again": self.again.as_json() if self.again else None,
            "not_reproducible": self.not_reproducible,
            "html": str(html) if html else None,
        }

    def fault(self) -> XbuildError | None:
        """What is wrong, as an error with its exit code; None if every mode gave the same."""
        lines = [f"{run.mode}: {run.message}" for run in self.failed]
        if len(self.failed) == len(self.modes):
            logs = [f"log:    {run.log}" for run in self.failed if run.log]
            return PhaseError(f"{self.title}: the build failed in every mode", details=[*lines, *logs])
        unequal = [pair for pair in self.pairs if not pair.identical]
        if self.identical:
            return None
        parts = [f"{len(self.failed)} of {len(self.modes)} modes failed"] if self.failed else []
        if unequal:
            paths = {(found.where, found.path) for pair in unequal for found in pair.differences}
            modes = dict.fromkeys(mode for pair in unequal for mode in pair.modes)
            number = "1 file differs" if len(paths) == 1 else f"{len(paths)} files differ"
            parts.append(f"{number} between {' and '.join(modes)}")
            lines += [f"{found.path}: {found.words}{_aside(found)}" for found in _named(unequal)]
        return CheckError(f"{self.title}: {'; '.join(parts)}", details=lines, hint="the report shows all")


def _named(pairs: Sequence[Pair]) -> list[Difference]:
    # What the mode explains, then the worst, comes first.
    found = {(item.where, item.path): item for pair in pairs for item in pair.differences}
    return sorted(found.values(), key=lambda item: (item.own, -item.verdict.rank, item.where, item.path))[:_NAMED]


def _aside(found: Difference) -> str:
    own = " (not reproducible by itself)" if found.own else ""
    return f" ({', '.join(families(found.sections)[:4])}){own}" if found.sections else own


def with_own(pair: Pair, differing: frozenset[tuple[Where, str]]) -> Pair:
    """`pair` with the differences marked that two builds in one mode show too."""
    marked = (replace(found, own=(found.where, found.path) in differing) for found in pair.differences)
    return replace(pair, differences=tuple(marked))


def groups(differences: Sequence[Difference]) -> list[tuple[Difference, list[Difference]]]:
    """`differences` that say the same, together, each group with its first; own ones last, worst and largest first."""
    found: dict[Any, list[Difference]] = {}
    for item in differences:
        found.setdefault((item.own, item.where, item.words, families(item.sections)), []).append(item)
    ordered = sorted(found.values(), key=lambda group: (group[0].own, -group[0].verdict.rank, -len(group)))
    return [(group[0], group) for group in ordered]
