"""Words of the command line that several tasks take, read here: invoke would answer a wrong one with a traceback."""

from __future__ import annotations

import sys
from typing import Any

from xbuild.base.errors import UsageError
from xbuild.base.yamlfile import did_you_mean
from xbuild.build.builder import Builder
from xbuild.build.environment import MODES, Mode
from xbuild.build.result import Options

COMMON = {
    "recipe": "name of a file in recipes/ (or a path)",
    "target": "name of a file in toolchains/: armhf, arm64, amd64 ...",
    "mode": "substituted (native tools stand in, the default), distcc (a native server compiles), emulated or system "
    "(a whole emulated machine)",
    "suite": "another release of the distribution, e.g. bookworm",
    "root": "name of an imported root, or a path with a slash, in the place of the distribution's",
}
"""Help of the options that many tasks have."""


def builder_of(recipe: str, target: str, mode: str, suite: str, root: str = "", **more: Any) -> Builder:
    """What builds `recipe`, as the words say. Raises UsageError."""
    recipe, chosen = recipe_word(recipe), mode_word(mode)
    if more.get("servers") and chosen != "distcc":
        raise UsageError("--distcc-hosts is for --mode distcc")
    more |= {"suite": suite or None, "root": root or None, "grouped": not more.get("without")}
    return Builder(recipe, target, Options(mode=chosen, **more))


def words_after(remainder: str) -> list[str]:
    """The words after `--` on the command line; remainder: what invoke has made of them."""
    # invoke has joined them by spaces, so that quoted words would fall apart.
    return sys.argv[sys.argv.index("--") + 1 :] if remainder else []


def recipe_word(word: str) -> str:
    """The recipe. Raises UsageError for an option: invoke takes any word for the recipe as long as there is none."""
    if word.startswith("-"):
        raise UsageError(f"there is no recipe before {word!r}", hint="`--help COMMAND` shows what a command takes")
    return word


def switch(option: str, text: str) -> bool:
    """on or off. Raises UsageError for another word."""
    if text not in ("on", "off"):
        raise UsageError(f"{option} must be on or off, not {text!r}")
    return text == "on"


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
