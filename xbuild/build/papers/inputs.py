"""What a manifest says that went into a build, piece by piece."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from xbuild import __name__ as tool
from xbuild.sources.download import basename, shown

TARGET_ROOT = "target root"
_NATIVE_ROOT = "native root "
_ADDRESS = re.compile(r"(https?|ftp|git|ssh)://\S+")


@dataclass(frozen=True)
class Package:
    """A package of a root. native: it is of the tools', else of what the build was made in. sha256: of its .deb."""

    name: str
    version: str
    architecture: str
    sha256: str | None
    native: bool
    purl: str


@dataclass(frozen=True)
class Origin:
    """A source. address: where it comes from, "" if that is nobody else's business. sha256: of a file.

    tree: digest of what is no file, as docs/recipes.md says. commit: of git.
    """

    name: str
    version: str | None
    address: str
    purl: str | None
    sha256: str | None
    tree: str | None
    commit: str | None
    dirty: bool = False


def own_version() -> str:
    """The version of this xbuild."""
    # It takes long to load, and a plan does without.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(tool)
    except PackageNotFoundError:
        return "0"


def packages(told: Mapping[str, Any]) -> Iterator[Package]:
    """The packages of all roots, in order. told: the manifest."""
    names = [name for name in told["inputs"] if name == TARGET_ROOT or name.startswith(_NATIVE_ROOT)]
    # The root of another distribution has its own name for itself.
    imported = told.get("root", {})
    for root in names:
        native = root != TARGET_ROOT
        whose = "debian" if native else imported.get("distribution", "debian")
        release = told["suite"] if native or not imported else imported.get("suite") or ""
        for name, text in sorted(told["inputs"][root].items()):
            version, architecture, sha256 = (*text.split(" "), "")[:3]
            purl = _purl("deb", whose, name, version, arch=architecture, distro=release)
            yield Package(name, version, architecture, sha256 or None, native, purl)


def origins(told: Mapping[str, Any]) -> Iterator[Origin]:
    """The sources, in order."""
    for number, source in enumerate(told["sources"], 1):
        state = source.get("in-git", {})
        commit = source.get("commit") or state.get("commit")
        is_tree = "git" in source or source.get("tree", False)
        known: dict[str, Any] = {
            "sha256": None if is_tree else source.get("sha256"),
            "tree": source.get("sha256") if is_tree else None,
            "commit": commit,
            "dirty": bool(state.get("dirty")),
        }
        if "pypi" in source:
            name, version = source["pypi"], source.get("version", told["version"])
            yield Origin(source.get("file", name), version, "", _purl("pypi", "", name.lower(), version), **known)
        elif "path" in source:
            yield Origin(told["name"], None, "", None, **known)
        elif address := source.get("url") or source.get("git"):
            known_as = shown(address) if _ADDRESS.fullmatch(address) else ""
            where = f"git+{known_as}@{commit}" if known_as and "git" in source else known_as
            yield Origin(basename(address) or f"source-{number}", None, where, None, **known)
        else:
            part = source["distribution"]
            yield Origin(part["file"], None, "", _purl("deb", "debian", part["package"], "", arch="source"), **known)


def _purl(kind: str, namespace: str, name: str, version: str, **qualifiers: str) -> str:
    """A package URL, https://github.com/package-url/purl-spec."""
    place = "/".join(quote(part, safe="") for part in (kind, namespace, name) if part)
    more = "&".join(f"{key}={quote(value, safe='')}" for key, value in sorted(qualifiers.items()) if value)
    return f"pkg:{place}" + (f"@{quote(version, safe='')}" if version else "") + (f"?{more}" if more else "")
