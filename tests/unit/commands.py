"""Commands run in this process, and how they ended."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
from invoke.parser import Parser
from invoke.parser.context import ParserContext
from invoke.program import Program
from jsonschema import Draft202012Validator

from xbuild.cli.namespace import namespace
from xbuild.cli.program import XbuildProgram
from xbuild.cli.shapes import COMMANDS, output_of


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


@cache
def _commands() -> tuple[ParserContext, ...]:
    return tuple(namespace.to_contexts())


class _Reader(Program):
    """invoke itself; of the commands it knows those that a line names: it copies all that it knows for each line."""

    def _make_parser(self) -> Parser:
        words = set(self.core.unparsed)
        named = [command for command in _commands() if not words.isdisjoint({command.name, *command.aliases})]
        return Parser(initial=self.initial_context, contexts=named)


def parsed_by_invoke(words: Sequence[str]) -> list[ParserContext]:
    """The commands in a line of words, with what each is given. Raises invoke's ParseError."""
    program = _Reader(namespace=namespace)
    program.create_config()
    program.parse_core(list(words))
    program.parse_collection()
    program.parse_tasks()
    return list(program.tasks)


def run_with(program: Program | XbuildProgram, capsys: pytest.CaptureFixture[str]) -> Run:
    """What runs commands of `program`; each JSON object that it gives must fit its schema."""

    def run(*words: str) -> Ended:
        code = 0
        try:
            program.run(["xbuild", *words])
        except SystemExit as end:
            code = int(end.code or 0)
        ended = Ended(code, *capsys.readouterr())
        if "--json" in words and words[0] in COMMANDS and ended.out:
            Draft202012Validator(output_of(words[0])).validate(ended.value)
        return ended

    return run
