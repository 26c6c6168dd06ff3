"""What the page of a comparison shows, in words and rows. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from xbuild.model.phases import BUILDING
from xbuild.proof.compare.files import Difference
from xbuild.proof.compare.outcome import Comparison, ModeRun, Pair, groups
from xbuild.proof.compare.text import counts, files, is_package, shown, speed
from xbuild.proof.compare.verdict import Verdict, families, printable
from xbuild.proof.report.timeline import Timeline, timeline

_LISTED = 2000
"""How many paths of one group the page lists."""

_TOLD = 3
"""How many it names without being opened, which is what paper shows."""


@dataclass(frozen=True)
class Headline:
    """The verdict. kind: good, fair or bad. word: in a word. sentences: in plain words."""

    kind: str
    word: str
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Group:
    """Differences that say the same. open: whether it is shown unfolded."""

    first: Difference
    members: tuple[Difference, ...]
    open: bool

    @property
    def count(self) -> str:
        """`1 file`."""
        return files(len(self.members))

    @property
    def kind(self) -> str:
        """The colour of its verdict."""
        return "fair" if self.first.verdict is Verdict.SAME or self.first.own else "bad"

    @property
    def sections(self) -> tuple[str, ...]:
        """What differs in each of them."""
        return families(self.first.sections)

    @property
    def listed(self) -> Sequence[Difference]:
        """Those that the page lists."""
        return self.members[:_LISTED]

    @property
    def told(self) -> str:
        """The first paths, and how many more."""
        rest = len(self.members) - _TOLD
        names = ", ".join(printable(item.path) for item in self.members[:_TOLD])
        return f"{names} and {rest} more" if rest > 0 else names


class View:
    """What the template asks for."""

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison
        self.phases = BUILDING
        self.shown = shown
        self.is_package = is_package
        self.counts = counts
        self.printable = printable

    @cached_property
    def headline(self) -> Headline:
        """The verdict over all."""
        return headline(self.comparison)

    @cached_property
    def timeline(self) -> Timeline:
        """Bars for all modes."""
        return timeline(self.comparison.modes)

    def speed(self, run: ModeRun) -> str:
        """How many times as fast as emulated."""
        ratio = speed(run, self.comparison.modes)
        return f"{ratio:.1f} ×" if ratio else ""

    def pair(self, one: str, other: str) -> Pair | None:
        """The pair of these modes, in whichever order."""
        return next((pair for pair in self.comparison.pairs if set(pair.modes) == {one, other} and one != other), None)

    def groups(self, pair: Pair) -> list[Group]:
        """The differences of a pair, those that say the same together; small groups unfolded while there are few."""
        found = groups(pair.differences)
        return [Group(first, tuple(members), len(found) <= 4 and len(members) <= 4) for first, members in found]

    def inspected(self, pair: Pair, item: Difference) -> str:
        """diffoscope's report on a file, if there is one."""
        return (self.comparison.inspected or {}).get((pair.modes, item.path), "")

    def text(self, pair: Pair, path: str) -> list[str]:
        """The differing lines of a text file, if it is one."""
        return list((pair.texts or {}).get(path, ()))


def headline(comparison: Comparison) -> Headline:
    """The verdict in plain words."""
    failed = comparison.failed
    if len(failed) == len(comparison.modes):
        return Headline("bad", "Every build failed", tuple(_failures(comparison)))
    sentences = [*_failures(comparison), *_reproducible(comparison), *_differences(comparison)]
    if failed:
        names = " and ".join(run.mode for run in failed)
        return Headline("bad", f"{_capital(names)} failed", tuple(sentences))
    if comparison.identical:
        word = "Identical" if comparison.pairs else "Built"
        return Headline("fair" if comparison.not_reproducible else "good", word, tuple(sentences))
    if not comparison.blamed:
        return Headline("fair", "Not reproducible by itself", tuple(sentences))
    if all(item.verdict is Verdict.SAME for _, item in comparison.blamed):
        return Headline("fair", "Same code and data", tuple(sentences))
    return Headline("bad", "Different", tuple(sentences))


def _failures(comparison: Comparison) -> list[str]:
    # The error names the recipe and perhaps the mode, which stand above it here.
    title = re.compile(rf"{re.escape(comparison.title)}( \(\w+\))?: ")
    return [f"{run.mode}: {title.sub('', run.message or '', count=1)}." for run in comparison.failed]


def _reproducible(comparison: Comparison) -> list[str]:
    again, names = comparison.again, comparison.not_reproducible
    if again is None:
        return []
    if again.differing is None:
        unknown = f"A second build in mode {again.mode} failed, so it is not known what differs by itself"
        return [f"{unknown}: {again.message}."]
    if not names:
        return [f"Built twice in mode {again.mode}, it came out the same both times."]
    built = f"Built twice in mode {again.mode}, {files(len(names))} came out different"
    if len(names) == 1:
        return [f"{built}: it is not reproducible by itself, and says nothing about the mode."]
    return [f"{built}: they are not reproducible by themselves, and say nothing about the mode."]


def _differences(comparison: Comparison) -> list[str]:
    if not comparison.pairs:
        return []
    modes = list(dict.fromkeys(mode for pair in comparison.pairs for mode in pair.modes))
    names = f"the {', the '.join(modes[:-1])} and the {modes[-1]} build"
    pair = comparison.pairs[0]
    equal = [pair for pair in comparison.pairs if pair.identical]
    if len(equal) == len(comparison.pairs):
        objects = f", and the same {pair.objects.total} objects in the build trees" if pair.objects else ""
        return [f"{_capital(names)} gave the same {pair.artifact.total} files{objects}, byte for byte."]
    told = [f"The {pair.modes[0]} and the {pair.modes[1]} build are identical." for pair in equal]
    return [*_unequal(comparison, names), *told]


def _unequal(comparison: Comparison, names: str) -> list[str]:
    blamed = {(item.where, item.path): item for _, item in comparison.blamed}
    if not blamed:
        return [f"Nothing else differs between {names}."]
    worst = [item for item in blamed.values() if item.verdict is not Verdict.SAME]
    if not worst:
        sections = sorted({section for item in blamed.values() for section in families(item.sections)})
        listed = ", ".join(sections[:6]) + (" ..." if len(sections) > 6 else "")
        verb = "has" if len(blamed) == 1 else "have"
        return [f"{files(len(blamed))} {verb} other bytes in {names}, but only in {listed}."]
    same = len(blamed) - len(worst)
    told = f"{files(len(worst))} {_verb(len(worst))} between {names}."
    return [f"{told} {files(same)} more {_verb(same)} only in what is said about the code." if same else told]


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _verb(number: int) -> str:
    return "differs" if number == 1 else "differ"
