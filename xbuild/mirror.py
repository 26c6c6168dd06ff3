"""Which package mirror serves a suite: a setting, else the machine's own, else mmdebstrap's default."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from pathlib import Path

SETTING = "XBUILD_MIRROR"
_SECONDS = 20


def of_machine(apt: Path = Path("/etc/apt")) -> list[str]:
    """The addresses in the machine's apt configuration, in order, without options and suites."""
    found: list[str] = []
    files = [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]
    for file in files:
        if not file.is_file() or file.suffix not in (".list", ".sources"):
            continue
        for line in file.read_text(errors="replace").splitlines():
            word, _, rest = line.partition(" ")
            if file.suffix == ".sources" and word.lower() == "uris:":
                found += rest.split()
            elif file.suffix == ".list" and word == "deb":
                found += [part for part in rest.partition("]")[2].split() or rest.split() if "://" in part][:1]
    return list(dict.fromkeys(address.rstrip("/") for address in found if "://" in address))


def serves(address: str, suite: str, architecture: str) -> bool:
    """Does the mirror `address` have `suite` for `architecture`? Asks it."""
    try:
        with urllib.request.urlopen(f"{address}/dists/{suite}/Release", timeout=_SECONDS) as answer:
            head = answer.read(65536).decode(errors="replace")
    except (urllib.error.URLError, OSError, ValueError):
        return False
    lines = [line for line in head.splitlines() if line.startswith("Architectures:")]
    return any(architecture in line.split() for line in lines)


def find(suite: str, architecture: str) -> str | None:
    """The mirror to use; None: mmdebstrap's default for the suite."""
    if setting := os.environ.get(SETTING):
        return setting.rstrip("/")
    return next((address for address in of_machine() if serves(address, suite, architecture)), None)


def of_root(root: Path) -> list[str]:
    """The mirrors that the Debian tree `root` was made from."""
    return of_machine(root / "etc/apt")
