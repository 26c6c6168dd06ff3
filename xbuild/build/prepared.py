"""A build that is prepared before it runs: all its inputs, and the keys that they give it and its steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from xbuild.base import paths
from xbuild.base.digest import file_sha256, key_of, read_json
from xbuild.base.errors import UsageError
from xbuild.build.kept import base_of
from xbuild.build.plan import Step, artifact_value, steps
from xbuild.build.request import Request
from xbuild.build.subject import Subject, read
from xbuild.roots import partners, staging
from xbuild.sources.local import is_whole
from xbuild.store.local import Store

MAKERS: Mapping[str, tuple[str, ...]] = {
    "layout": ("sources/__init__.py", "sources/archive.py", "sources/git.py", "sources/trees.py", "build/phases.py"),
    "packing": ("build/artifact.py", "build/outputs.py", "build/strip.py"),
}
"""The modules of ours that decide about packed bytes, beside those that make twins (xbuild.roots.contents): what writes
into the source directory before the first phase, or chooses a time there, is of the layout; what changes installed
files, or writes the archive, is of the packing. What only fetches (a digest says what has to come), only looks (checks)
or only carries bytes for these (base, sandbox) is neither."""


@dataclass(frozen=True)
class Prepared:
    """What a request comes to. value: all inputs, as JSON; key: the artifact's, of these. steps: the unpacking and the
    phases, each with its own key. Equal inputs have equal keys in every store. base: of the tree that stays, if any.
    staged: what it needs of other recipes, in the order of `Subject.needs`.
    """

    subject: Subject
    value: Mapping[str, Any]
    key: str
    steps: tuple[Step, ...]
    base: str | None = None
    staged: tuple[Staged, ...] = ()


@dataclass(frozen=True)
class Staged:
    """The artifact of a recipe that a build needs. sha256: of the file `archive`, by which its files count."""

    name: str
    version: str
    key: str
    sha256: str
    archive: Path


class NotBuiltError(UsageError):
    """Recipes that a build needs have no artifact as they would be built now, so its key is not known yet.

    waiting: for each of them, by name, those that its own key waits for; in the order in which they are built.
    """

    waiting: Mapping[str, tuple[str, ...]] = {}


Known = dict[Request, Staged]
"""What was found already, by request: for who looks at many builds at once, while nothing is built."""


def prepare(request: Request, store: Store | None = None) -> Prepared:
    """What `request` comes to. store: None for the user's.

    Raises as `read` and `Subject.settled`, UsageError for an input that cannot be read, and NotBuiltError.
    """
    return prepared(read(request, store))


def prepared(subject: Subject, known: Known | None = None) -> Prepared:
    """As `prepare`, for what has been read; its own subject is `Subject.settled`."""
    return _prepared(subject.settled(), staged(subject, known))


def own_inputs(subject: Subject) -> Mapping[str, Any]:
    """All inputs but the artifacts of the recipes that it needs: known before these are built."""
    return _prepared(subject.settled(), ()).value


def staged(subject: Subject, known: Known | None = None) -> tuple[Staged, ...]:
    """The artifacts of `Subject.needs`, as these would be built now. Raises NotBuiltError if one is not there."""
    known = {} if known is None else known
    waiting: dict[str, tuple[str, ...]] = {}
    for need in subject.needs:
        before = tuple(one.recipe.name for one in need.needs if one.recipe.name in waiting)
        if not before and need.request not in known:
            build = _prepared(need.settled(), tuple(known[one.request] for one in need.needs))
            if (found := _found(build)) is not None:
                known[need.request] = found
        if need.request not in known:
            waiting[need.recipe.name] = before
    if waiting:
        first = next(name for name, before in waiting.items() if not before)
        error = NotBuiltError(
            f"{subject.title} needs {', '.join(waiting)}, not built as it would be now: its key is known after that",
            hint=f"invoke build {subject.command_line()}    (builds what it needs first; {first} to begin with)",
        )
        error.waiting = waiting
        raise error
    return tuple(known[need.request] for need in subject.needs)


def _found(build: Prepared) -> Staged | None:
    subject = build.subject
    entry = subject.store.get("artifacts", build.key)
    if entry is None:
        return None
    recipe, file = subject.recipe, entry / f"{subject.file_name}.manifest.json"
    try:
        sha256 = read_json(file)["artifact"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        # It is damaged, and who builds it sees that too.
        return None
    return Staged(recipe.name, recipe.version, build.key, sha256, entry / f"{subject.file_name}.tar.zst")


def _prepared(subject: Subject, found: tuple[Staged, ...]) -> Prepared:
    recipe = subject.recipe
    value = artifact_value(
        recipe,
        subject.phases,
        subject.toolchain,
        mode=subject.mode.name,
        patches={name: _sha256(subject.patches / name) for name in recipe.patches},
        contents=_contents(subject) | _staged_contents(found),
        makers=_makers(),
    )
    chained = tuple(steps(recipe, subject.phases, value))
    return Prepared(subject, value, key_of(value), chained, _base(subject, value), found)


def _base(subject: Subject, value: Mapping[str, Any]) -> str | None:
    """What a tree that stays stands for, whatever the project's files are."""
    found = (subject.local or (None,))[0]
    if not subject.recipe.build.incremental or found is None or not found.records or is_whole(found.origin):
        # What came from another machine does not come to the same place again.
        return None
    plain = tuple(source.model_copy(update={"sha256": None}) for source in subject.recipe.sources)
    recipe = subject.recipe.model_copy(update={"sources": plain})
    return base_of(found.origin, steps(recipe, subject.phases, value)[-1])


def _staged_contents(found: Sequence[Staged]) -> dict[str, Any]:
    """What the recipes that it needs can put into an artifact: bytes, not how they came about."""
    if not found:
        return {}
    return {"recipes": {one.name: one.sha256 for one in found}, "staging": staging.makers()}


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
    return {kind: {name: _sha256(paths.PACKAGE / name) for name in names} for kind, names in MAKERS.items()}


def _sha256(file: Path) -> str:
    try:
        return file_sha256(file)
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {error.strerror}", hint="the build's key is made from it") from error
