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
    """The store's directory: `$XBUILD_CACHE`, else `xbuild` in the user's cache directory (for root: /var/cache).

    Without symbolic links on the way, for a sandbox refuses to mount anything beyond one.
    """
    named = os.environ.get("XBUILD_CACHE")
    if named:
        return Path(named).resolve()
    if os.geteuid() == 0:
        return Path("/var/cache/xbuild").resolve()
    return Path(platformdirs.user_cache_dir("xbuild")).resolve()
