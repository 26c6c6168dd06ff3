"""A build that is prepared before it runs: all its inputs, and the keys that they give it and its steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from xbuild.base.digest import file_sha256, key_of
from xbuild.build.ground import Ground, lay
from xbuild.build.plan import Step, artifact_value, steps
from xbuild.build.request import Request
from xbuild.build.subject import Subject, read
from xbuild.dispatcher.table import Entry
from xbuild.store.local import Store


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
    """What `request` comes to. store: None for the user's. Raises as `read`."""
    return prepared(read(request, store))


def prepared(subject: Subject, ground: Ground | None = None) -> Prepared:
    """As `prepare`, for what has been read. ground: that of `subject`, if it has been laid; else it is, for the roots'
    contents are among the inputs.
    """
    recipe, toolchain = subject.recipe, subject.toolchain
    value = artifact_value(
        recipe,
        subject.phases,
        toolchain,
        mode=subject.mode.name,
        patches={name: file_sha256(subject.patches / name) for name in recipe.patches},
        contents=_contents(subject, ground or lay(subject)),
    )
    return Prepared(subject, value, key_of(value), tuple(steps(recipe, subject.phases, value)))


def _contents(subject: Subject, ground: Ground) -> dict[str, Any]:
    contents: dict[str, Any] = {name: package.version for name, package in ground.tree.packages.items()}
    native: dict[str, Any] = {}
    if ground.natives is not None:
        native = {"qemu": file_sha256(ground.natives.private / "qemu")}
        native |= {
            f"{twin.tool}:{twin.target_path}": f"{twin.package} {twin.version} {twin.architecture}"
            for twin in ground.pairs.twins
        }
        if ground.pairs.entries:
            native["rules"] = rules_digest(ground.pairs.entries)
        native |= subject.mode.inputs(subject.roots, subject.toolchain, subject.request.servers)
    return {"root": contents, "native": native, **subject.root_value()}


def rules_digest(entries: Iterable[Entry]) -> str:
    """When the target's own programs run in the place of their twins, by the policy, as a sha256 in hex."""
    return key_of(sorted((entry.path, entry.rules.model_dump(mode="json")) for entry in entries))
