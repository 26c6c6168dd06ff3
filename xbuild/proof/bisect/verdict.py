"""What a bisection found, as data and in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from xbuild.base import log
from xbuild.base.errors import called
from xbuild.model.recipe import Recipe
from xbuild.proof.bisect.trees import printable
from xbuild.proof.compare import text
from xbuild.proof.compare.verdict import Found

_SHOWN = 10
"""How many files are named on the terminal."""


@dataclass(frozen=True)
class Culprit:
    """A program whose twin is at fault. path: real path in the target root. group: None if it switches alone."""

    path: str
    tool: str
    group: str | None
    package: str
    version: str
    architecture: str

    @property
    def name(self) -> str:
        """What a recipe's `twins: {remove: [...]}` calls it."""
        return PurePosixPath(self.path).name


@dataclass(frozen=True)
class Finding:
    """A fault that comes back whenever the twins `culprits` run, and never when none does.

    phase: the guilty one. start: the step from which it was repeated: the same, or an earlier one, where what an
    earlier phase did has a part in it. files: what is wrong, by path; empty if the phase failed: then `message` and
    `lines`, the last ones of its log. suspects: how many twins were in use. others: whether the fault is also there
    when all twins but the culprits run. kept: trees that stay, by name. inside: of .deb files, what differs in them.
    """

    phase: str
    start: str
    culprits: tuple[Culprit, ...]
    suspects: int
    files: dict[str, str]
    message: str
    lines: tuple[str, ...]
    others: bool
    kept: dict[str, Path]
    inside: dict[str, Found] = field(default_factory=dict)


@dataclass
class Bisected:
    """What a bisection gave.

    command_line: recipe and target as on the command line. finding: None if the substituted build does what the
    emulated one does. noise: paths below /build that differ between two runs of the same. tries: of steps with some of
    the twins. seconds: the whole of it.
    """

    title: str
    command_line: str
    recipe: Recipe
    target: str
    finding: Finding | None = None
    noise: list[str] = field(default_factory=list)
    tries: int = 0
    seconds: float = 0.0

    @property
    def remove(self) -> list[str]:
        """What the recipe's `twins: {remove: [...]}` must hold to be built without the culprits."""
        names = {culprit.name for culprit in self.finding.culprits} if self.finding else set()
        return [*self.recipe.twins.remove, *sorted(names - set(self.recipe.twins.remove))]

    def as_json(self) -> dict[str, Any]:
        """For --json."""
        found = self.finding
        value: dict[str, Any] = {
            "recipe": self.recipe.name,
            "version": self.recipe.version,
            "target": self.target,
            "status": "found" if found else "same",
            "culprits": [],
            "noise": [printable(path) for path in self.noise],
            "tries": self.tries,
            "seconds": round(self.seconds, 3),
        }
        if found is None:
            return value
        return value | {
            "phase": found.phase,
            "start": found.start,
            "what": "differs" if found.files else "fails",
            "culprits": [{**vars(culprit), "name": culprit.name} for culprit in found.culprits],
            "suspects": found.suspects,
            "files": [
                {"path": printable(path), "difference": printable(what)}
                | ({"inside": found.inside[path].as_json()} if path in found.inside else {})
                for path, what in found.files.items()
            ],
            "message": found.message,
            "log": list(found.lines),
            "others": found.others,
            "workaround": {"twins": {"remove": self.remove}},
            "kept": {name: str(path) for name, path in found.kept.items()},
        }

    def lines(self) -> list[str]:
        """For people."""
        found = self.finding
        time = log.human_time(self.seconds)
        if found is None:
            what = "no difference between the substituted and the emulated build, so no twin is to blame"
            return [f"{self.title}: {what} ({time})", *self._about_noise()]
        what = "differs from the emulated build" if found.files else "fails"
        among = f"of the {found.suspects} twins in use, this one is to blame:"
        if len(found.culprits) > 1:
            among = f"of the {found.suspects} twins in use, these {len(found.culprits)} together are to blame:"
        start = "" if found.start == found.phase else f", repeated from {found.start!r}, since that has a part in it"
        return [
            f"{self.title}: phase {found.phase!r} {what}; {among}",
            *(f"  {culprit.path}  ({_of(culprit)})" for culprit in found.culprits),
            f"({self.tries} tries{start}, {time})",
            *_about_fault(found),
            *self._about_others(found),
            *self._about_noise(),
            *self._way_out(found),
        ]

    def _about_others(self, found: Finding) -> list[str]:
        if not found.others:
            return []
        those = _those(found)
        return [f"Without {those} the phase goes wrong too: there are other culprits. Bisect again without {those}."]

    def _about_noise(self) -> list[str]:
        if not self.noise:
            return []
        known = _some([printable(path) for path in self.noise])
        return ["Left out of the comparison, since two runs of the same differ there (not reproducible):", *known]

    def _way_out(self, found: Finding) -> list[str]:
        without = ",".join(culprit.path for culprit in found.culprits)
        groups = sorted({culprit.group for culprit in found.culprits if culprit.group})
        note = f"    # takes all of the {' and the '.join(groups)} away" if groups else ""
        recipe = f"twins: {{remove: [{', '.join(self.remove)}]}}{note}"
        if clash := sorted({culprit.tool for culprit in found.culprits} & set(self.recipe.twins.add)):
            recipe = f"take {', '.join(clash)} out of twins.add"
        return [
            f"To build without {_those(found)}:",
            called(f"  once:           invoke build {self.command_line} --without {without}"),
            f"  in the recipe:  {recipe}",
        ]


def _those(found: Finding) -> str:
    return "it" if len(found.culprits) == 1 else "them"


def _of(culprit: Culprit) -> str:
    return f"{culprit.package} {culprit.version}, {culprit.architecture}"


def _about_fault(found: Finding) -> list[str]:
    kept = [f"  {name} tree: {path / 'build'}" for name, path in found.kept.items()]
    if not found.files:
        return [found.message, *(f"  {line}" for line in found.lines), *kept]
    shown = [f"{printable(path)}: {printable(what)}" for path, what in found.files.items()]
    count = "1 file of the build's tree is" if len(shown) == 1 else f"{len(shown)} files of the build's tree are"
    inside = [
        f"  {line}" for path, known in found.inside.items() for line in text.inside(known.members, printable(path))
    ]
    return [f"{count} wrong:", *_some(shown), *inside, *kept]


def _some(lines: Sequence[str]) -> list[str]:
    more = [f"  ... and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return [*(f"  {line}" for line in lines[:_SHOWN]), *more]
