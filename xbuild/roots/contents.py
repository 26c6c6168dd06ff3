"""What decides about an artifact by way of roots and twins: packages, the policy, and those files of xbuild's own that
make the private tree and the dispatcher. How a thing is made decides as much about it as what it is made from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from xbuild.base import paths
from xbuild.base.digest import file_sha256
from xbuild.formats.debian import Tree
from xbuild.model.native import here
from xbuild.model.policy import Policy

_ROOMS = ("twins", "dispatcher")
"""All in these folders counts, and what of other folders that imports."""

_CARRIERS = ("base", "sandbox")
"""They read, run and write for others; what bytes come out is decided by those who call them."""

_IMPORT = re.compile(r"^[ \t]*(?:from (xbuild[\w.]*) import (\([^)]*\)|[^\n]*)|import (xbuild[\w.]*))", re.MULTILINE)


Packages = Mapping[str, str]
"""Packages by name: `VERSION ARCHITECTURE`."""


def contents(
    target: Packages, natives: Mapping[str, Packages], policy: Policy | None, imported: Mapping[str, Any] | None
) -> dict[str, Any]:
    """That part of an artifact's inputs, as JSON. natives: the native roots by architecture. policy: None: no twins.

    Which twins there are follows from all this, so they need not be made to know it.
    """
    value: dict[str, Any] = {"target root": dict(target)}
    if imported is not None:
        value["imported"] = dict(imported)
    if policy is not None:
        value |= {f"native root {name}": dict(packages) for name, packages in natives.items()}
        value["policy"] = policy.model_dump(mode="json", by_alias=True)
        value |= {"machine": here().facts(), "makers": makers(), "private": paths.PRIVATE}
    return value


def installed(tree: Tree) -> Packages:
    """What is installed in a made tree."""
    return {name: f"{package.version} {package.architecture}" for name, package in tree.packages.items()}


def maker_files(package: Path) -> list[Path]:
    """These files, sorted. package: the directory xbuild/."""
    waiting = [file for room in _ROOMS for file in (package / room).rglob("*") if file.suffix in (".py", ".c", ".h")]
    reached: set[Path] = set()
    while waiting:
        file = waiting.pop()
        if file not in reached:
            reached.add(file)
            waiting += _imports(file, package) if file.suffix == ".py" else []
    return sorted(reached)


@cache
def makers() -> dict[str, str]:
    """The sha256 of each of them, by its path in xbuild/."""
    return {str(file.relative_to(paths.PACKAGE)): file_sha256(file) for file in maker_files(paths.PACKAGE)}


def _imports(file: Path, package: Path) -> list[Path]:
    """Our own modules that a module imports anywhere in it."""
    found = []
    for match in _IMPORT.finditer(file.read_text()):
        module = match[1] or match[3]
        names = re.findall(r"\w+", match[2] or "")
        for full in (module, *(f"{module}.{name}" for name in names)):
            place = package.joinpath(*full.split(".")[1:])
            if place.relative_to(package).parts[:1] not in [(room,) for room in _CARRIERS]:
                found += [path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()]
    return found
