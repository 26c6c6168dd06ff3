"""Which package mirror serves a suite: a setting, else the machine's own, else mmdebstrap's default."""

from __future__ import annotations

import os
import re
import urllib.parse
from collections.abc import Iterable
from pathlib import Path

from xbuild.model.toolchain import Toolchain

SETTING = "XBUILD_MIRROR"
_SECONDS = 20


def of_machine(apt: Path = Path("/etc/apt")) -> list[str]:
    """The addresses in the machine's apt configuration, in order, without options and suites."""
    found: list[str] = []
    files = [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]
    for file in files:
        if file.is_file() and file.suffix in (".list", ".sources"):
            text = file.read_text(errors="replace")
            found += _of_stanzas(text) if file.suffix == ".sources" else _of_lines(text)
    return list(dict.fromkeys(address.rstrip("/") for address in found if "://" in address))


def _of_lines(text: str) -> list[str]:
    """Addresses in the one-line format (sources.list(5)): `deb [options] ADDRESS suite components`."""
    lines = [re.sub(r"\[[^]]*\]", " ", line.partition("#")[0]).split() for line in text.splitlines()]
    return [words[1] for words in lines if words[:1] == ["deb"] and len(words) > 1]


def _of_stanzas(text: str) -> list[str]:
    """Addresses in the deb822 format (sources.list(5)), where a value goes on in indented lines."""
    found: list[str] = []
    kept = "\n".join(line.rstrip() for line in text.splitlines() if not line.startswith("#"))
    for stanza in re.split(r"\n{2,}", kept):
        joined = re.sub(r"\n[ \t]+", " ", stanza)
        fields = {name.strip().lower(): value.split() for name, _, value in map(_at_colon, joined.splitlines())}
        if "deb" in fields.get("types", []) and fields.get("enabled") not in (["no"], ["false"]):
            found += fields.get("uris", [])
    return found


def _at_colon(line: str) -> tuple[str, str, str]:
    return line.partition(":")


def serves(address: str, suite: str, architecture: str) -> bool:
    """Does the mirror `address` have `suite` for `architecture`? Asks it."""
    # Only here: they take long to load.
    import http.client
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(f"{address}/dists/{suite}/Release", timeout=_SECONDS) as answer:
            head = answer.read(65536).decode(errors="replace")
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError):
        return False
    lines = [line for line in head.splitlines() if line.startswith("Architectures:")]
    return any(architecture in line.split() for line in lines)


def find(suite: str, architecture: str) -> str | None:
    """The mirror to use; None: mmdebstrap's default for the suite."""
    if setting := os.environ.get(SETTING):
        return setting.rstrip("/")
    return next((address for address in of_machine() if serves(address, suite, architecture)), None)


def of_sources(text: str) -> list[str]:
    """The addresses in a file sources.list, of packages and of sources."""
    return _of_lines(re.sub(r"^deb-src\b", "deb", text, flags=re.MULTILINE))


def on_disk(addresses: Iterable[str]) -> list[Path]:
    """The directories of mirrors that lie on this machine: of `file:` and `copy:`."""
    found = [re.fullmatch(r"(?:file|copy):(?://)?(/.*)", address) for address in addresses]
    return [Path(urllib.parse.unquote(match[1])) for match in found if match]


def of_root(root: Path) -> list[str]:
    """The mirrors that the Debian tree `root` was made from."""
    return of_machine(root / "etc/apt")


def snapshot(toolchain: Toolchain, date: str | None) -> str | None:
    """The address of the archive as it was at `date`; None for today's. Raises UsageError, as `Toolchain.snapshot`."""
    return toolchain.snapshot(date, os.environ.get("XBUILD_SNAPSHOTS") or None) if date else None
