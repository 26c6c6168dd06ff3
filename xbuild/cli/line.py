"""Words of a command line read by the table, as invoke reads them, so that both programs take the same. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from xbuild.base.errors import UsageError, called
from xbuild.base.nearest import did_you_mean
from xbuild.cli.table import DEBUGGER, JOINED, PROGRAMS, REST, Command, Option

HELP = ("-h", "--help")


@dataclass
class Line:
    """A command line that was read. values: by parameter. rest: what comes after `--`; None without that.

    help: what the command takes is asked for, and nothing else counts.
    """

    values: dict[str, Any] = field(default_factory=dict)
    rest: list[str] | None = None
    help: bool = False


class Remainder(str):
    """The words after `--` as our own program has them, in the place of invoke's text."""

    words: Sequence[str]

    @classmethod
    def of(cls, words: Sequence[str] | None) -> Remainder:
        """Those words; None if there was no `--`."""
        made = cls("\0".join(words or ()))
        made.words = list(words or ())
        return made


def read(command: Command, words: Sequence[str]) -> Line:
    """The words after the name of `command`. Raises UsageError."""
    reader = _Reader(command, words)
    reader.read()
    for option in command.options if not reader.line.help else ():
        if option.parameter not in reader.line.values:
            if option.default is None:
                raise _wrong(command, f"{command.name}: {option.name.upper()} is missing")
            reader.line.values[option.parameter] = list(option.default) if option.kind == "list" else option.default
    return reader.line


def _wrong(command: Command, message: str) -> UsageError:
    return UsageError(message, hint=called(f"`invoke --help {command.name}` shows what it takes"))


class _Reader:
    def __init__(self, command: Command, words: Sequence[str]) -> None:
        self._command = command
        self._words = list(words)
        self._open = command.words
        self.line = Line()

    def read(self) -> None:
        while self._words:
            word = self._words.pop(0)
            if word == "--":
                self._take_rest(self._words)
                return
            if word in HELP:
                self.line.help = True
                return
            if self._is_debuggers(word):
                self._take_rest([word, *self._words])
                return
            if word.startswith("--"):
                self._long(word)
            elif word.startswith("-") and word != "-":
                self._short(word[1:])
            elif self._open:
                self._give(self._open.pop(0), word)
            elif more := self._named(lambda known: known.further):
                self._give(more, word)
            elif self._command.name in PROGRAMS:
                self._take_rest([word, *self._words])
                return
            else:
                raise _wrong(self._command, f"{self._command.name} takes no further word {word!r}")

    def _is_debuggers(self, word: str) -> bool:
        """Whether it is an option of the program behind the command: none of ours, or one dash and several letters."""
        if self._command.name != DEBUGGER or not word.startswith("-"):
            return False
        name = word[2:].partition("=")[0]
        ours = self._named(lambda known: known.name == name) if word[1:2] == "-" else self._lettered(word[1:])
        return ours is None

    def _take_rest(self, words: list[str]) -> None:
        if self._command.name not in REST:
            raise _wrong(self._command, f"{self._command.name} takes no words after --")
        self.line.rest = words
        self._words = []

    def _long(self, word: str) -> None:
        name, equals, value = word[2:].partition("=")
        option = self._named(lambda known: known.name == name)
        if option is None:
            option = self._named(lambda known: known.default is True and f"no-{known.name}" == name)
            if option is None:
                known = self._known()
                raise _wrong(self._command, f"unknown option {'--' + name!r}{did_you_mean('--' + name, known)}")
            self._set(option, False, equals)
        elif option.kind == "flag":
            self._set(option, True, equals)
        else:
            self._give(option, value if equals else self._value(f"--{name}"))

    def _give(self, option: Option, value: str) -> None:
        if option.kind == "list":
            self.line.values.setdefault(option.parameter, []).append(value)
        elif option.name in JOINED and option.parameter in self.line.values:
            self.line.values[option.parameter] += f",{value}"
        else:
            self.line.values[option.parameter] = self._typed(option, value)

    def _set(self, option: Option, value: bool, equals: str) -> None:
        if equals:
            raise _wrong(self._command, f"--{option.name} takes no value")
        self.line.values[option.parameter] = value

    def _short(self, letters: str) -> None:
        while letters:
            letter, letters = letters[0], letters[1:]
            option = self._lettered(letter)
            if option is None:
                raise _wrong(self._command, f"unknown option '-{letter}'{did_you_mean(f'-{letter}', self._known())}")
            if option.kind == "flag":
                self.line.values[option.parameter] = True
                continue
            value = letters.removeprefix("=") if letters else self._value(f"-{letter}")
            self._give(option, value)
            return

    def _named(self, fits: Callable[[Option], bool]) -> Option | None:
        return next((option for option in self._command.options if not option.positional and fits(option)), None)

    def _lettered(self, letter: str) -> Option | None:
        return self._named(lambda known: known.letter == letter)

    def _known(self) -> Iterable[str]:
        letters = [f"-{option.letter}" for option in self._command.options if option.letter]
        return [*(f"--{option.name}" for option in self._command.options if not option.positional), "--help", *letters]

    def _value(self, option: str) -> str:
        if not self._words:
            raise _wrong(self._command, f"{option} wants a value")
        return self._words.pop(0)

    def _typed(self, option: Option, word: str) -> Any:
        if option.kind != "number":
            return word
        try:
            return int(word)
        except ValueError:
            raise _wrong(self._command, f"--{option.name} must be a number, not {word!r}") from None
