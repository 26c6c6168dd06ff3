"""The record of a build as `trace` and `why --exec` tell it."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.command_line import Xbuild, wait_for
from xbuild.sandbox.run import machine_view, run

pytestmark = pytest.mark.e2e

_SEDS = "for n in 1 2 3 4 5 6 7; do sed -n 1p README > /dev/null; done"
_INSTALL = 'install -D -m 644 answer "$DESTDIR/usr/share/answer"'
# The last seq takes some second of CPU: most of what this build uses.
_COMPILE = f"""
{_SEDS}
for last in 1 2 400000; do seq 0.5 $last > /dev/null; done
hostname > name; cc -dumpmachine > machine
cp /usr/bin/sed mine; ./mine -n 1p README; ./mine --version > /dev/null
echo 42 > answer
"""


def programs(trace: Any) -> dict[str, tuple[int, int, dict[str, int]]]:
    """By program: native execs, emulated ones, and the reasons of these."""
    return {
        known["program"]: (known["native"]["execs"], known["emulated"]["execs"], known["emulated"]["reasons"])
        for known in trace["programs"]
    }


def traced(xbuild: Xbuild, *words: str) -> Any:
    return xbuild("trace", "tiny", "--target", "armhf", "--json", *words).json


def test_counts_are_exact(xbuild: Xbuild) -> None:
    xbuild.recipe(build={"compile": _COMPILE, "install": _INSTALL})
    xbuild.build("tiny")
    trace = traced(xbuild, "--phase", "compile")
    assert trace["from"] == "the artifact"
    assert programs(trace) == {
        "/usr/bin/dash": (1, 0, {}),
        "/usr/bin/sed": (7, 0, {}),
        "/usr/bin/cp": (1, 0, {}),
        "/usr/bin/seq": (0, 3, {"never": 3}),
        "/usr/bin/hostname": (0, 1, {"no-entry": 1}),
        "/usr/bin/arm-linux-gnueabihf-gcc-14": (0, 1, {"argument": 1}),
        "made by the build: mine": (0, 2, {"made": 2}),
    }
    assert (trace["totals"]["execs"], trace["warnings"]) == ({"native": 9, "emulated": 7}, [])
    assert trace["programs"][0]["program"] == "/usr/bin/seq"
    assert trace["programs"][0]["package"] == "coreutils"
    assert 0.5 < trace["totals"]["share_emulated"] <= 1
    parts = trace["totals"]["native"] + trace["totals"]["emulated"]
    assert parts == pytest.approx(trace["totals"]["seconds"], abs=0.01)


def test_advice(xbuild: Xbuild) -> None:
    xbuild.recipe(build={"compile": _COMPILE, "install": _INSTALL})
    xbuild.build("tiny", "--keep")
    trace = traced(xbuild)
    assert "work place" in trace["from"]
    assert [phase["name"] for phase in trace["phases"]] == ["compile", "install"]
    assert {phase["status"] for phase in trace["phases"]} == {"done"}
    advice = {known["why"]: known for known in trace["advice"]}
    assert {why for why, known in advice.items() if known["possible"]} == {"no-entry"}
    assert advice["no-entry"]["packages"] == ["hostname"]
    assert "add a tool for the package hostname" in advice["no-entry"]["remedy"]
    assert (advice["never"]["programs"], advice["never"]["gain"]) == ({"/usr/bin/seq": 3}, None)
    assert "loads modules of the target" in advice["never"]["reason"]
    shown = xbuild("trace", "tiny", "--top", "2").out
    assert "6 more" in shown
    assert "could run natively" in shown


def test_an_emulated_build_has_nothing_native(xbuild: Xbuild) -> None:
    xbuild.recipe(build={"compile": f"{_SEDS}; echo 42 > answer", "install": _INSTALL})
    xbuild.build("tiny", "--mode", "emulated")
    trace = traced(xbuild, "--mode", "emulated")
    assert programs(trace)["/usr/bin/sed"] == (0, 7, {"mode": 7})
    assert {phase["execs"]["native"] for phase in trace["phases"]} == {0}
    assert (trace["totals"]["native"], trace["totals"]["share_emulated"]) == (0, 1)
    assert not any(known["possible"] for known in trace["advice"])
    xbuild("trace", "tiny", "--target", "armhf", code=2)


def test_a_build_that_was_killed(xbuild: Xbuild) -> None:
    """What ran before the kill was written down; only how long it took is not known."""
    xbuild.recipe(build={"configure": "seq 1", "compile": f"{_SEDS}; seq 1 > /dev/null; echo started; sleep 98730"})
    process = xbuild.start("build", "tiny", "--target", "armhf")
    wait_for("the phase", lambda: xbuild.log() == "started\n")
    wait_for("sleep", lambda: b"/usr/bin/sleep" in (xbuild.place() / "records/02-compile").read_bytes())
    os.kill(process.pid, signal.SIGKILL)
    xbuild.ended(process, code=-9)
    said = xbuild("trace", "tiny", "--json")
    assert "warning: CPU seconds of compile are not known" in said.err
    configure, compile_ = said.json["phases"]
    assert (configure["status"], compile_["status"]) == ("done", "unfinished")
    assert compile_["execs"] == {"native": 9, "emulated": 1}
    assert (compile_["whole"], compile_["seconds"]) == (True, None)
    assert configure["seconds"] > 0
    assert programs(traced(xbuild, "--phase", "compile"))["/usr/bin/sed"] == (7, 0, {})


def test_a_record_that_was_cut_short(xbuild: Xbuild) -> None:
    xbuild.recipe(build={"compile": f"{_SEDS}; false"})
    xbuild.fails("tiny", code=3)
    record = xbuild.place() / "records/01-compile"
    # It is the builder's file.
    run(machine_view(), ["truncate", "--size=-3", record])
    said = xbuild("trace", "tiny", "--json")
    assert "warning: the record of compile was cut short" in said.err
    [phase] = [phase for phase in said.json["phases"] if phase["name"] == "compile"]
    assert (phase["status"], phase["whole"], phase["execs"]["native"]) == ("failed", False, 7)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no build of tiny 1 for armhf has left a record"),
        (["--target", "amd64"], "nothing is emulated where the target is this machine itself"),
    ],
)
def test_nothing_to_tell(xbuild: Xbuild, words: list[str], said: str) -> None:
    xbuild.recipe()
    assert said in xbuild("trace", "tiny", *words, code=2).err


def test_an_unknown_phase(xbuild: Xbuild) -> None:
    xbuild.recipe()
    xbuild.build("tiny")
    said = xbuild("trace", "tiny", "--phase", "compil", code=2).err
    assert "no record of a phase 'compil'; did you mean 'compile'?" in said
    assert "hint: there are records of: compile, install" in said


SED = {"native": True, "path": "/usr/bin/sed", "why": "twin"}
SH = {"native": True, "path": "/usr/bin/dash", "why": "twin"}


@pytest.mark.parametrize(
    ("asked", "facts", "reason"),
    [
        ("/usr/bin/sed", SED, "it has a twin"),
        ("sed", SED, "it has a twin"),
        ("/bin/sh", SH, "it has a twin"),
        ("seq", {"native": False, "path": "/usr/bin/seq", "why": "never"}, "never gives it a twin"),
        ("/usr/bin/ldd", {"native": False, "why": "script"}, "its interpreter is what runs: /bin/bash"),
        ("/usr/bin/pearl", {"native": False, "path": None, "why": "not-there"}, "did you mean 'perl'?"),
        ("hostname", {"native": False, "why": "no-entry"}, "has this program of the package hostname"),
    ],
)
def test_why(xbuild: Xbuild, asked: str, facts: dict[str, Any], reason: str) -> None:
    xbuild.recipe()
    found = xbuild("why", "tiny", "--target", "armhf", "--exec", asked, "--json").json
    assert {name: found[name] for name in facts} == facts
    assert reason in found["reason"]
    assert [known["path"] for known in found["next"]] == (["/usr/bin/bash"] if asked.endswith("ldd") else [])


def test_why_of_the_other_width(xbuild: Xbuild) -> None:
    xbuild.recipe()
    said = xbuild("why", "tiny", "--exec", "as").out
    assert said.startswith("as is /usr/bin/arm-linux-gnueabihf-as, of binutils-arm-linux-gnueabihf ")
    assert "native: /.xbuild/i386/usr/bin/arm-linux-gnueabihf-as, of binutils-arm-linux-gnueabihf " in said


def test_why_a_recipe_matters(xbuild: Xbuild) -> None:
    xbuild.recipe(twins={"remove": ["coreutils"]})
    assert "emulated: taken away by the recipe" in xbuild("why", "tiny", "--exec", "cat").out
    said = xbuild("why", "tiny", "--exec", "cat", "--mode", "emulated").out
    assert "emulated: nothing is substituted in the mode 'emulated'" in said


@pytest.mark.long
def test_why_in_a_store_without_roots(xbuild: Xbuild, tmp_path: Path) -> None:
    xbuild.recipe()
    empty = {"XBUILD_CACHE": str(tmp_path / "empty")}
    said = xbuild("why", "tiny", "--exec", "sed", env=empty, code=2).err
    assert "is not made yet, so xbuild cannot tell how a program would run" in said
    assert " -m invoke build tiny --target armhf" in said
