"""How it stands with a build: what the store has of it, and what is left to do. Looking makes nothing but keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from xbuild.base.digest import damage, damaged, key_of
from xbuild.build import phases
from xbuild.build.plan import Action, Facts, Step, plan
from xbuild.build.prepared import Prepared, prepared
from xbuild.build.subject import Subject
from xbuild.model.phases import UNPACK
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
    there = {title: subject.store.get(kind, key_of(value)) is not None for title, kind, value in wanted}
    return there | ({f"imported root {subject.imported.name}": True} if subject.imported else {})


def keyed(subject: Subject) -> Prepared | None:
    """`subject`, prepared; None if something that its key is from is not in the store."""
    return prepared(subject) if all(things(subject).values()) else None


def facts(subject: Subject) -> Facts:
    """What the store holds for this build. Raises SourceError as `Subject.require_sources`."""
    subject.require_sources()
    there, done = things(subject), phases.Progress(subject.place).done()
    # What is of the project is at hand.
    sources = {
        f"source {source.sha256[:12]}": source.path is not None or bool(downloaded(source, subject.store))
        for source in subject.recipe.sources
    }
    build = keyed(subject)
    if build is None:
        return Facts(there, sources, done)
    return Facts(there, sources, done, artifact(build) is not None, tuple(changes(subject, build.value)))


def actions(subject: Subject) -> list[Action]:
    """The plan, from what the store holds now."""
    store, build, start = facts(subject), keyed(subject), subject.request.here.start
    if build is None:
        # What the roots will hold is not known yet, so no key is: all steps are to be run.
        wanted = [Step(name, "") for name in (UNPACK, *(phase.name for phase in subject.phases))]
        return plan(wanted, replace(store, done=()), start=start)
    return plan(build.steps, store, start=start)


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
    build = keyed(subject)
    present = artifact(build) if build else None
    if present and (present / name).is_dir():
        return present / name, True
    suite = subject.toolchain.distribution.suite
    for path, _, value in subject.store.finished("artifacts"):
        same_root = value.get("contents", {}).get("imported") == subject.root_value().get("imported")
        own = subject.is_of(value) and value["target"]["distribution"]["suite"] == suite and same_root
        if own and (path / name).is_dir() and damaged(path) is None:
            return path / name, False
    return None
