"""The words of a comparison: verdicts, and what was found about two files."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What is said of two files, the best first. ONLY: one of the two does not exist."""

    IDENTICAL = "identical"
    SAME = "same code and data"
    ONLY = "only"
    DIFFERENT = "different"

    @property
    def rank(self) -> int:
        """How bad it is; 0 is best."""
        return list(Verdict).index(self)


@dataclass(frozen=True)
class Found:
    """How the contents of two files compare.

    sections: what differs, in the words of the file's kind: names of ELF sections, or plain words; code and data first.
    members: of an archive, those that are not identical, as (name, what was found).
    """

    verdict: Verdict
    sections: tuple[str, ...] = ()
    members: tuple[tuple[str, Found], ...] = ()


IDENTICAL = Found(Verdict.IDENTICAL)


_FAMILY = re.compile(
    r"(?P<family>(\.rela?)?(\.ARM\.exidx|\.ARM\.extab)?\.(text|rodata|data|bss|tdata|tbss|gcc_except_table)\.|\.gnu\.lto_).+"
)
"""Sections of which an object has one a function or variable, or with names that are random (gcc, -frandom-seed)."""


def families(sections: Iterable[str]) -> tuple[str, ...]:
    """`sections` with one name, `.text.*`, for all sections of functions or variables: what files have in common."""
    return tuple(dict.fromkeys(_FAMILY.sub(r"\g<family>*", name) for name in sections))


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The worst of `verdicts`; IDENTICAL if there are none."""
    return max(verdicts, key=lambda verdict: verdict.rank, default=Verdict.IDENTICAL)


def printable(text: str) -> str:
    """`text`, the name of a file, for people and JSON: bytes that are no text become visible escapes."""
    return text.encode(errors="surrogateescape").decode(errors="backslashreplace")
