"""Where things lie: the project's data, the user's cache, and the fixed paths inside a root."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import platformdirs

from xbuild.base.errors import UsageError

PACKAGE = Path(__file__).parents[1]
PRESETS = PACKAGE / "presets"
POLICIES = PACKAGE / "policies"
NATIVES = PACKAGE / "natives"
DISPATCHER = PACKAGE / "dispatcher"

PRIVATE = "/.xbuild"
"""The one directory inside a target root that holds native files."""

DISPATCH = f"{PRIVATE}/dispatch"
"""Where the machine's own entry finds the dispatcher."""

LAYER = f"{PRIVATE}/layer"
"""Where the native layer lies: partners of compiled modules that a recipe's build dependencies bring."""

CACHE = f"{PRIVATE}/cache"
"""Where settings, files and log of the compiler cache lie."""

COLUMNS = f"{PRIVATE}/columns"
"""The program before the preprocessor that the compiler cache starts; see dispatcher/columns.c."""

RECORD = f"{PRIVATE}/record"
"""Where the dispatcher writes down what runs."""

BUILD = "/build"
"""Where a build lies inside its root: /build/src, /build/dest ..., the same for every build."""


BUILDER = 1000
"""uid and gid, inside, of the user that builds."""


def shipped(kind: str) -> Path:
    """The directory `recipes` or `toolchains` that xbuild brings along: in the package, in a checkout beside it."""
    installed = PACKAGE / kind
    return installed if installed.is_dir() else PACKAGE.parent / kind


def checkout() -> Path:
    """The checkout that this xbuild runs from. Raises UsageError if it is installed by itself."""
    if (PACKAGE.parent / "pyproject.toml").is_file():
        return PACKAGE.parent
    raise UsageError(
        f"this is for work on xbuild itself, and {PACKAGE} is no checkout of it",
        hint="in a checkout: pip install -e '.[dev]'",
    )


def project() -> Path:
    """The user's project: its `recipes/` and `toolchains/`, of which either may be missing, come before the shipped.

    `$XBUILD_PROJECT`, else the nearest directory upwards from the working directory that has a recipe or a toolchain
    in these, else the working directory. Raises UsageError if there is no such directory.
    """
    named = os.environ.get("XBUILD_PROJECT")
    try:
        here = Path.cwd()
        if not named:
            return next((place for place in _upwards(here) if _has_own(place)), here)
        if (here / named).is_dir():
            return here / named
    except OSError as error:
        raise UsageError(f"the working directory cannot be used: {error.strerror}", hint="cd to another one") from error
    hint = "it is the directory that holds recipes/ and toolchains/ of your own; without it, xbuild looks from here"
    raise UsageError(f"XBUILD_PROJECT: {named} is no directory", hint=hint)


def _upwards(here: Path) -> Iterator[Path]:
    """`here` and the directories above it that no third person owns: in /tmp anybody can make a `recipes`."""
    owners = {0, os.geteuid(), _owner(here)}
    yield from (place for place in (here, *here.parents) if _owner(place) in owners)


def _owner(path: Path) -> int:
    return path.stat().st_uid


def _has_own(place: Path) -> bool:
    return any(definitions(place / kind) for kind in ("recipes", "toolchains"))


def definitions(directory: Path) -> list[Path]:
    """The files of recipes or toolchains in `directory`, sorted; not what editors keep beside one: `.#zlib.yml`."""
    return sorted(file for file in directory.glob("*.yml") if not file.name.startswith("."))


def cache() -> Path:
    """The store's directory: `named_cache` without symbolic links on the way; a sandbox mounts nothing beyond one."""
    return named_cache().resolve()


def named_cache() -> Path:
    """`$XBUILD_CACHE`, else `xbuild` in the user's cache directory (for root: /var/cache); absolute."""
    named = os.environ.get("XBUILD_CACHE")
    if named:
        return Path(named).absolute()
    if os.geteuid() == 0:
        return Path("/var/cache/xbuild")
    return Path(platformdirs.user_cache_dir("xbuild")).absolute()


_callers_umask: list[int] = []


def fix_umask() -> None:
    """Whatever the caller's umask, what xbuild makes is there for the users inside; secrets have modes of their own."""
    own = os.umask(0o022)
    if not _callers_umask:
        _callers_umask.append(own)


def callers_umask() -> int:
    """The umask for what is the caller's: his programs, and what is put into his own directories."""
    if _callers_umask:
        return _callers_umask[0]
    own = os.umask(0o022)
    os.umask(own)
    return own
