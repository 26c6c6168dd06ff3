"""The answer to one question about the machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Probe:
    """What was found.

    status: fail means that builds will not work. hint: what to do, None if there is nothing.
    """

    name: str
    status: Status
    text: str
    hint: str | None = None

    def line(self) -> str:
        """Name and text, for people."""
        return f"{self.name}: {self.text}"
