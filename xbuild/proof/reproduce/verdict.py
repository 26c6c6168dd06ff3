"""What is said of packages that were held against the archive's own: values, and the sums over them. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pydantic import TypeAdapter

from xbuild.base.errors import CheckError, PhaseError, XbuildError
from xbuild.proof.compare.verdict import Found


class Word(StrEnum):
    """The verdict on one .deb, the best first.

    CAUSE: it differs, and each difference has a cause that is shown, which is none of ours. NOT_OURS: no cause is
    known, but the emulated build gives the same bytes. NOT_HELD: there is nothing to hold it against. UNEXPLAINED:
    neither cause nor emulated build. OURS: the emulated build gives other bytes.
    """

    IDENTICAL = "identical"
    CAUSE = "cause proved"
    NOT_OURS = "not ours"
    NOT_HELD = "not held"
    UNEXPLAINED = "unexplained"
    OURS = "ours"

    @property
    def rank(self) -> int:
        """How bad it is; 0 is best."""
        return list(Word).index(self)

    @property
    def good(self) -> bool:
        """Whether it says nothing against this build."""
        return self not in (Word.UNEXPLAINED, Word.OURS)


@dataclass(frozen=True)
class Cause:
    """Why members of a .deb differ. kind: a word for tables. text: a sentence. evidence: lines that show it.

    members: what it explains. proved: whether the evidence is in the files, or in what is known of the build.
    """

    kind: str
    text: str
    evidence: tuple[str, ...]
    members: tuple[str, ...]


@dataclass(frozen=True)
class Explained:
    """Causes for a difference, and the members that have none."""

    causes: tuple[Cause, ...] = ()
    left: tuple[str, ...] = ()


@dataclass(frozen=True)
class Held:
    """One .deb, held against another of its name. sha256: of ours; theirs: of the other, "" if there is none.

    found: where they differ; explained: why. note: why it could not be held. emulated: whether the emulated build gave
    the same bytes; None if it was not built.
    """

    name: str
    sha256: str
    theirs: str = ""
    found: Found | None = None
    explained: Explained = field(default_factory=Explained)
    note: str = ""
    emulated: bool | None = None

    @property
    def word(self) -> Word:
        """The verdict."""
        if self.emulated is False:
            return Word.OURS
        if not self.theirs:
            return Word.NOT_HELD
        if self.sha256 == self.theirs:
            return Word.IDENTICAL
        if self.explained.causes and not self.explained.left:
            return Word.CAUSE
        return Word.NOT_OURS if self.emulated else Word.UNEXPLAINED

    @property
    def kinds(self) -> str:
        """The causes in a word each: `linker, debhelper`."""
        return ", ".join(dict.fromkeys(cause.kind for cause in self.explained.causes))


@dataclass(frozen=True)
class Row:
    """A source package, built for one target. seconds: of all phases, by mode; `native` is the build for `control`.

    recipe: the file that hints name. failed: why it was not built; details: the last lines. control: the verdict of the
    native build's packages against the archive's own ones for that architecture, by name. references: what the packages
    were held against, in words.
    """

    source: str
    version: str
    target: str
    mode: str
    recipe: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    debs: tuple[Held, ...] = ()
    control: tuple[Held, ...] = ()
    failed: str = ""
    details: tuple[str, ...] = ()
    exit_code: int = 0
    references: str = ""
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """`less 668-1 for armhf`."""
        return f"{self.source} {self.version} for {self.target}"

    @property
    def word(self) -> Word | None:
        """The worst of its packages; None if it was not built."""
        words = [held.word for held in self.debs]
        held = [word for word in words if word is not Word.NOT_HELD] or words
        return None if self.failed or not held else max(held, key=lambda word: word.rank)

    @property
    def good(self) -> bool:
        """Whether all of it was built, and nothing speaks against it."""
        return not self.failed and all(held.word.good for held in self.debs)

    @property
    def ratio(self) -> float | None:
        """How much longer it took than the native build."""
        return _ratio(self.seconds.get(self.mode), self.seconds.get("native"))

    @property
    def slower(self) -> float | None:
        """How much longer the emulated build took than this one."""
        return _ratio(self.seconds.get("emulated"), self.seconds.get(self.mode))

    def as_json(self) -> dict[str, Any]:
        """For --json, and to be kept."""
        value: dict[str, Any] = _ROW.dump_python(self, mode="json")
        verdict = str(self.word) if self.word else None
        words = {held.name: str(held.word) for held in self.debs}
        return value | {"verdict": verdict, "verdicts": words, "ratio": self.ratio}

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> Row:
        """From what `as_json` gave. Raises ValueError."""
        names = set(cls.__dataclass_fields__)
        return _ROW.validate_python({name: part for name, part in value.items() if name in names})


_ROW: TypeAdapter[Row] = TypeAdapter(Row)


def _ratio(one: float | None, other: float | None) -> float | None:
    return one / other if one and other else None


def mean_ratio(rows: Iterable[Row]) -> float | None:
    """The geometric mean of the ratios that are known."""
    ratios = [row.ratio for row in rows if row.ratio]
    return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else None


def counts(rows: Sequence[Row]) -> dict[Word, int]:
    """How many .deb files have which verdict."""
    words = [held.word for row in rows for held in row.debs]
    return {word: words.count(word) for word in Word if word in words}


def fault(rows: Sequence[Row]) -> XbuildError | None:
    """What is wrong, as an error with its exit code; None if nothing is."""
    bad = [(row, held) for row in rows for held in row.debs if not held.word.good]
    failed = [row for row in rows if row.failed]
    lines = [f"{held.name}: {held.word}{_left(held)}" for _, held in bad]
    lines += [f"{row.title}: {row.failed}" for row in failed]
    if not bad:
        return _failure(failed, lines) if failed else None
    ours = next((row for row, held in bad if held.word is Word.OURS), None)
    number = f"{len(bad)} package{'s' if len(bad) > 1 else ''}"
    if ours is not None:
        hint = f"invoke bisect {ours.recipe} --target {ours.target}"
        return CheckError(f"{number}: the emulated build gives other bytes", details=lines, hint=hint)
    hint = "--emulated tells whether native tools have a part in it"
    return CheckError(f"{number}: not the archive's, and not explained", details=lines, hint=hint)


def _failure(failed: Sequence[Row], lines: Sequence[str]) -> XbuildError:
    if len(failed) > 1:
        return PhaseError(f"{len(failed)} source packages were not built", details=lines)
    (row,) = failed
    error = PhaseError(row.failed, details=row.details)
    error.exit_code = row.exit_code or error.exit_code
    return error


def _left(held: Held) -> str:
    names = ", ".join(held.explained.left[:4]) + (", ..." if len(held.explained.left) > 4 else "")
    return f" ({names})" if names else ""
