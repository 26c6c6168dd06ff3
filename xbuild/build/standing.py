"""How it stands with a build: what the store has of it, and what is left to do. Looking makes nothing but keys."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xbuild.base.digest import damage, damaged, key_of, read_json
from xbuild.base.errors import MachineError, SourceError, UsageError
from xbuild.build import phases
from xbuild.build.plan import Action, Facts, plan, waiting
from xbuild.build.prepared import NotBuiltError, Prepared, prepared, staged
from xbuild.build.subject import Subject
from xbuild.model.phases import UNPACK
from xbuild.roots import partners
from xbuild.roots.unmet import UnmetError
from xbuild.sources import downloaded
from xbuild.store.differences import diff_values


def things(subject: Subject) -> dict[str, bool]:
    """Roots, layers, twins and artifacts of recipes that the build needs, and whether each is in the store."""
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
    there |= {f"recipe {name}": one for name, one in recipes(subject).items()}
    return there | ({f"imported root {subject.imported.name}": True} if subject.imported else {})


def recipes(subject: Subject) -> dict[str, bool]:
    """The recipes that it needs, in the order in which they are built, and whether each is there as it would be now."""
    try:
        staged(subject)
    except NotBuiltError as error:
        return {need.recipe.name: need.recipe.name not in error.waiting for need in subject.needs}
    return {need.recipe.name: True for need in subject.needs}


def facts(build: Prepared) -> Facts:
    """What the store holds for this build."""
    subject = build.subject
    there, done = things(subject), phases.Progress(subject.place).done()
    changed = tuple(changes(subject, build.value))
    return Facts(there, _sources(subject), done, artifact(build) is not None, changed)


def _sources(subject: Subject) -> dict[str, bool]:
    # What is of the project is at hand.
    return {
        f"source {source.digest[:12]}": source.path is not None or bool(downloaded(source, subject.store))
        for source in subject.recipe.sources
    }


def waiting_actions(subject: Subject, error: NotBuiltError) -> list[Action]:
    """The plan of a build whose key is not known, for the recipes that `error` names are to be built first."""
    subject = subject.settled()
    names = [f"recipe {name}" for name in error.waiting]
    there = {name: found for name, found in things(subject).items() if name not in names}
    steps = [UNPACK, *(phase.name for phase in subject.phases)]
    return waiting(steps, Facts(there, _sources(subject)), error.waiting)


def actions(build: Prepared, present: Facts) -> list[Action]:
    """The plan, from what the store holds: `facts`."""
    return plan(build.steps, present, start=build.subject.request.here.start)


def artifact(build: Prepared) -> Path | None:
    """The finished artifact in the store; None if there is none, or a damaged one."""
    entry = build.subject.store.get("artifacts", build.key)
    return entry if entry and damage(entry) is None else None


def built(subject: Subject) -> bool:
    """Whether the store has an artifact of this recipe, target and mode, of whatever inputs."""
    return any(subject.is_of(value) for _, _, value in subject.store.finished("artifacts"))


def not_built(subject: Subject) -> UsageError:
    """The error that says so, for commands that want an artifact."""
    hint = f"invoke build {subject.command_line()}"
    if built(subject):
        # As `why` tells: which inputs changed.
        return UsageError(f"there is no artifact of {subject.title} as it would be built now", hint=hint)
    return UsageError(f"there is no artifact of {subject.title}", hint=hint)


def changes(subject: Subject, value: Mapping[str, Any]) -> list[str]:
    """How the inputs differ from those of the newest artifact of this recipe, target and mode; [] if none."""
    for _, _, other in subject.store.finished("artifacts"):
        if subject.is_of(other):
            return diff_values(other, value)
    return []


def took(subject: Subject) -> dict[str, float]:
    """Seconds by phase of the newest artifact of this recipe, target and mode; {} if there is none."""
    for path, _, value in subject.store.finished("artifacts"):
        if subject.is_of(value):
            try:
                told = read_json(path / f"{subject.file_name}.manifest.json")["phases"]
                return {name: float(seconds) for name, seconds in told.items()}
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                # Only whoever watches misses it.
                return {}
    return {}


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
    except (MachineError, SourceError, UnmetError, NotBuiltError):
        # Without a network nobody knows what the roots would have today, nor without a tree what it is like now, nor
        # what a recipe that is to be built first will be; what was built has its logs all the same.
        present = None
    if present in own:
        return present / name, True
    return next(((path / name, False) for path in own if damaged(path) is None), None)
