"""Every target, and what a build tells about itself: its result, its plan, its reasons."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.command_line import Xbuild, unpacked
from xbuild.base.digest import file_sha256

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize(
    ("target", "mode", "machine"),
    [("armhf", "substituted", "ARM"), ("arm64", "substituted", "AArch64"), ("amd64", "native", "X86-64")],
)
def test_zlib(xbuild: Xbuild, target: str, mode: str, machine: str) -> None:
    result = xbuild.build("zlib", target=target)
    about = {"recipe": "zlib", "version": "1.3.1", "target": target, "mode": mode, "status": "built"}
    assert {name: result[name] for name in about} == about
    phases = {phase["name"]: phase["seconds"] for phase in result["phases"]}
    assert {"configure", "compile", "install"} <= set(phases)
    assert all(seconds > 0 for seconds in phases.values())
    artifact, manifest = Path(result["artifact"]), json.loads(Path(result["manifest"]).read_text())
    assert artifact == xbuild.project / "dist" / f"zlib-1.3.1-{target}.tar.zst"
    assert file_sha256(artifact) == result["sha256"] == manifest["artifact"]["sha256"]
    assert (manifest["name"], manifest["target"], manifest["mode"]) == ("zlib", target, mode)
    assert manifest["sources"][0]["sha256"]
    assert bool(manifest["ran-native"]) == bool(manifest["twins"]) == (target != "amd64")
    assert manifest["inputs"]["target root"]["libc6-dev"]
    assert "usr/lib/libz.so.1.3.1" in unpacked(artifact) or any("libz.so.1.3.1" in name for name in unpacked(artifact))
    _second(xbuild, target, result)


def _second(xbuild: Xbuild, target: str, first: dict[str, Any]) -> None:
    """Nothing changed, so nothing is done."""
    again = xbuild.build("zlib", target=target)
    # The phases are those of the build that made it; the clock of this one has nothing to tell.
    assert (again["status"], again["phases"]) == ("up-to-date", first["phases"])
    assert (again["artifact"], again["sha256"]) == (first["artifact"], first["sha256"])
    said = xbuild("build", "zlib", "--target", target)
    assert f"zlib 1.3.1 for {target}: up to date" in said.err


def test_json_is_all_of_stdout(xbuild: Xbuild) -> None:
    xbuild.recipe(build={"compile": "echo talk; echo 42 > answer"})
    said = xbuild("build", "tiny", "--json")
    assert json.loads(said.out)["status"] == "built"
    assert "compile" in said.err


def test_the_summary_for_people(xbuild: Xbuild) -> None:
    xbuild.recipe()
    said = xbuild("build", "tiny")
    assert re.search(r"^compile +\d+\.\d s$", said.out, re.MULTILINE)
    assert re.search(r"^total +\d+\.\d s$", said.out, re.MULTILINE)
    assert re.search(r"dist/tiny-1-armhf\.tar\.zst  \d+ B  sha256 [0-9a-f]{64}$", said.out, re.MULTILINE)


def test_why_names_what_changed(xbuild: Xbuild) -> None:
    xbuild.recipe()
    xbuild.build("tiny")
    assert xbuild("why", "tiny", "--json").json["changes"] == []
    xbuild.recipe(version="2", build={"compile": "echo 43 > answer"}, env={"COLOUR": "blue"})
    said = xbuild("why", "tiny").out
    assert "changed: recipe.version: '1' -> '2'\n" in said
    assert "changed: recipe.build.compile: 'echo 42 > answer' -> 'echo 43 > answer'\n" in said
    assert "COLOUR" in said
    # Jobs, and texts for people, are no inputs.
    xbuild.recipe(summary="Another text")
    assert xbuild.build("tiny", "--jobs", "1")["status"] == "up-to-date"


def _contents(directory: Path) -> set[str]:
    return {str(path) for path in directory.rglob("*")}


def test_a_plan_makes_nothing(xbuild: Xbuild, tmp_path: Path) -> None:
    xbuild.recipe()
    before = _contents(xbuild.cache / "work"), _contents(xbuild.project)
    said = xbuild("build", "tiny", "--plan").out
    assert re.search(r"^target root armhf +skip +in the store$", said, re.MULTILINE)
    assert re.search(r"^unpack +run +nothing has been done yet$", said, re.MULTILINE)
    assert re.search(r"^install +run +'compile' runs$", said, re.MULTILINE)
    assert (_contents(xbuild.cache / "work"), _contents(xbuild.project)) == before


@pytest.mark.long
def test_a_plan_with_an_empty_cache_makes_no_roots(xbuild: Xbuild, tmp_path: Path) -> None:
    """It asks the mirror which packages there are, and says the key by them."""
    empty = tmp_path / "empty"
    env = {"XBUILD_CACHE": str(empty)}
    said = xbuild("build", "python", "--plan", env=env).out
    for thing in ("native root amd64", "native root i386", "twins", "target root armhf", "build dependencies"):
        assert re.search(rf"^{thing} +run +not in the store$", said, re.MULTILINE), said
    assert {path.name for path in empty.iterdir() if path.is_dir()} == {"indexes", "resolved", "locks", "tmp"}
    assert list((empty / "tmp").iterdir()) == []
    here = xbuild("build", "python", "--plan", "--json").json["key"]
    assert xbuild("build", "python", "--plan", "--json", env=env).json["key"] == here


def test_work_goes_on_without_a_network(xbuild: Xbuild) -> None:
    """With the roots in the store, nothing asks for the mirror or anybody else."""
    xbuild.recipe()
    dead = "http://127.0.0.1:9/"
    env = {"XBUILD_MIRROR": dead, "http_proxy": dead, "https_proxy": dead}
    assert xbuild("build", "tiny", "--json", env=env).json["status"] == "built"


def test_the_first_use_needs_a_network(xbuild: Xbuild, tmp_path: Path) -> None:
    dead = "http://127.0.0.1:9/debian"
    # Subordinate users have to get there too, and tmp_path is the user's alone.
    cache = xbuild.cache / "work" / "empty"
    env = {"XBUILD_MIRROR": dead, "XBUILD_CACHE": str(cache)}
    said = xbuild("build", "zlib", "--target", "armhf", env=env, code=4).err
    assert "127.0.0.1:9" in said
    assert "XBUILD_MIRROR" in said or "network" in said
    assert [path for kind in ("roots", "layers", "twins") for path in (cache / kind).glob("*")] == []
    assert list((cache / "tmp").iterdir()) == []


def test_a_failed_build_leaves_no_artifact_behind(xbuild: Xbuild) -> None:
    xbuild.recipe(build={"compile": "false"})
    xbuild.fails("tiny", code=3)
    assert not (xbuild.project / "dist").exists()
    xbuild("clean")
    assert not xbuild.place().exists()


def test_the_artifact_unpacks_with_ordinary_tools(xbuild: Xbuild, tmp_path: Path) -> None:
    """As on a board: tar, and files that belong to root there."""
    xbuild.recipe()
    artifact = xbuild.build("tiny")["artifact"]
    subprocess.run(["tar", "--zstd", "-xf", artifact, "-C", tmp_path], check=True)
    answer = tmp_path / "usr/share/answer"
    assert answer.read_text() == "42\n"
    assert answer.stat().st_mode & 0o777 == 0o644
    listed = subprocess.run(["tar", "--zstd", "-tvf", artifact], capture_output=True, text=True, check=True).stdout
    assert all(line.split()[1] == "root/root" for line in listed.splitlines())
    assert os.access(answer, os.R_OK)
