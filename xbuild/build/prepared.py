"""A build that is prepared before it runs: all its inputs, and the keys that they give it and its steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from xbuild import sources
from xbuild.base import paths
from xbuild.base.digest import file_sha256, key_of
from xbuild.base.errors import UsageError
from xbuild.build import artifact, outputs, phases
from xbuild.build.plan import Step, artifact_value, steps
from xbuild.build.request import Request
from xbuild.build.subject import Subject, read
from xbuild.roots import partners
from xbuild.sources import archive, git, trees
from xbuild.store.local import Store

MAKERS: Mapping[str, tuple[ModuleType, ...]] = {
    "layout": (sources, archive, git, trees, phases),
    "packing": (artifact, outputs),
}
"""The modules of ours that decide about packed bytes, beside those that make twins (xbuild.roots.contents): what writes
into the source directory before the first phase, or chooses a time there, is of the layout; what changes installed
files, or writes the archive, is of the packing. What only fetches (a digest says what has to come), only looks (checks)
or only carries bytes for these (base, sandbox) is neither."""


@dataclass(frozen=True)
class Prepared:
    """What a request comes to. value: all inputs, as JSON; key: the artifact's, of these. steps: the unpacking and the
    phases, each with its own key. Equal inputs have equal keys in every store.
    """

    subject: Subject
    value: Mapping[str, Any]
    key: str
    steps: tuple[Step, ...]


def prepare(request: Request, store: Store | None = None) -> Prepared:
    """What `request` comes to. store: None for the user's.

    Raises as `read`, and UsageError for an input that cannot be read.
    """
    return prepared(read(request, store))


def prepared(subject: Subject) -> Prepared:
    """As `prepare`, for what has been read."""
    recipe = subject.recipe
    value = artifact_value(
        recipe,
        subject.phases,
        subject.toolchain,
        mode=subject.mode.name,
        patches={name: _sha256(subject.patches / name) for name in recipe.patches},
        contents=_contents(subject),
        makers=_makers(),
    )
    return Prepared(subject, value, key_of(value), tuple(steps(recipe, subject.phases, value)))


def _contents(subject: Subject) -> dict[str, Any]:
    contents = subject.roots.inputs(subject.packages)
    if subject.toolchain.native:
        return contents
    request, own = subject.request, subject.recipe.twins
    if subject.mode.twins:
        # Which of those that the packages and the policy allow.
        chosen = {"remove": own.remove, "add": own.add, "without": request.without}
        contents |= partners.of(subject.roots, subject.packages).inputs()
        contents["twins"] = {name: sorted(names) for name, names in chosen.items()} | {"grouped": request.grouped}
    return contents | {"mode": subject.mode.inputs(subject.roots, request.servers)}


@cache
def _makers() -> dict[str, dict[str, str]]:
    files = {name: [Path(str(module.__file__)) for module in modules] for name, modules in MAKERS.items()}
    return {
        name: {str(file.relative_to(paths.PACKAGE)): _sha256(file) for file in below} for name, below in files.items()
    }


def _sha256(file: Path) -> str:
    try:
        return file_sha256(file)
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {error.strerror}", hint="the build's key is made from it") from error
