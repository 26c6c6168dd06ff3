"""The words of a comparison: verdicts, and what was found about two files."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


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
    members: of an archive or a .deb, those that are not identical, as (name, what was found).
    detail: of a member, what the sections do not say, such as both modes. lines: of a text in a .deb, the difference.
    """

    verdict: Verdict
    sections: tuple[str, ...] = ()
    members: tuple[tuple[str, Found], ...] = ()
    detail: str = ""
    lines: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """For --json."""
        members = [{"name": printable(name), **found.as_json()} for name, found in self.members]
        return {
            "verdict": str(self.verdict),
            "sections": list(self.sections),
            **({"detail": self.detail} if self.detail else {}),
            **({"lines": list(self.lines)} if self.lines else {}),
            **({"members": members} if members else {}),
        }


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
