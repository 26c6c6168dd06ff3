"""What decides about an artifact by way of roots and twins is in its key: each file, each field of the policy."""

from __future__ import annotations

import ast
import shutil
import types
import typing
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.unit.sources import nodes_of
from xbuild.base import paths
from xbuild.base.digest import key_of
from xbuild.base.yamlfile import load_model
from xbuild.model.base import Model
from xbuild.model.policy import Equivalent, Further, Policy, ReplacedBytes, Tool
from xbuild.roots.contents import contents, maker_files, makers

POLICY = load_model(paths.POLICIES / "default.yml", Policy)
PACKAGE = paths.PACKAGE
CARRIERS = ("base", "sandbox")
MAKERS = maker_files(PACKAGE)
SAMPLES: dict[Any, Any] = {
    Further: Further(trait="x"),
    Equivalent: Equivalent(tools=("sed",), why="x", risk="y"),
    ReplacedBytes: ReplacedBytes(trait="x", old="00", new="01"),
    Tool: Tool(packages=("x",)),
    str: "x",
    int: 7,
}


def key(policy: Policy) -> str:
    return key_of(contents({}, {}, policy, None))


def other(annotation: Any, value: Any) -> Any:
    """Another value than `value` of a field with this annotation."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return other(bare(next(kind for kind in arguments if kind is not type(None))), value)
    if origin is Literal:
        # What has one value only is another's turn to change: of the format, say.
        return next((choice for choice in arguments if choice != value), None)
    if origin is tuple:
        return (*(value or ()), SAMPLES[bare(arguments[0])])
    if origin is dict:
        return {**value, "x": SAMPLES[bare(arguments[1])]}
    if annotation is bool:
        return not value
    return f"{value}x" if annotation is str else SAMPLES[annotation]


def bare(annotation: Any) -> Any:
    """Without what checks values."""
    return typing.get_args(annotation)[0] if typing.get_origin(annotation) is typing.Annotated else annotation


def changes(model: Model) -> Iterator[tuple[str, Any]]:
    """Each field of a model, with another value for it."""
    for name, field in type(model).model_fields.items():
        found = other(field.annotation, getattr(model, name))
        if found is not None:
            yield name, found


def with_tool(**update: Any) -> Policy:
    return POLICY.model_copy(update={"tools": {**POLICY.tools, "sed": TOOL.model_copy(update=update)}})


TOOL = Tool(packages=("sed",), further=(SAMPLES[Further],))
FIELDS = [
    *((f"policy.{name}", POLICY.model_copy(update={name: value})) for name, value in changes(POLICY)),
    *((f"tool.{name}", with_tool(**{name: value})) for name, value in changes(TOOL)),
    *((f"further.{name}", with_tool(further=(SAMPLES[Further].model_copy(update={name: value}),)))
      for name, value in changes(SAMPLES[Further])),
    *((f"equivalent.{name}", POLICY.model_copy(update={"equivalents": (
        SAMPLES[Equivalent].model_copy(update={name: value}),)})) for name, value in changes(SAMPLES[Equivalent])),
]  # fmt: skip


def test_no_field_is_left_out() -> None:
    told = {name for name, _ in FIELDS}
    for prefix, model in (("policy", Policy), ("tool", Tool), ("further", Further), ("equivalent", Equivalent)):
        wanted = {f"{prefix}.{name}" for name in model.model_fields} - {"policy.schema_version"}
        assert wanted <= told, prefix


@pytest.mark.parametrize(("name", "changed"), FIELDS, ids=[name for name, _ in FIELDS])
def test_each_field_of_the_policy_counts(name: str, changed: Policy) -> None:
    plain = {"policy": POLICY, "tool": with_tool(), "further": with_tool()}.get(name.partition(".")[0])
    plain = plain or POLICY.model_copy(update={"equivalents": (SAMPLES[Equivalent],)})
    assert key(plain) == key(plain.model_copy(deep=True))
    assert key(changed) != key(plain)


def test_each_file_that_makes_twins_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte more in it, in a copy of the package."""
    copy = tmp_path / "xbuild"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(paths, "PACKAGE", copy)

    def key_now() -> str:
        makers.cache_clear()
        return key(POLICY)

    keys = [key_now()]
    for file in MAKERS:
        with (copy / file.relative_to(PACKAGE)).open("ab") as stream:
            stream.write(b"\n")
        keys.append(key_now())
    makers.cache_clear()
    same = [str(file) for file, (before, after) in zip(MAKERS, pairwise(keys), strict=True) if before == after]
    assert same == []


def test_what_makes_twins() -> None:
    """The rule against the folders, and against the imports as Python's own parser reads them."""
    for folder in ("twins", "dispatcher"):
        files = {file for suffix in ("py", "c", "h") for file in (PACKAGE / folder).glob(f"*.{suffix}")}
        assert len(files) > 4
        assert files <= set(MAKERS)
    for file in MAKERS:
        for node in nodes_of(file) if file.suffix == ".py" else ():
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("xbuild"):
                assert all(found in MAKERS for found in imported(node))
            elif isinstance(node, ast.Import):
                assert not any(name.name.startswith("xbuild") for name in node.names)
    names = {str(file.relative_to(PACKAGE)) for file in MAKERS}
    assert {"dispatcher/shim.c", "twins/strings.py", "twins/gcctable.py", "twins/limits.py", "formats/elf.py"} <= names


def imported(node: ast.ImportFrom) -> list[Path]:
    places = [PACKAGE.parent.joinpath(*f"{node.module}{end}".split("."))
              for end in ("", *(f".{name.name}" for name in node.names))]  # fmt: skip
    files = [file for place in places for file in (place.with_suffix(".py"), place / "__init__.py") if file.exists()]
    return [file for file in files if file.relative_to(PACKAGE).parts[0] not in (*CARRIERS, "__init__.py")]


def test_a_new_file_counts_by_itself(tmp_path: Path) -> None:
    for folder in ("twins", "dispatcher", "model", "base"):
        (tmp_path / folder).mkdir()
    (tmp_path / "twins/new.py").write_text(
        "def f():\n    from xbuild.model import (\n        one,\n        two,\n    )\n"
    )
    (tmp_path / "model/one.py").write_text("import xbuild.base.log\nfrom xbuild.model.three import x\n")
    for name in ("model/two.py", "model/three.py", "model/four.py", "base/log.py", "dispatcher/new.h", "twins/notes"):
        (tmp_path / name).write_text("")
    found = [str(file.relative_to(tmp_path)) for file in maker_files(tmp_path)]
    assert found == ["dispatcher/new.h", "model/one.py", "model/three.py", "model/two.py", "twins/new.py"]
