"""Words of the command line that several tasks take, read here: invoke would answer a wrong one with a traceback."""

from __future__ import annotations

from xbuild.environment import MODES, Mode
from xbuild.errors import UsageError
from xbuild.yamlfile import did_you_mean


def recipe_word(word: str) -> str:
    """The recipe. Raises UsageError for an option: invoke takes any word for the recipe as long as there is none."""
    if word.startswith("-"):
        raise UsageError(f"there is no recipe before {word!r}", hint="`--help COMMAND` shows what a command takes")
    return word


def number(option: str, text: str) -> int:
    """A number from 1 on; 0 for no text. Raises UsageError."""
    if text and not (text.isascii() and text.isdigit() and int(text)):
        raise UsageError(f"{option} must be a number from 1 on, not {text!r}", hint=f"for example {option} 3")
    return int(text or 0)


def names(option: str, text: str) -> list[str]:
    """Names separated by commas, each once. Raises UsageError for an empty one."""
    words = list(dict.fromkeys(word.strip() for word in text.split(",")))
    if "" in words:
        raise UsageError(f"{option} wants names, separated by commas, not {text!r}", hint=f"for example {option} a,b")
    return words


def mode_word(word: str) -> Mode:
    """The mode of this name. Raises UsageError if there is none."""
    for known in MODES:
        if known == word:
            return known
    raise UsageError(f"unknown mode {word!r}{did_you_mean(word, MODES)}", hint=f"modes: {', '.join(MODES)}")


def mode_words(text: str) -> list[Mode]:
    """Modes separated by commas. Raises UsageError."""
    return [mode_word(word) for word in names("--modes", text)]
