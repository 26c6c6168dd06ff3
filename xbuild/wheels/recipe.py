"""The recipe that a project comes to: an ordinary file, so that wheels are built and explained as any recipe is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from xbuild.base.digest import key_of
from xbuild.build.wheeltwins import FOR_BUILDS, FOR_NATIVES, FOR_TOOLS
from xbuild.model.load import SUFFIX
from xbuild.store.local import Store, writing_below
from xbuild.wheels.find import Project
from xbuild.wheels.python import PRESET
from xbuild.wheels.require import PLACE, Found

_DIGITS = 8


@dataclass(frozen=True)
class Options:
    """What is asked of a wheel, and decides about what comes out.

    depends: the distribution's packages that it is built against. build_requires: requirements in the place of the
    project's own of these names. config_settings: KEY=VALUE for the backend. before_build: shell text. environment:
    variables. repair: whether auditwheel gives it its tag; repair_args: for that. data: as of a recipe. linux_tag:
    a tag that says nothing of the C library will do.
    """

    depends: tuple[str, ...] = ()
    build_requires: tuple[str, ...] = ()
    config_settings: tuple[str, ...] = ()
    before_build: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    repair: bool = True
    repair_args: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    linux_tag: bool = False

    @property
    def tagged(self) -> bool:
        """Whether the tag has to be one that indexes take."""
        return self.repair and not self.linux_tag


@dataclass(frozen=True)
class Needs:
    """What a build needs besides. build, tools: wheels of the build requirements, and of auditwheel. native: of this
    machine, where programs of the first ones are known tools. packages: of the distribution. answered: what the backend
    asked for while it ran, all of it among these.
    """

    build: tuple[Found, ...] = ()
    tools: tuple[Found, ...] = ()
    packages: tuple[str, ...] = ()
    answered: tuple[str, ...] = ()
    native: tuple[Found, ...] = ()


def place_of(project: Project, options: Options, target: str, store: Store) -> Path:
    """The directory of the store for a project's recipe, and for what is known of its builds for this target.

    target: with all that decides about what requirements it has.
    """
    top = str(project.directory) if project.directory else ""
    what = key_of([project.version, target, asdict(options), top])[:_DIGITS]
    return store.directory(PLACE) / f"{project.name}_{project.version.replace('!', '-')}-{what}"


def recipe_of(project: Project, options: Options, needs: Needs, place: Path, store: Store) -> Path:
    """The file of the recipe, written to `place` in the store."""
    file = place / f"{project.name}{SUFFIX}"
    text = recipe_text(project, options, needs)
    with writing_below(store.root):
        place.mkdir(exist_ok=True)
        beside = file.with_suffix(".new")
        beside.write_text(text, encoding="utf-8")
        beside.replace(file)
    return file


def recipe_text(project: Project, options: Options, needs: Needs) -> str:
    """The recipe as YAML."""
    words: dict[str, Any] = {
        "config-settings": list(options.config_settings),
        "answered": list(needs.answered),
        "before-build": options.before_build,
        "repair-args": list(options.repair_args),
    }
    own: dict[str, Any] = {name: value for name, value in words.items() if value}
    packages = sorted({*options.depends, *needs.packages})
    value: dict[str, Any] = {
        "schema": 1,
        "name": project.name,
        "version": project.version.replace("!", "-"),
        "summary": f"A wheel of {project.name} {project.version}",
        "sources": [
            dict(project.source),
            *_wheels(needs.build, FOR_BUILDS),
            *_wheels(needs.native, FOR_NATIVES),
            *_wheels(needs.tools, FOR_TOOLS),
        ],
        **({"depends": {"packages": packages}} if packages else {}),
        "build": {"preset": PRESET, "options": own if options.repair else {**own, "repair": False}},
        **({"env": dict(options.environment)} if options.environment else {}),
        "outputs": [{"path": "*.whl", "kind": "file"}],
        **({"data": list(options.data)} if options.data else {}),
    }
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)


def _wheels(found: Sequence[Found], folder: str) -> list[dict[str, Any]]:
    return [{**one.source, "into": folder} for one in found]
