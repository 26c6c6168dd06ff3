"""Words of the command line that several tasks take, read here: invoke would answer a wrong one with a traceback."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from xbuild.base.errors import UsageError
from xbuild.build.modes.table import DEFAULT, MODES, mode_of
from xbuild.build.request import Here, Request

COMMON = {
    "recipe": "name of a file in recipes/ (or a path)",
    "target": "name of a file in toolchains/: armhf, arm64, amd64 ...",
    "mode": ", ".join(
        f"{mode.name} ({mode.summary}{', the default' if mode == DEFAULT else ''})" for mode in MODES.values()
    ),
    "suite": "another release of the distribution, e.g. bookworm",
    "snapshot": "a day (2026-01-31): packages as the distribution's archive had them then",
    "root": "name of an imported root, or a path with a slash, in the place of the distribution's",
}
"""Help of the options that many tasks have."""
EMULATE = "names of tools or programs that are to run emulated, separated by commas: perl,python3.13"


def request_of(
    recipe: str, target: str, mode: str, suite: str, root: str = "", *, here: Here | None = None, **more: Any
) -> Request:
    """What the words ask for. Raises UsageError."""
    name = mode_of(mode).name
    require_servers(more.get("servers", ()), [name], "--mode")
    more |= {"suite": suite or None, "root": root or None, "grouped": not more.get("without")}
    return Request(recipe_word(recipe), target, name, here=here or Here(), **more)


def require_servers(servers: Sequence[str], chosen: Sequence[str], option: str) -> None:
    """Raises UsageError if there are `servers` (--distcc-hosts) that no mode asks; option: where one is chosen."""
    if servers and not any(MODES[name].servers for name in chosen):
        able = " or ".join(f"{option} {mode.name}" for mode in MODES.values() if mode.servers)
        raise UsageError(f"--distcc-hosts is for {able}")


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


def emulated(text: str) -> frozenset[str]:
    """The names of --emulate. Raises UsageError for an empty one."""
    return frozenset(names("--emulate", text)) if text else frozenset()


def mode_words(text: str) -> list[str]:
    """Names of modes separated by commas. Raises UsageError."""
    return [mode_of(word).name for word in names("--modes", text)]
