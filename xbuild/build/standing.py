"""How it stands with a build: what the store has of it, and what is left to do. Looking makes nothing but keys."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xbuild.base.digest import damage, damaged, key_of
from xbuild.base.errors import MachineError
from xbuild.build import phases
from xbuild.build.plan import Action, Facts, plan
from xbuild.build.prepared import Prepared, prepared
from xbuild.build.subject import Subject
from xbuild.roots import partners
from xbuild.sources import downloaded
from xbuild.store.differences import diff_values


def things(subject: Subject) -> dict[str, bool]:
    """Roots, layers and twins that the build needs, and whether each is in the store."""
    roots, native = subject.roots, subject.toolchain.native
    wanted: list[tuple[str, str, Any]] = []
    if not native:
        names = roots.native_architectures()
        wanted += [(f"native root {name}", "roots", roots.native_value(name)) for name in names]
        wanted += [("twins", "twins", roots.private_value())]
    if subject.imported is None:
        wanted += [(f"target root {subject.toolchain.name}", "roots", roots.base_value())]
    if not native:
        wanted += subject.mode.things(roots)
    if subject.packages:
        wanted += [("build dependencies", "layers", roots.layer_value(subject.packages))]
    if subject.mode.twins and (value := partners.of(roots, subject.packages).value()):
        wanted += [(partners.WHAT, "twins", value)]
    there = {title: subject.store.get(kind, key_of(value)) is not None for title, kind, value in wanted}
    return there | ({f"imported root {subject.imported.name}": True} if subject.imported else {})


def facts(build: Prepared) -> Facts:
    """What the store holds for this build. Raises SourceError as `Subject.require_sources`."""
    subject = build.subject
    subject.require_sources()
    there, done = things(subject), phases.Progress(subject.place).done()
    # What is of the project is at hand.
    sources = {
        f"source {source.sha256[:12]}": source.path is not None or bool(downloaded(source, subject.store))
        for source in subject.recipe.sources
    }
    return Facts(there, sources, done, artifact(build) is not None, tuple(changes(subject, build.value)))


def actions(build: Prepared, present: Facts) -> list[Action]:
    """The plan, from what the store holds: `facts`."""
    return plan(build.steps, present, start=build.subject.request.here.start)


def artifact(build: Prepared) -> Path | None:
    """The finished artifact in the store; None if there is none, or a damaged one."""
    entry = build.subject.store.get("artifacts", build.key)
    return entry if entry and damage(entry) is None else None


def changes(subject: Subject, value: Mapping[str, Any]) -> list[str]:
    """How the inputs differ from those of the newest artifact of this recipe, target and mode; [] if none."""
    for _, _, other in subject.store.finished("artifacts"):
        if subject.is_of(other):
            return diff_values(other, value)
    return []


def kept(subject: Subject, name: str) -> tuple[Path, bool] | None:
    """The directory `name` (records, logs) that the artifact of the present inputs has, and True.

    Else that of the newest one of the same recipe, target, suite and mode, and False; None if there is none.
    """
    suite, root = subject.toolchain.distribution.suite, subject.root_value().get("imported")
    own = [
        path
        for path, _, value in subject.store.finished("artifacts")
        if subject.is_of(value) and value["target"]["distribution"]["suite"] == suite
        and value.get("contents", {}).get("imported") == root and (path / name).is_dir()
    ]  # fmt: skip
    if not own:
        return None
    try:
        present = artifact(prepared(subject))
    except MachineError:
        # Without a network nobody knows what the roots would have today; what was built has its logs all the same.
        present = None
    if present in own:
        return present / name, True
    return next(((path / name, False) for path in own if damaged(path) is None), None)
