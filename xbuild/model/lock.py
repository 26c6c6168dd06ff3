"""A lock file: the packages that a recipe is built with, exactly, by target; it lies beside the recipe."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

from pydantic import Field

from xbuild.base.errors import SourceError
from xbuild.base.yamlfile import load_model
from xbuild.model.base import Model, Name, Package, SchemaVersion, text_like
from xbuild.model.relation import Profile, Relation, is_name
from xbuild.model.toolchain import Suite

HEAD = "# What this recipe is built with. Made by `xbuild lock RECIPE`; with --update it takes newer packages.\n"

Held = Annotated[str, *text_like(r"\S+ [a-z0-9]+ [0-9a-f]{64}", "version, architecture and sha256")]


class LockedRoot(Model):
    """The packages of one root, or of a layer over one."""

    wanted: tuple[Relation, ...] = Field(description="What was asked for")
    profiles: tuple[Profile, ...] = Field((), description="Under which build profiles")
    packages: dict[Package, Held] = Field(description="What came of it: `VERSION ARCHITECTURE SHA256` by name")


class LockedTarget(Model):
    """What a build for one target is made with."""

    suite: Suite = Field(description="The distribution's release")
    snapshot: str | None = Field(None, description="The day of the archive whose packages these are")
    roots: dict[str, LockedRoot] = Field(description="Native roots, target root, build dependencies, native layer")


class Lock(Model):
    """A lock file."""

    schema_version: SchemaVersion = Field(alias="schema", description="Version of this format")
    targets: dict[Name, LockedTarget] = Field(description="By target; others are not locked")


def lock_path(recipe: Path) -> Path:
    """Where the lock file of the recipe in the file `recipe` is or would be: zlib.yml has zlib.lock."""
    return recipe.with_suffix(".lock")


def load_lock(recipe: Path) -> Lock | None:
    """The lock file of a recipe's file; None if it has none. Raises RecipeError for a wrong one."""
    path = lock_path(recipe)
    return load_model(path, Lock) if os.path.lexists(path) else None


def write_lock(recipe: Path, lock: Lock) -> Path:
    """Write it: a line a package, in a fixed order. Raises SourceError if that cannot be."""
    lines = [HEAD, "schema: 1\n", "targets:\n"]
    for name, target in sorted(lock.targets.items()):
        lines += [f"  {name}:\n", f"    suite: {target.suite}\n"]
        lines += [f"    snapshot: '{target.snapshot}'\n"] if target.snapshot else []
        lines += ["    roots:\n"]
        for what, root in sorted(target.roots.items()):
            lines += [f"      {what}:\n", f"        wanted: [{', '.join(map(_quoted, sorted(root.wanted)))}]\n"]
            lines += [f"        profiles: [{', '.join(map(json.dumps, root.profiles))}]\n"] if root.profiles else []
            lines += ["        packages:\n"] if root.packages else ["        packages: {}\n"]
            lines += [f"          {package}: {held}\n" for package, held in sorted(root.packages.items())]
    path = lock_path(recipe)
    try:
        path.write_text("".join(lines), encoding="utf-8")
    except OSError as error:
        message = f"cannot write {path}: {error.strerror}"
        raise SourceError(message, hint="name a recipe of your own project, by its path") from error
    return path


def _quoted(relation: str) -> str:
    return relation if is_name(relation) else json.dumps(relation)
