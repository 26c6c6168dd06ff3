"""All commands with their options, as data: so that help, completion and parsing need not load what commands do.

`invoke reference` writes table.json from the tasks; a test holds both against each other. A word that it does not know
is looked for among the tasks themselves, so a stale one only costs time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from invoke.collection import Collection
    from invoke.parser.argument import Argument
    from invoke.tasks import Task

FILE = Path(__file__).with_name("table.json")

DEBUGGER = "debug"
"""The command to which words that are not its own are a debugger's, and what follows them too."""
PROGRAMS = ("run", DEBUGGER)
"""Commands whose first word that is no option is a program, with all that follows."""
JOINED = ("target", "targets", "recipes", "modes")
"""Options that, given again, name more: as with commas between."""
_TYPES = {bool: "flag", int: "number", list: "list"}
REST = (*PROGRAMS, "shell")
"""Commands that take words after `--`."""


@dataclass(frozen=True)
class Option:
    """A word of a command. name: as after `--`, or of a positional word. parameter: of the function.

    kind: text, number, flag or list (given once for each). default: None: required. letter: the short option.
    positional: it has no `--`. further: what each word behind the positional ones is one of. help: of a flag that is on
    by default, what its opposite does.
    """

    name: str
    parameter: str
    kind: str
    default: Any
    help: str = ""
    letter: str = ""
    positional: bool = False
    further: bool = False

    @property
    def shown(self) -> str:
        """The option as it is given: of a flag that is on by default, the opposite."""
        return f"--{'no-' if self.kind == 'flag' and self.default is True else ''}{self.name}"


@dataclass(frozen=True)
class Command:
    """A command. module, attribute: where its task is."""

    name: str
    module: str
    attribute: str
    summary: str
    options: tuple[Option, ...]

    @property
    def words(self) -> list[Option]:
        """The positional ones."""
        return [option for option in self.options if option.positional]


@dataclass(frozen=True)
class Table:
    """All commands by name. values: words that options can have, by kind: modes, phases, kinds of the store."""

    commands: Mapping[str, Command]
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def text(self) -> str:
        """As it lies in FILE."""
        value = {"commands": [asdict(command) for command in self.commands.values()], "values": dict(self.values)}
        return json.dumps(value, indent=1) + "\n"


def load() -> Table:
    """The table as it was written last; an empty one if it is not there."""
    try:
        value = json.loads(FILE.read_text())
    except FileNotFoundError:
        return Table({})
    found = [
        Command(**{**known, "options": tuple(Option(**option) for option in known["options"])})
        for known in value["commands"]
    ]
    values = {name: tuple(words) for name, words in value["values"].items()}
    return Table({known.name: known for known in found}, values)


def of(namespace: Collection) -> Table:
    """The table of the tasks, by themselves."""
    from xbuild.build.modes.table import MODES
    from xbuild.model.phases import STEPS
    from xbuild.store.local import KINDS

    commands = {name: _command(name, namespace[name]) for name in sorted(namespace.task_names)}
    values = {"mode": tuple(MODES), "phase": STEPS, "kind": tuple(KINDS)}
    return Table(commands, values)


def _command(name: str, task: Task[Any]) -> Command:
    # A copy: invoke gives the texts away only once.
    texts = dict(task.help)
    try:
        arguments = task.get_arguments()
    finally:
        task.help = texts
    options = tuple(_option(name, argument) for argument in arguments)
    summary = " ".join((task.__doc__ or "").split())
    return Command(name, task.body.__module__, task.body.__name__, summary, options)


def _option(command: str, argument: Argument) -> Option:
    from xbuild.cli.words import default_of, further

    name = str(argument.name).strip("_").replace("_", "-")
    kind = _TYPES.get(argument.kind, "text")
    missing = default_of(command, str(argument.name)) if argument.positional else None
    default = missing if argument.positional and argument.default is None else argument.default
    letter = next((word for word in argument.names if len(word) == 1), "")
    parameter = argument.attr_name or str(argument.name)
    more = further(command) == name
    return Option(name, parameter, kind, default, help_of(argument), letter, bool(argument.positional), more)


def help_of(argument: Argument) -> str:
    """What is told of it, where a flag that is on by default is shown by its opposite.

    invoke shows both as `--[no-]NAME`, so the text says which one it is about.
    """
    text = argument.help or ""
    return text.removeprefix(f"--no-{argument.name}: ") if argument.default is True else text
