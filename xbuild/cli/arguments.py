"""Words of the command line that several tasks take, read here: invoke would answer a wrong one with a traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from xbuild.base import paths
from xbuild.base.errors import UsageError, called
from xbuild.cli.line import Remainder

if TYPE_CHECKING:
    from xbuild.build.request import Here, Request

COMMON = {
    "recipe": "name of a file in recipes/, the path of one, or the directory of a project",
    "target": "target, such as armhf, arm64, amd64 (a file in toolchains/)",
    "suite": "another release of the distribution, e.g. bookworm",
    "snapshot": "take packages as the distribution's archive had them on this day: 2026-01-31",
    "root": "an imported root, by name or by a path with a slash, instead of the distribution's",
}
"""Help of the options that many tasks have; that of `mode` stands in `xbuild.cli.words`."""
CCACHE = "XBUILD_CCACHE"
"""Says what --ccache does not."""
REPO = "take build dependencies also from this directory of packages, which `repo` makes; once for each"
FOREIGN = "target, such as armhf, arm64 (a file in toolchains/)"
"""Of commands that are about other machines."""
TARGETS = "targets, separated by commas, such as armhf, arm64, amd64 (files in toolchains/)"
DISTCC = "compile on these machines too, named as in DISTCC_HOSTS (`cluster.compilers`); phases have the network"
EMULATE = "run these tools or programs emulated: names, separated by commas, such as perl,python3.13"


def request_of(
    recipe: str, target: str, mode: str, suite: str, root: str = "", *, here: Here | None = None, preset: str = "",
    **more: Any,
) -> Request:  # fmt: skip
    """What the words ask for. preset: of a directory without a recipe. Raises UsageError."""
    # Only here, and in what else is about builds: a program is run without.
    from xbuild.build.modes.table import mode_of
    from xbuild.build.request import Here, Request

    name = mode_of(mode).name
    more["repositories"] = directories(more.get("repositories"))
    require_servers(more.get("servers", ()), [name], "--mode")
    more |= {"suite": suite or None, "root": root or None, "grouped": not more.get("without")}
    return Request(recipe_named(recipe, preset), target, name, here=here or Here(), **more)


def require_servers(servers: Sequence[str], chosen: Sequence[str], option: str) -> None:
    """Raises UsageError if there are `servers` (--distcc-hosts) that no mode asks; option: where one is chosen."""
    if not servers:
        return
    from xbuild.build.modes.table import MODES

    if not any(MODES[name].servers for name in chosen):
        able = " or ".join(f"{option} {mode.name}" for mode in MODES.values() if mode.servers)
        raise UsageError(f"--distcc-hosts is for {able}")


def words_after(remainder: str) -> list[str]:
    """The words after `--` on the command line; remainder: what invoke has made of them."""
    if isinstance(remainder, Remainder):
        return list(remainder.words)
    # invoke has joined them by spaces, so that quoted words would fall apart.
    return sys.argv[sys.argv.index("--") + 1 :] if remainder else []


def recipe_word(word: str) -> str:
    """The recipe. Raises UsageError for an option: invoke takes any word for the recipe as long as there is none."""
    if word.startswith("-"):
        raise UsageError(f"there is no recipe before {word!r}", hint="`--help COMMAND` shows what a command takes")
    return word


def recipe_named(word: str, preset: str = "") -> str:
    """The recipe that `word` names, which may be a project's directory; "" is the working directory's.

    preset: for a project without a recipe. Raises UsageError if it has no build system that is known.
    """
    from xbuild import projects
    from xbuild.store.own import open_store

    return projects.recipe_word(recipe_word(word), paths.project(), open_store, preset or None)


def directories(words: Sequence[str] | None) -> tuple[str, ...]:
    """The directories of --repo, as they are called from anywhere. Raises UsageError for what is none here."""
    if "" in (words or ()):
        raise UsageError("--repo wants a directory", hint=called("`invoke repo DIRECTORY` makes one"))
    return tuple(os.path.abspath(_directory(word)) for word in words or ())  # noqa: PTH100 - links stay as named


def _directory(word: str) -> str:
    scheme, _, place = word.partition(":/")
    if not place or "/" in scheme:
        return word
    if scheme in ("file", "copy"):
        return "/" + place.lstrip("/")
    hint = "fetch all of it to a directory (`wget --mirror`, debmirror), and name that"
    raise UsageError(f"--repo {word} is an address: only directories of this machine can be named", hint=hint)


def switch(option: str, text: str) -> bool:
    """on or off. Raises UsageError for another word."""
    if text not in ("on", "off"):
        raise UsageError(f"{option} must be on or off, not {text!r}")
    return text == "on"


def cache_of(text: str, mode: str, *, own: bool = False) -> int | None:
    """What --ccache, else XBUILD_CCACHE, says: as `Here.cache`. own: nothing is said by who has one then.

    Raises UsageError for what is neither on, off nor an amount, and for a mode without native compilers.
    """
    # Only here: nothing else of it is needed by who asks for nothing.
    from xbuild.build.modes.table import mode_of
    from xbuild.store.usage import size_of

    if text and not mode_of(mode).twins:
        raise UsageError("--ccache is for --mode substituted", hint="in other modes no native compiler runs")
    option, word = ("--ccache", text) if text else (CCACHE, os.environ.get(CCACHE, ""))
    word = word or ("on" if own else "off")
    if word in ("on", "off"):
        return 0 if word == "on" else None
    try:
        return size_of(word, option)
    except UsageError as error:
        raise UsageError(f"{option} must be on, off or an amount such as 10G, not {word!r}", hint=error.hint) from error


def number(option: str, text: str) -> int:
    """A number from 1 on, of nine digits at most; 0 for no text. Raises UsageError."""
    if len(text) > 9 and text.isascii() and text.isdigit():
        raise UsageError(f"{option} {text} is too large", hint=f"for example {option} 3")
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


def real_paths(option: str, text: str) -> frozenset[str]:
    """Absolute paths separated by commas. Raises UsageError for what is none."""
    found = frozenset(filter(None, text.split(",")))
    for word in sorted(found):
        if not word.startswith("/"):
            hint = f"for example {option} /usr/bin/sed; --emulate takes names"
            raise UsageError(f"{option} wants real paths of programs, not {word!r}", hint=hint)
    return found


def mode_words(text: str) -> list[str]:
    """Names of modes separated by commas. Raises UsageError."""
    from xbuild.build.modes.table import mode_of

    return [mode_of(word).name for word in names("--modes", text)]
