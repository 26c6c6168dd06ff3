"""In which order several source packages are built, and where each finds what the others have made."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit.commands import Run
from tests.unit.test_repo import package as deb
from xbuild.base import paths
from xbuild.base.errors import UsageError
from xbuild.graph import children
from xbuild.graph import planned as planning
from xbuild.graph.nodes import Node
from xbuild.packages import Options, flat
from xbuild.packages.order import Source, needs_of
from xbuild.packages.tree import of_directory
from xbuild.roots.index import read_stanzas
from xbuild.roots.repository import Repository


def tree(place: Path, name: str, *, needs: str = "", more: str = "", architecture: str = "any") -> Path:
    """A source package that is a directory: it makes libNAME-dev and NAME-data. more: fields of libNAME-dev."""
    folder = place / name / "debian"
    folder.mkdir(parents=True)
    head = f"{name} (1:1.0-1) unstable; urgency=low\n\n  * a\n\n"
    (folder / "changelog").write_text(f"{head} -- A <a@b.example>  Fri, 05 Jul 2024 10:00:00 +0000\n")
    source = f"Source: {name}\nMaintainer: A <a@b.example>\n" + (f"{needs}\n" if needs else "")
    library = f"Package: lib{name}-dev\nArchitecture: {architecture}\n{more}Description: a\n b\n"
    (folder / "control").write_text(
        f"{source}\n{library}\nPackage: {name}-data\nArchitecture: all\nDescription: a\n b\n"
    )
    (folder / "rules").write_text("#!/usr/bin/make -f\n")
    return folder.parent


def source(place: Path, name: str, *, own: bool = True, options: Options | None = None, **more: Any) -> Source:
    package = of_directory(str(tree(place, name, **more)))
    assert package is not None
    return Source(package, options or Options(), own)


def test_each_comes_after_what_it_needs_and_what_that_needs(tmp_path: Path) -> None:
    needs = "Build-Depends: debhelper-compat (= 13), libmiddle-dev (>= 1:1.0) | libother-dev,\n libbottom-dev:any"
    sources = [
        source(tmp_path, "top", needs=needs), source(tmp_path, "alone"),
        source(tmp_path, "middle", needs="Build-Depends-Arch: libbottom-dev"), source(tmp_path, "bottom"),
    ]  # fmt: skip
    assert needs_of(sources, "armhf") == [
        {3: "libbottom-dev", 2: "libmiddle-dev"}, {}, {3: "libbottom-dev"}, {},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("relation", "needed"),
    [
        ("libbb-dev [arm64]", False), ("libbb-dev [!armhf]", False), ("libbb-dev [any-arm]", True),
        ("libbb-dev [!arm64]", True), ("libbb-dev <!nocheck>", True), ("libbb-dev <nocheck>", False),
        ("libbb-dev [armhf] <!nocheck> <stage1>", True), ("libnone-dev | libbb-dev (>> 7)", True),
        ("libnone-dev [arm64] | libbb-dev [arm64]", False), ("bb-data", False),
        ("libbb-dev-more", False), ("virtual", True),
    ],
)  # fmt: skip
def test_what_holds(tmp_path: Path, relation: str, needed: bool) -> None:
    b = source(tmp_path, "bb", more="Provides: virtual (= 1), other\n")
    a = source(tmp_path, "aa", needs=f"Build-Depends: {relation}\nBuild-Conflicts: libbb-dev")
    assert list(map(list, needs_of([a, b], "armhf"))) == [[1] if needed else [], []]


def test_options_decide_what_is_needed_and_what_is_made(tmp_path: Path) -> None:
    needs = "Build-Depends: libbb-dev <!nocheck>\nBuild-Depends-Indep: cc-data"
    for number, (options, expected) in enumerate(
        [
            (Options(), (1,)), (Options(profiles=("nocheck",)), ()), (Options("both"), (1, 2)),
            (Options("all", profiles=("nocheck",)), (2,)),
        ]
    ):  # fmt: skip
        place = tmp_path / str(number)
        sources = [source(place, "aa", needs=needs, options=options)]
        sources += [source(place, name, options=options) for name in ("bb", "cc")]
        assert set(needs_of(sources, "armhf")[0]) == set(expected)


def test_what_an_installed_package_depends_on_is_needed_too(tmp_path: Path) -> None:
    a = source(tmp_path, "aa", needs="Build-Depends: libbb-dev")
    b = source(tmp_path, "bb", more="Depends: ${misc:Depends}, libcc-dev (= 1) | libnone-dev\n")
    assert needs_of([a, b, source(tmp_path, "cc")], "armhf") == [
        {1: "libbb-dev", 2: "libbb-dev, and so libcc-dev"}, {}, {},
    ]  # fmt: skip
    b = source(tmp_path / "other", "bb", needs="Build-Depends: libcc-dev")
    assert needs_of([a, b, source(tmp_path / "other", "cc")], "armhf")[0] == {2: "", 1: "libbb-dev"}


def test_the_archives_own_is_not_built_against_another_of_the_archive(tmp_path: Path) -> None:
    a, b = source(tmp_path, "aa", needs="Build-Depends: libbb-dev"), source(tmp_path, "bb", own=False)
    assert needs_of([a, b], "armhf") == [{}, {}]
    of_archive = source(tmp_path / "other", "cc", needs="Build-Depends: libaa-dev", own=False)
    assert needs_of([of_archive, a], "armhf") == [{1: "libaa-dev"}, {}]


def test_what_needs_itself_takes_the_distributions(tmp_path: Path) -> None:
    assert needs_of([source(tmp_path, "aa", needs="Build-Depends: libaa-dev")], "armhf") == [{}]


def test_a_circle_is_told_with_what_makes_it(tmp_path: Path) -> None:
    sources = [
        source(tmp_path, "aa", needs="Build-Depends: libbb-dev"),
        source(tmp_path, "bb", needs="Build-Depends: libcc-dev"),
        source(tmp_path, "cc", needs="Build-Depends: libaa-dev <!nocheck>"), source(tmp_path, "dd"),
    ]  # fmt: skip
    with pytest.raises(UsageError) as caught:
        needs_of(sources, "armhf")
    said = caught.value.message.removeprefix("source packages need each other: ")
    assert said in ("aa -> bb -> cc -> aa", "bb -> cc -> aa -> bb", "cc -> aa -> bb -> cc")
    assert set(caught.value.details) == {
        "aa needs libbb-dev, which bb makes", "bb needs libcc-dev, which cc makes",
        "cc needs libaa-dev, which aa makes",
    }  # fmt: skip
    assert caught.value.hint


def test_two_that_make_the_same(tmp_path: Path) -> None:
    sources = [source(tmp_path / "one", "aa"), source(tmp_path / "two", "aa")]
    with pytest.raises(UsageError, match="both make the package libaa-dev"):
        needs_of(sources, "armhf")


def test_where_the_packages_come_to(tmp_path: Path) -> None:
    package = source(tmp_path, "aa").package
    assert flat.folder_of(package, Options(), "armhf") == "aa_1.0-1_armhf"
    assert flat.folder_of(package, Options("all"), "armhf") == "aa_1.0-1_all"
    assert flat.folder_of(package, Options("both"), "arm64") == "aa_1.0-1_arm64"
    assert flat.folder_of(package, Options(binnmu="aa (1:1.0-1+b2) x; urgency=low"), "armhf") == "aa_1.0-1+b2_armhf"


def test_a_directory_of_packages_is_a_repository(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [deb(tmp_path, "one", "1:2"), deb(tmp_path, "two", architecture="all"), tmp_path / "one.changes"]
    deb(tmp_path, "another")
    flat.index(tmp_path, files)
    known = Repository(tmp_path)
    stanzas = list(read_stanzas(known.text("armhf")))
    assert {(one.name, one.version) for one in stanzas} == {("one", "1:2"), ("two", "1")}
    assert "Filename: ./one_1%3a2_armhf.deb\n" in known.text("armhf")
    assert known.lines("armhf")[0].endswith(" ./")
    flat.tell_not_taken([known], "armhf", {"one": "1:3", "two": "1"})
    said = capsys.readouterr().err
    assert "one 1:2 of" in said
    assert "1:3 is newer" in said
    assert "two" not in said.replace(str(tmp_path), "")


# What our own command would say of a package.
CHILD = """
import json, os, sys
built = {"target": "x", "package": "p", "version": "1", "files": [], "build": {"words": sys.argv[1:]}}
bad = os.path.basename(sys.argv[2]) == "bad"
error = {"kind": "phase", "message": "no", "details": [], "hint": None}
print(json.dumps({"status": "failed", "error": error} if bad else {"status": "ok", "builds": [built]}))
sys.exit(3 if bad else 0)
"""


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "PROGRAM", (sys.executable, "-c", CHILD))
    monkeypatch.setattr("xbuild.cli.together.require", lambda **_: None)


@pytest.mark.usefixtures("child")
def test_the_command_builds_in_that_order(xbuild: Run, tmp_path: Path) -> None:
    top = str(tree(tmp_path, "top", needs="Build-Depends: libbottom-dev, libbad-dev [arm64]"))
    bottom = str(tree(tmp_path, "bottom"))
    ended = xbuild("deb", top, bottom, "--target", "armhf,arm64", "--at-once", "2", "--json")
    assert ended.code == 0, ended.err
    told = [one["build"]["words"] for one in json.loads(ended.out)["builds"]]
    order = [(Path(words[1]).name, words[3]) for words in told]
    for target in ("armhf", "arm64"):
        assert order.index(("bottom", target)) < order.index(("top", target))
    places = {(Path(words[1]).name, words[3]): words[words.index("--repo") + 1] for words in told if "--repo" in words}
    assert {pair: Path(place).name for pair, place in places.items()} == {
        ("top", "armhf"): "bottom_1.0-1_armhf", ("top", "arm64"): "bottom_1.0-1_arm64",
    }  # fmt: skip


@pytest.mark.usefixtures("child")
def test_what_needs_one_that_failed_is_not_built(xbuild: Run, tmp_path: Path) -> None:
    top = str(tree(tmp_path, "top", needs="Build-Depends: libbad-dev"))
    words = [top, str(tree(tmp_path, "bad")), str(tree(tmp_path, "other"))]
    ended = xbuild("deb", *words, "--target", "armhf", "--json")
    assert ended.code == 3
    assert [Path(one["build"]["words"][1]).name for one in json.loads(ended.out)["builds"]] == ["other"]
    assert f"not done: {top} for armhf" in ended.err


@pytest.mark.usefixtures("child")
def test_the_command_refuses_a_circle(xbuild: Run, tmp_path: Path) -> None:
    needs = {"aa": "libbb-dev", "bb": "libaa-dev"}
    words = [str(tree(tmp_path, name, needs=f"Build-Depends: {other}")) for name, other in needs.items()]
    ended = xbuild("deb", *words, "--target", "armhf")
    assert ended.code == 2
    assert "source packages need each other: " in ended.err


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The repositories of all that is looked at, in a project of the test's own; nothing is resolved."""
    shutil.copytree(paths.PACKAGE.parent / "toolchains", tmp_path / "project/toolchains")
    monkeypatch.setenv("XBUILD_PROJECT", str(tmp_path / "project"))
    seen: list[tuple[str, ...]] = []

    def of(words: tuple[Node, tuple[Node, ...], bool], *_: Any) -> planning.Planned:
        seen.append(words[0].request.repositories)
        verdict: planning.Verdict = "up-to-date" if words[0].name == "bottom" else "build"
        return planning.Planned(*words, verdict, "so it is", "k")

    monkeypatch.setattr(planning, "_of", of)
    return seen


def test_the_plan_is_a_tree(xbuild: Run, tmp_path: Path, prepared: list[tuple[str, ...]]) -> None:
    """What is needed by way of another one stands below that; what was built, but lies in no `dist/`, is to come."""
    needs = {"top": "libmiddle-dev, libbottom-dev", "middle": "libbottom-dev", "bottom": "debhelper"}
    trees = [str(tree(tmp_path, name, needs=f"Build-Depends: {other}")) for name, other in needs.items()]
    words = ["deb", *trees, "--target", "armhf", "--repo", (mine := str(tmp_path / "mine")), "--plan"]
    told = {one["recipe"]: one for one in json.loads(xbuild(*words, "--json").out)["planned"]}
    assert list(told) == ["bottom", "middle", "top"]
    assert {name: one["needs"] for name, one in told.items()} == {
        "bottom": [], "middle": ["bottom for armhf"], "top": ["middle for armhf"],
    }  # fmt: skip
    assert told["top"]["reason"] == "known after bottom, middle"
    assert [one["by"] for one in told.values()] == [
        {}, {"bottom for armhf": "libbottom-dev"}, {"middle for armhf": "libmiddle-dev"},
    ]  # fmt: skip
    assert told["middle"]["verdict"] == "later"
    assert prepared == [(mine,)]
    place = paths.project() / "dist/bottom_1.0-1_armhf"
    place.mkdir(parents=True)
    (place / "Packages").touch()
    said = xbuild(*words).out
    assert prepared[1:] == [(mine,), (mine, str(place))]
    assert said.splitlines()[1:] == [
        "bottom for armhf    up to date  so it is",
        "middle for armhf    build       so it is",
        "  bottom for armhf  up to date  for libbottom-dev; so it is",
        "top for armhf       perhaps     known after middle",
        "  middle for armhf  build       for libmiddle-dev; see above",
    ]
