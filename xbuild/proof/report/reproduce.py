"""What the page of reproduced packages shows, in words. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from xbuild.base.log import human_time
from xbuild.proof.compare.environment import machine
from xbuild.proof.compare.verdict import printable
from xbuild.proof.report.compare import Headline
from xbuild.proof.reproduce.verdict import Held, Row, Word, counts, mean_ratio

_KINDS = {Word.IDENTICAL: "good", Word.OURS: "bad", Word.UNEXPLAINED: "bad"}


@dataclass(frozen=True)
class Badge:
    """How many packages have a verdict. kind: good, fair or bad."""

    kind: str
    count: int
    word: Word


class View:
    """What the template asks for."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        self.printable = printable
        self.machine = machine()

    @cached_property
    def headline(self) -> Headline:
        """The verdict over all."""
        found = counts(self.rows)
        failed = sum(bool(row.failed) for row in self.rows)
        sentences = [f"{sum(found.values())} packages of {len(self.rows)} builds: {_listed(found)}."]
        sentences += [f"{failed} builds failed."] if failed else []
        if mean := mean_ratio(self.rows):
            sentences.append(f"Geometric mean of the times built to native: {mean:.2f}.")
        if failed or not all(word.good for word in found):
            return Headline("bad", "Not all explained", tuple(sentences))
        identical = set(found) <= {Word.IDENTICAL, Word.NOT_HELD}
        return Headline("good" if identical else "fair", "Identical" if identical else "Explained", tuple(sentences))

    @property
    def told(self) -> list[Row]:
        """The rows of which more is to be said."""
        return [row for row in self.rows if row.failed or row.notes or any(map(self.is_told, row.debs))]

    def is_told(self, held: Held) -> bool:
        """Whether more is to be said of a package."""
        return held.word is not Word.IDENTICAL

    def kind(self, word: Word) -> str:
        """The colour of a verdict."""
        return _KINDS.get(word, "fair")

    def badges(self, row: Row) -> list[Badge]:
        """The verdicts of a row's packages."""
        return [Badge(self.kind(word), number, word) for word, number in counts([row]).items()]

    def time(self, row: Row, mode: str) -> str:
        """How long the build in this mode took."""
        seconds = row.seconds.get(mode)
        return "" if seconds is None else human_time(seconds)


def _listed(found: dict[Word, int]) -> str:
    return ", ".join(f"{number} {word}" for word, number in found.items())
