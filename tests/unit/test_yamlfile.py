from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from xbuild.base.errors import RecipeError
from xbuild.base.yamlfile import (
    Node,
    Problem,
    _good,
    _with_errors,
    did_you_mean,
    file_error,
    load_model,
    read_tree,
    shown,
)
from xbuild.model.base import Model

PROJECT = Path(__file__).parents[2]


class Part(Model):
    sha256: str
    kind: Literal["file", "executable"] = "file"
    strip_level: int = 1


class Sample(Model):
    version: str
    parts: tuple[Part, ...] = ()
    env: dict[str, str] = Field(default_factory=dict)
    best: Part | None = None


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "sample.yml"


def errors(file: Path, text: str | bytes) -> list[str]:
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(RecipeError) as caught:
        load_model(file, Sample)
    return list(caught.value.details) or [caught.value.message]


def test_good_file(file: Path) -> None:
    file.write_text('version: "1.0"\nparts: [{sha256: ab, kind: executable, strip-level: 2}]\nenv: {A: b}\n')
    sample = load_model(file, Sample)
    assert sample.parts[0] == Part(sha256="ab", kind="executable", strip_level=2)
    assert sample.model_dump(mode="json", by_alias=True)["parts"][0]["strip-level"] == 2


def test_all_errors_at_once_in_the_order_of_lines(file: Path) -> None:
    text = "version: 3.1\nparts:\n  - sha265: ab\n    kind: exectable\nbset: {}\nenv: []\n"
    assert errors(file, text) == [
        "sample.yml:1:1: version: must be quoted: YAML read 3.1, a number",
        "sample.yml:3:5: parts.0.sha256: is missing",
        "sample.yml:3:5: parts.0.sha265: unknown field; did you mean 'sha256'?",
        "sample.yml:4:5: parts.0.kind: 'exectable' is not one of file, executable; did you mean"
        " 'executable'?",
        "sample.yml:5:1: bset: unknown field; did you mean 'best'?",
        "sample.yml:6:1: env: must be a mapping",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("version: 3\n", "1:1: version: must be quoted: YAML read 3, a number"),
        ("version: no\n", "1:1: version: must be quoted: YAML read False, a yes/no value"),
        ("version: 2024-01-02\n", "1:1: version: must be quoted: YAML read 2024-01-02, a date"),
        ("version:\n", "1:1: version: must be text, but is empty"),
        ("version: [a]\n", "1:1: version: must be text"),
        ("parts: []\n", "1:1: version: is missing"),
        ("version: a\nparts: {}\n", "2:1: parts: must be a list"),
        ("version: a\nparts:\n  - text\n", "3:5: parts.0: must be a mapping"),
        ("version: a\nenv:\n  A: 1\n", "3:3: env.A: must be quoted: YAML read 1, a number"),
        ("version: a\nparts:\n  - {sha256: a, strip_level: 3}\n",
         "3:17: parts.0.strip_level: unknown field; did you mean 'strip-level'?"),
        ("version: a\nbest: {sha266: a, sha256: b}\n",
         "2:8: best.sha266: unknown field; did you mean 'sha256'?"),
        ("version: a\nversion: b\n", "2:1: key 'version' given twice (first on line 1)"),
        ("version: a\nenv: {A: x, A: y}\n", "2:13: key 'A' given twice (first on line 2)"),
        ("version: a\nenv: {on: x}\n", "2:7: key 'on' must be text: quote it"),
        ("version: &v a\nenv: {A: *v}\n", "1:10: not YAML: anchors and aliases (& and *) are not supported"),
        ("version: 2024-13-45\n", "1:10: not YAML: month must be in 1..12: quote it"),
        ("", "1:1: the file is empty"),
        ("- a\n", "1:1: must be a mapping"),
    ],
)  # fmt: skip
def test_bad_files(file: Path, text: str, expected: str) -> None:
    assert errors(file, text) == [f"sample.yml:{expected}"]


def test_not_yaml_has_a_position(file: Path) -> None:
    (line,) = errors(file, "version: [a\nenv: b\n")
    assert line.startswith("sample.yml:2:4: not YAML: ")


def test_two_documents_are_refused(file: Path) -> None:
    (line,) = errors(file, "version: a\n---\nversion: b\n")
    assert line.startswith("sample.yml:2:1: not YAML: ")


def test_unsafe_tags_are_refused(file: Path) -> None:
    (line,) = errors(file, "version: !!python/object/apply:os.getcwd []\n")
    assert line == "sample.yml:1:10: not YAML: tags (!) are not supported"


def test_unknown_scalar_tag_is_refused(file: Path) -> None:
    (line,) = errors(file, "version: !secret x\n")
    assert line == "sample.yml:1:10: not YAML: tags (!) are not supported"


def test_not_utf8_and_not_there(file: Path) -> None:
    assert errors(file, b"version: \xff\n") == ["sample.yml:1:10: is not UTF-8 text: byte 9: invalid start byte"]
    file.unlink()
    with pytest.raises(RecipeError, match=r"^sample.yml: cannot be read: No such file"):
        read_tree(file)


def test_preprocess_can_rewrite_and_its_problems_are_reported_with_the_others(file: Path) -> None:
    file.write_text("env: {A: b}\n")

    def add_version(tree: Node) -> tuple[Node, list[Problem]]:
        return Node({**tree.value, "version": Node("1")}), []

    assert load_model(file, Sample, add_version).version == "1"

    def complain(tree: Node) -> tuple[Node, list[Problem]]:
        return tree, [Problem.at(tree, ("env", "A", "deeper"), "is odd")]

    with pytest.raises(RecipeError) as caught:
        load_model(file, Sample, complain)
    assert caught.value.details == (
        "sample.yml:1:1: version: is missing",
        "sample.yml:1:7: env.A.deeper: is odd",
    )


def test_the_message_counts_the_errors(file: Path) -> None:
    one, two = Problem(1, 1, "", "a"), Problem(2, 1, "", "b")
    assert file_error(file, [one, one]).message == "sample.yml: 1 error"
    assert file_error(file, [two, one]).message == "sample.yml: 2 errors"
    assert file_error(file, [one]).exit_code == 2


def test_tree_keeps_values_and_positions(file: Path) -> None:
    file.write_text("a:\n  - b: 1\n    c: yes\n")
    tree = read_tree(file)
    assert tree.plain() == {"a": [{"b": 1, "c": True}]}
    found = tree.find("a", 0, "c")
    assert found is not None
    assert (found.line, found.column) == (3, 5)
    assert tree.find("a", 1) is None
    assert tree.find("a", 0, "b", "x") is None


def test_did_you_mean() -> None:
    assert did_you_mean("pyhton", ["zlib", "python"]) == "; did you mean 'python'?"
    assert did_you_mean("qqq", ["zlib", "python"]) == ""


def test_shown_is_relative_only_below_the_working_directory(file: Path) -> None:
    assert shown(file) == "sample.yml"
    assert shown(file.parent.parent / "other.yml") == str(file.parent.parent / "other.yml")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("version: " + "[" * 3000, "1:59: not YAML: more than 50 levels"),
        ("version:\n" + "- " * 3000 + "x", "2:99: not YAML: more than 50 levels"),
        ("a: x\nversion: 0x" + "f" * 5000, "2:1: a number of more than 64 bits: quote it"),
        ("version: " + "1" * 5000, "1:10: not YAML: Exceeds the limit"),
        ("version: " + "1:" * 400 + "1.5", "1:10: not YAML: int too large to convert to float: quote it"),
        ('version: "a\\0b"', "1:1: has a character that no text"),
        ('"a\\0b": x', "1:1: key has a character that no text"),
        ('version: "\\ud800"', "1:1: has a character that no text"),
        ('a: b\nversion: "\\UFFFFFFFF"', "2:13: not YAML: "),
        ("a: b\nversion: \0", "2:10: not YAML: character #x0000"),
        ("%YAML " + "1" * 5000 + ".1\n--- a", "1:7: not YAML: Exceeds the limit"),
        ("version: !!int ''", "1:10: not YAML: tags (!) are not supported"),
        ("a: &a [x]\nb: [*a, *a]", "1:4: not YAML: anchors and aliases"),
    ],
)
def test_what_no_recipe_needs_is_told_with_its_place(file: Path, text: str, error: str) -> None:
    (line,) = errors(file, text)
    assert line.startswith(f"sample.yml:{error}"), line


def test_only_files_are_read(file: Path) -> None:
    os.mkfifo(file)
    for path in (file, Path(os.devnull), file.parent):
        with pytest.raises(RecipeError, match=r"cannot be read: (is not a file|Is a directory)"):
            read_tree(path)
    file.unlink()
    with file.open("wb") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(RecipeError, match="has more than 1048576 bytes"):
        read_tree(file)


SHIPPED = sorted(file for part in ("xbuild", "recipes", "toolchains") for file in (PROJECT / part).rglob("*.yml"))
WRITTEN = [
    ":", " ", "- ", "?", "\n", "\n  ", "\n\n", "{", "}", "[", "]", ",", '"', "'", "|", "|-", ">", "#", " #", "a", "1",
    "0x1", "~", "null", "yes", "1.5", "2024-01-02", "key: ", "? a\n: b", "---", "...", "!", "&a", "*a", "!!str ", "\\",
    "é", "@", "`", "%", "<<: ", "=", "1:20", "012", ".nan", "?x", ":x", "x:y", "|2\n", "|+\n", ">-\n  x\n", "\t", "\r",
    "\x85", "\u2028", "\ufeff",
]  # fmt: skip


@pytest.mark.skipif(not yaml.__with_libyaml__, reason="PyYAML was built without libyaml")
@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: str(file.relative_to(PROJECT)))
def test_our_files_are_read_by_libyaml_too_and_are_the_same(file: Path) -> None:
    assert _good(file.read_text()) == _with_errors(file, file.read_text())


@settings(max_examples=400)
@given(st.lists(st.sampled_from(WRITTEN), max_size=14).map("".join))
def test_what_libyaml_takes_is_what_pyyaml_reads(text: str) -> None:
    quick = _good(text)
    # By its representation: nan is not nan.
    assert quick is None or repr(quick) == repr(_with_errors(Path("x"), text))
