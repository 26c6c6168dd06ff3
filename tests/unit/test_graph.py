"""Recipes that need recipes: which, in which order, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from xbuild.base.errors import RecipeError
from xbuild.build.request import Here, Request
from xbuild.graph.nodes import Graph, Node
from xbuild.model.load import load_recipe, load_toolchain

HEAD = """\
schema: 1
name: {name}
version: "1"
sources: [{{path: src}}]
build: {{preset: make}}
"""


def project(tmp_path: Path, needs: Mapping[str, str]) -> Path:
    """A project with recipes; needs: by name, YAML text of `depends.recipes`."""
    (tmp_path / "recipes").mkdir(exist_ok=True)
    for name, text in needs.items():
        depends = f"depends: {{recipes: {text}}}\n" if text else ""
        (tmp_path / "recipes" / f"{name}.yml").write_text(HEAD.format(name=name) + depends)
    return tmp_path


def names(nodes: tuple[Node, ...]) -> list[str]:
    return [node.name for node in nodes]


def graph(place: Path, *recipes: str, target: str = "armhf") -> Graph:
    return Graph.from_requests([Request(name, target) for name in recipes], place)


DIAMOND = {"app": "[left, right]", "left": "[base]", "right": "[base, left]", "base": "", "alone": ""}


def test_order_has_each_once_and_after_what_it_needs(tmp_path: Path) -> None:
    found = graph(project(tmp_path, DIAMOND), "app", "alone", "app")
    assert names(found.nodes) == ["base", "left", "right", "app", "alone"]
    assert names(found.asked) == ["app", "alone"]
    by_name = {node.name: node for node in found.nodes}
    assert names(found.needs[by_name["right"]]) == ["base", "left"]
    assert names(found.all_needs(by_name["right"])) == ["base", "left"]
    assert names(found.all_dependents(by_name["left"])) == ["right", "app"]
    assert found.dependents[by_name["app"]] == ()


def test_critical_path_is_the_longest_chain(tmp_path: Path) -> None:
    found = graph(project(tmp_path, DIAMOND), "app", "alone")
    by_name = {node.name: node for node in found.nodes}
    seconds = {by_name[name]: value for name, value in {"base": 1.0, "left": 5.0, "right": 2.0, "app": 1.0}.items()}
    assert names(found.critical_path(seconds)) == ["base", "left", "right", "app"]
    assert found.remaining(seconds)[by_name["left"]] == 8.0
    assert names(found.critical_path({by_name["alone"]: 20.0})) == ["alone"]


def test_asked_for_and_needed_is_one_build_if_the_options_are_the_same(tmp_path: Path) -> None:
    place = project(tmp_path, DIAMOND)
    app = Request("app", "armhf", mode="emulated", here=Here(jobs=3))
    one = Graph.from_requests([app, Request("base", "armhf")], place)
    assert [node.title for node in one.nodes].count("base for armhf") == 1
    two = Graph.from_requests([app, Request("base", "armhf", mode="emulated")], place)
    assert [node.title for node in two.nodes if node.name == "base"] == [
        "base for armhf", "base for armhf (--mode emulated)",
    ]  # fmt: skip
    assert names(Graph.from_requests([app, Request("app", "arm64")], place).asked) == ["app", "app"]


def test_when_names_targets(tmp_path: Path) -> None:
    place = project(tmp_path, {"app": "[{name: left, when: [armhf, amd64]}, base]", "left": "", "base": ""})
    assert names(graph(place, "app").nodes) == ["left", "base", "app"]
    assert names(graph(place, "app", target="arm64").nodes) == ["base", "app"]
    (place / "recipes/app.yml").write_text(
        HEAD.format(name="app") + "overrides: [{targets: [arm64], depends: {recipes: [left]}}]\n"
    )
    assert names(graph(place, "app").nodes) == ["app"]
    assert names(graph(place, "app", target="arm64").nodes) == ["left", "app"]


def test_a_circle_is_told_with_its_lines(tmp_path: Path) -> None:
    place = project(tmp_path, {"top": "[a]", "a": "[b]", "b": "[{name: c}]", "c": "[a]"})
    with pytest.raises(RecipeError) as told:
        graph(place, "top")
    assert "recipes need each other: a -> b -> c -> a" in told.value.message
    assert told.value.message.startswith(str(place / "recipes/c.yml:6:21: "))
    assert [line.rpartition("/")[2] for line in told.value.details] == [
        "a.yml:6:21: a needs b", "b.yml:6:21: b needs c", "c.yml:6:21: c needs a",
    ]  # fmt: skip
    with pytest.raises(RecipeError, match="own -> own"):
        graph(project(tmp_path, {"own": "[own]"}), "own")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[bsae]", "6:21: depends.recipes.0: there is no recipe 'bsae'; did you mean 'base'?"),
        ("[base, {name: zlbi}]", "6:27: depends.recipes.1: there is no recipe 'zlbi'; did you mean 'zlib'?"),
        ("[{name: base, when: [armfh]}]",
         "6:41: depends.recipes.0.when.0: 'armfh' matches no target; did you mean 'armhf'?"),
        ("[{name: base, when: []}]", "6:34: depends.recipes.0.when: must have at least one entry"),
        ("[{name: base, wen: [armhf]}]", "6:34: depends.recipes.0.wen: unknown field; did you mean 'when'?"),
        ("[Base]",
         "6:21: depends.recipes.0.name: must be lower-case letters, digits and + . _ -, 80 at most, not 'Base'"),
    ],
)  # fmt: skip
def test_what_is_wrong_has_its_place(tmp_path: Path, text: str, told: str) -> None:
    place = project(tmp_path, {"app": text, "base": ""})
    with pytest.raises(RecipeError) as error:
        load_recipe("app", load_toolchain("armhf", place), place)
    assert [line.rpartition("app.yml:")[2] for line in error.value.details] == [told]


def test_beside_the_file_comes_first_then_what_is_shipped(tmp_path: Path) -> None:
    place = project(tmp_path, {"app": "[zlib, xz]", "zlib": ""})
    files = {node.name: node.file for node in graph(place, "app").nodes}
    assert files["zlib"] == (place / "recipes/zlib.yml").resolve()
    assert files["xz"].parent != files["zlib"].parent
    away = tmp_path / "away"
    away.mkdir()
    (away / "tool.yml").write_text(HEAD.format(name="tool") + "depends: {recipes: [zlib]}\n")
    assert {node.request.recipe for node in graph(away, str(away / "tool.yml")).nodes} == {
        "zlib", str(away / "tool.yml"),
    }  # fmt: skip
    # What is beside another file has this name too.
    assert graph(place, str(away / "tool.yml")).nodes[0].file == files["xz"].with_name("zlib.yml")


def test_two_of_one_name_in_what_one_needs(tmp_path: Path) -> None:
    place, away = project(tmp_path, {"app": "[tool, zlib]", "zlib": ""}), tmp_path / "away"
    away.mkdir()
    (away / "tool.yml").write_text(HEAD.format(name="tool") + "depends: {recipes: [zlib]}\n")
    (place / "recipes/tool.yml").symlink_to(away / "tool.yml")
    with pytest.raises(RecipeError, match="app needs two recipes called zlib"):
        graph(place, "app")


def test_a_long_chain(tmp_path: Path) -> None:
    chain = {f"n{number}": f"[n{number + 1}]" for number in range(300)} | {"n300": ""}
    found = graph(project(tmp_path, chain), "n0", "n150")
    assert names(found.nodes) == [f"n{number}" for number in range(300, -1, -1)]
