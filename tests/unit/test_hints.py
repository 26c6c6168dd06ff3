"""Commands in what xbuild says: each can be told from the words around it, and is one that xbuild takes."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator

import pytest

from tests.unit.sources import PROJECT, modules, strings
from xbuild.base.errors import UsageError
from xbuild.cli import line, table

TABLE = table.load()
FILLED = {"command_line": "zlib --target armhf", "words": "zlib --target armhf", "options": "", "shell": "zlib -- env"}
"""What stands for a filled in part, by a word in it."""
FILLED_IN = "x"
"""For all others."""


def filled(expression: str) -> str:
    found = [text for word, text in FILLED.items() if re.search(rf"\b{word}\b", expression)]
    return found[0] if found else FILLED_IN


def texts() -> Iterator[tuple[str, str]]:
    """Where each text of the code with a command in it stands, and the text; docstrings are none."""
    for file in (file for file in modules() if file.name != "reference.py"):
        for node in strings(file):
            if isinstance(node, ast.JoinedStr):
                parts = [
                    str(part.value) if isinstance(part, ast.Constant) else filled(ast.unparse(part))
                    for part in node.values
                ]
                text = "".join(parts)
            else:
                text = re.sub(r"\{\w*\}", FILLED_IN, str(node.value))
            if re.search(r"\b(invoke|xbuild) [a-z-]", text):
                yield f"{file.relative_to(PROJECT)}:{node.lineno}", text


def commands(text: str) -> Iterator[str]:
    """The commands in a text: in backticks, or to its end or to what stands behind some blanks."""
    yield from re.findall(r"`((?:invoke|xbuild) [^`]*)`", text)
    yield from re.findall(r"\binvoke [a-z-](?:(?!    |\n).)*", re.sub(r"`[^`]*`", "", text))


@pytest.fixture(scope="module")
def found() -> list[tuple[str, str]]:
    """Where each command stands, and the command."""
    return [(place, command) for place, text in texts() for command in commands(text)]


def read(command: str) -> None:
    """Raises UsageError if xbuild does not take it."""
    words = shlex.split(command)[1:]
    # Where the command itself is filled in, nothing can be said; and one may be named without being given.
    if words[0] in ("--help", "--version", FILLED_IN) or (len(words) == 1 and words[0] in TABLE.commands):
        return
    if words[0] not in TABLE.commands:
        raise UsageError(f"no command {words[0]}")
    values = line.read(TABLE.commands[words[0]], words[1:]).values
    # An option that is a value: its own is missing.
    assert not [value for value in values.values() if isinstance(value, str) and value.startswith("-")]


def test_there_are_some(found: list[tuple[str, str]]) -> None:
    assert len(found) > 60
    names = {shlex.split(command)[1] for _, command in found}
    assert {"doctor", "clean", "build", "root.import", "lock", "binfmt.install"} <= names


def test_a_command_that_is_named_can_be_given(found: list[tuple[str, str]]) -> None:
    wrong: dict[str, str] = {}
    for place, command in found:
        try:
            read(command)
        except (UsageError, AssertionError) as error:
            wrong[place] = f"{command}: {error}"
    assert wrong == {}


@pytest.mark.parametrize(
    "text",
    ["`invoke shell --root` is a place", "`invoke lock --update`", "invoke store.ls shows them", "`xbuild cleen` it"],
)
def test_what_could_not_be_given_would_be_found(text: str) -> None:
    (command,) = commands(text)
    with pytest.raises((UsageError, AssertionError)):
        read(command)
