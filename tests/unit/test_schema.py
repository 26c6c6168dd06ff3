from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from xbuild.base import paths
from xbuild.model.schema import schemas, write_schemas

CHECKOUT = Path(__file__).parents[2]
DIRECTORIES = {
    "recipe.json": CHECKOUT / "recipes",
    "toolchain.json": CHECKOUT / "toolchains",
    "preset.json": paths.PRESETS,
    "architectures.json": paths.PACKAGE / "binfmt",
}
FILES = [(name, path) for name, directory in DIRECTORIES.items() for path in sorted(directory.glob("*.yml"))]


@cache
def schema(name: str) -> Any:
    return json.loads(schemas()[name])


def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(schema(name))


def recipe(**changes: Any) -> dict[str, Any]:
    return {**yaml.safe_load((CHECKOUT / "recipes" / "lua.yml").read_text()), **changes}


@pytest.mark.parametrize("name", sorted(schemas()))
def test_published_schemas_are_current(name: str) -> None:
    published = (CHECKOUT / "docs" / "schema" / name).read_text()
    assert published == schemas()[name], "write them again: invoke reference"


@pytest.mark.parametrize("name", sorted(schemas()))
def test_schemas_are_schemas(name: str) -> None:
    Draft202012Validator.check_schema(schema(name))


@pytest.mark.parametrize(("name", "path"), FILES, ids=lambda value: getattr(value, "stem", value))
def test_files_of_this_project_are_valid(name: str, path: Path) -> None:
    validator(name).validate(yaml.safe_load(path.read_text()))


def test_files_of_this_project_name_their_schema() -> None:
    prefix = "# yaml-language-server: $schema="
    for name, path in FILES:
        first = path.read_text().splitlines()[0]
        assert first.startswith(prefix), path
        named = (path.parent / first.removeprefix(prefix)).resolve()
        assert named == (CHECKOUT / "docs" / "schema" / name).resolve(), path


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 3.1},
        {"schema": 2},
        {"nope": 1},
        {"sources": []},
        {"sources": [{"url": "https://x.test/a", "sha256": "abc"}]},
        {"sources": [{"url": "https://x.test/a", "path": "b", "sha256": "a" * 64}]},
        {"check": {"command": "x", "timeout": 30}},
        {"env": {"A": 1}},
        {"build": {"preset": "make", "confgure": "x"}},
        {"overrides": [{"env": {}}]},
    ],
)
def test_schema_refuses_what_the_model_refuses(changes: dict[str, Any]) -> None:
    assert not validator("recipe.json").is_valid(recipe(**changes))


def test_every_field_is_described() -> None:
    for text in schemas().values():
        whole = json.loads(text)
        for part in (whole, *whole["$defs"].values()):
            assert part["description"]
            for field, body in part.get("properties", {}).items():
                assert body.get("description"), field


def test_write_schemas(tmp_path: Path) -> None:
    written = write_schemas(tmp_path / "new" / "schema")
    assert {path.name: path.read_text() for path in written} == schemas()
