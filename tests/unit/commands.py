"""Commands run in this process, and how they ended."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from invoke.program import Program


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def value(self) -> Any:
        """The one JSON object on stdout."""
        return json.loads(self.out)


Run = Callable[..., Ended]


def run_with(program: Program, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str) -> Ended:
        code = 0
        try:
            program.run(["xbuild", *words])
        except SystemExit as end:
            code = int(end.code or 0)
        return Ended(code, *capsys.readouterr())

    return run
