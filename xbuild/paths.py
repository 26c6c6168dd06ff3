"""Where things lie: the project's data, the user's cache, and the fixed paths inside a root."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

PACKAGE = Path(__file__).parent
PRESETS = PACKAGE / "presets"
POLICIES = PACKAGE / "policies"
NATIVES = PACKAGE / "natives"
DISPATCHER = PACKAGE / "dispatcher"

PRIVATE = "/.xbuild"
"""The one directory inside a target root that holds native files."""

BUILD = "/build"
"""Where a build lies inside its root: /build/src, /build/dest ..., the same for every build."""


BUILDER = 1000
"""uid and gid, inside, of the user that builds."""


def project() -> Path:
    """The directory with `recipes/` and `toolchains/`.

    `$XBUILD_PROJECT`, else the nearest directory upwards from the working directory that holds both, else the
    checkout that this package lies in.
    """
    named = os.environ.get("XBUILD_PROJECT")
    if named:
        return Path(named).absolute()
    here = Path.cwd()
    for candidate in (here, *here.parents):
        if (candidate / "recipes").is_dir() and (candidate / "toolchains").is_dir():
            return candidate
    return PACKAGE.parent


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
