"""Where roots are made: a sandbox that sees the machine's own tools and what is being made, and nothing else.

Maintainer scripts are root's in it, and could leave the root that they install.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from xbuild.base import process
from xbuild.roots import mirror
from xbuild.sandbox import run as sandboxes
from xbuild.sandbox.mounts import Bind, Mount, Tmpfs
from xbuild.sandbox.view import TMP, RootView

STAGING, ANSWER, NATIVE = "/staging", "/answer", "/native"
"""Where the directory that is filled, what was resolved, and the private tree are seen."""

# Each name that leads into /usr, or is a directory of its own on a machine that is not merged.
_PROGRAMS = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")
# What loaders, shells, perl, apt, gpg, TLS and name services read, and mmdebstrap copies into a root.
_SETTINGS = (
    "alternatives", "apt/trusted.gpg", "apt/trusted.gpg.d", "apt/keyrings", "ca-certificates", "crypto-policies",
    "dpkg", "gai.conf", "gnutls", "group", "host.conf", "hostname", "hosts", "ld.so.cache", "ld.so.conf",
    "ld.so.conf.d", "nsswitch.conf", "passwd", "perl", "pki", "protocols", "resolv.conf", "services", "ssl",
)  # fmt: skip
_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy")
"""The variables that apt heeds (apt-transport-http(1), apt-transport-https(1))."""
_ACQUIRE = re.compile(r'^Acquire::(?:https?|ftp|ForceIPv[46])(?:::\S+)? "(.*)";$', re.MULTILINE)


def mounts(staging: Path, shown: Iterable[Mount] = ()) -> tuple[Mount, ...]:
    """What is seen: the machine's tools, `staging`, and `shown`."""
    programs = [Path("/", name) for name in _PROGRAMS]
    settings = [Path("/etc", name) for name in _SETTINGS]
    seen = [Bind(str(path), str(path), readonly=True) for path in (*programs, *settings) if path.exists()]
    # apt complains if the directory is not there; what the machine's says is not meant for a root.
    empty = (TMP, Tmpfs("/etc/apt/apt.conf.d"))
    return (*RootView(empty=empty, shown=(*seen, Bind(str(staging), STAGING))).mounts(), *shown)


def sandbox(
    staging: Path,
    shown: Iterable[Mount] = (),
    registrations: tuple[str, ...] = (),
    env: Mapping[str, str] | None = None,
    *,
    ours: bool = False,
    network: bool = False,
    cwd: str = STAGING,
) -> sandboxes.Sandbox:
    """The sandbox, with `staging` and `shown` in view.

    ours: no program of a package runs in it, so its root may reach what is the user's. Else he owns nothing outside but
    what was given to him.
    """
    plain = {"PATH": sandboxes.ROOT_PATH, "LC_ALL": "C.UTF-8", **(env or {})}
    return sandboxes.Sandbox(
        mounts=mounts(staging, shown),
        mount_point=staging,
        registrations=registrations,
        env=plain,
        network=network,
        known=ours,
        cwd=cwd,
    )


def fetching(
    staging: Path, addresses: Iterable[str], shown: Iterable[Mount] = (), config: str = "", cwd: str = STAGING
) -> sandboxes.Sandbox:
    """The sandbox for fetching from these addresses: with the machine's network, and the user's proxies.

    config: of apt, a file inside.
    """
    env = {name: value for name in _PROXIES if (value := os.environ.get(name))}
    env |= {"APT_CONFIG": config} if config else {}
    files = [Path(value) for value in _ACQUIRE.findall(_settings())]
    places = [*mirror.on_disk(addresses), *(file for file in files if file.is_absolute())]
    # What is in /usr is seen already.
    further = [place for place in places if place.exists() and not place.is_relative_to("/usr")]
    wanted = [Bind(str(place), str(place), readonly=True) for place in further]
    return sandbox(staging, (*shown, *wanted), env=env, ours=True, network=True, cwd=cwd)


def transport() -> list[str]:
    """What the machine's apt is told about proxies and certificates: lines for apt.conf(5)."""
    return [match[0] for match in _ACQUIRE.finditer(_settings())]


def _settings() -> str:
    env = {"PATH": sandboxes.ROOT_PATH, "LC_ALL": "C.UTF-8"}
    done = process.run(["apt-config", "dump"], env=env, capture=True, check=False)
    return done.stdout.decode(errors="replace") if done.returncode == 0 else ""
