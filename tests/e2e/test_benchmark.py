"""`invoke bench`, with recipes that take a second or two."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.e2e.command_line import Xbuild
from xbuild.base import paths
from xbuild.base.yamlfile import load_model
from xbuild.model.policy import Policy
from xbuild.proof.bench import ladder

pytestmark = pytest.mark.e2e

# Something for each rung of the ladder: compilers, linker, shell, small tools, make, an archiver, perl, and patch.
_MAKEFILE = """
all: answer
answer: answer.o
\t$(CC) -o $@ $^
\tfor i in 1 2 3; do expr $$i | sed s/1/2/ | grep -v x | awk '{ print $$1 }'; done
\t(cd . && pwd)
\ttar czf answer.tar.gz answer.c
\tpatch --version; perl -e 1
answer.o: answer.c
\t$(CC) -c -o $@ $<
"""
_PROGRAM = '#include <stdio.h>\nint main(void) { puts("42"); return 0; }\n'
_INSTALL = {"compile": "make", "install": 'install -D answer "$DESTDIR/usr/bin/answer"'}
_OUTPUTS = [{"path": "usr/bin/answer", "kind": "executable", "run": [], "prints": "42"}]


def small(xbuild: Xbuild) -> None:
    """Write the recipe `small`."""
    xbuild.recipe("small", files={"answer.c": _PROGRAM, "Makefile": _MAKEFILE}, build=_INSTALL, outputs=_OUTPUTS)


def files(path: Path) -> set[str]:
    """The names in a directory, which need not be there."""
    return {file.name for file in path.iterdir()} if path.is_dir() else set()


def of(value: Any, name: str, key: str = "runs") -> list[Any]:
    """The runs (or what else has the name of a variant) of one variant."""
    return [known for known in value[key] if known["variant"] == name]


@pytest.mark.long
def test_modes_are_compared(xbuild: Xbuild, tmp_path: Path) -> None:
    small(xbuild)
    text, picture = tmp_path / "bench.md", tmp_path / "bench.svg"
    modes = ["--recipes", "small", "--modes", "substituted,emulated", "--repeat", "2"]
    said = xbuild("bench", *modes, "--json", "--markdown", str(text), "--svg", str(picture))
    value = said.json
    order = ["native", "substituted", "emulated"]
    ran = [(run["round"], run["variant"]) for run in value["runs"]]
    assert ran == [(turn, name) for turn in (1, 2) for name in order]
    for run in value["runs"]:
        assert set(run["seconds"]) == {"compile", "install", "total"}
        assert run["seconds"]["total"] == pytest.approx(run["seconds"]["compile"] + run["seconds"]["install"])
        assert run["seconds"]["compile"] > 0
    assert {(run["emulated"], run["by_twins"]) for run in of(value, "native")} == {(0, 0)}
    for native, emulated in zip(of(value, "substituted"), of(value, "emulated"), strict=True):
        assert native["sha256"] == emulated["sha256"]
        assert native["by_twins"] > native["emulated"]
        assert (emulated["by_twins"], emulated["emulated"] > native["emulated"]) == (0, True)
    assert (value["complete"], value["failures"], value["differing"]) == (True, [], [])
    for name in order:
        total = next(known for known in of(value, name, "figures") if known["phase"] == "total")
        assert total["count"] == 2
        assert total["least"] <= total["median"] <= total["most"]
        assert total["ratio"] > 0
    assert value["command"] in text.read_text()
    assert re.search(r"\| small 1 \| compile \| [\d.]+ \([\d.]+ to [\d.]+\) \|", text.read_text())
    assert ElementTree.fromstring(picture.read_text()).tag.endswith("svg")
    assert said.err.count("round 1 of 2, build ") == said.err.count("round 2 of 2, build ") == 3
    # The artifacts are in the store, as after any build; nobody asked for copies.
    assert files(xbuild.project / "dist") == set()
    assert len(files(xbuild.cache / "artifacts")) == 3
    assert files(xbuild.cache / "work") == set()


@pytest.mark.long
def test_each_rung_of_the_ladder_runs_fewer_programs_emulated(xbuild: Xbuild, tmp_path: Path) -> None:
    small(xbuild)
    text = tmp_path / "bench.md"
    value = xbuild("bench", "--recipes", "small", "--ablation", "--json", "--markdown", str(text)).json
    policy = load_model(paths.POLICIES / "default.yml", Policy)
    names = [rung.name for rung in ladder.load(policy).rungs[:-1]]
    assert [run["variant"] for run in value["runs"]] == ["native", *names, "substituted"]
    climbed = value["runs"][1:]
    assert all(lower["emulated"] > higher["emulated"] for lower, higher in pairwise(climbed))
    assert all(lower["by_twins"] < higher["by_twins"] for lower, higher in pairwise(climbed))
    # The same programs, whoever runs them; and so the same result.
    assert len({run["sha256"] for run in climbed}) == 1
    assert [line.split("|")[1].strip() for line in text.read_text().splitlines() if line.startswith("| +")] == [
        *(name for name in names if name.startswith("+")), "+ all others",
    ]  # fmt: skip
    # What only the ladder needed is gone.
    assert len(files(xbuild.cache / "artifacts")) == 2
    assert files(xbuild.cache / "work") == files(xbuild.project / "dist") == set()


@pytest.mark.long
def test_a_variant_that_fails_does_not_lose_the_others(xbuild: Xbuild) -> None:
    # An emulated shell is qemu for those who ask the kernel.
    ask = 'who=$(readlink /proc/$$/exe); echo "I am $who"; case $who in */qemu) exit 7;; esac; echo 42 > answer'
    xbuild.recipe(build={"compile": ask})
    modes = ["--recipes", "tiny", "--modes", "emulated,substituted", "--repeat", "2"]
    said = xbuild("bench", *modes, "--json", code=3)
    assert [(run["round"], run["variant"]) for run in said.json["runs"]] == [
        (1, "native"), (1, "substituted"), (2, "native"), (2, "substituted"),
    ]  # fmt: skip
    (failure,) = said.json["failures"]
    assert (failure["variant"], failure["round"], said.json["complete"]) == ("emulated", 1, False)
    assert "phase 'compile' failed" in failure["message"]
    assert "I am /.xbuild/qemu" in Path(failure["log"]).read_text()
    assert failure["log"] in said.err


def test_sources_that_are_not_there_are_met_before_the_first_build(xbuild: Xbuild) -> None:
    xbuild.recipe()
    (xbuild.project / "sources" / "tiny" / "README").write_text("changed\n")
    xbuild.recipe("other")
    value = xbuild("bench", "--recipes", "tiny,other", "--repeat", "1", "--json", code=3).json
    assert [known["round"] for known in value["failures"]] == [0, 0]
    assert {known["recipe"] for known in value["failures"]} == {"tiny"}
    assert [(run["recipe"], run["variant"]) for run in value["runs"]] == [("other", "native"), ("other", "substituted")]


def test_the_cost_of_an_exec(xbuild: Xbuild) -> None:
    value = xbuild("bench", "--exec", "--json").json
    assert value["dispatched_us"] > 0
    assert value["direct_us"] > 0
    assert files(xbuild.cache / "work") == set()
