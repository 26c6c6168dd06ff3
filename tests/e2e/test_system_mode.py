"""Mode system and the command check, as a user has them. The slow rest is in tests/slow/system-mode."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.command_line import Xbuild, unpacked
from tests.e2e.test_needed_recipes import PROGRAM, library, program

pytestmark = pytest.mark.e2e

KERNEL = "cat /proc/sys/kernel/osrelease"


def test_the_plan_names_the_parts_of_the_machine(xbuild: Xbuild) -> None:
    xbuild.recipe()
    plan = xbuild("build", "tiny", "--target", "armhf", "--mode", "system", "--plan", "--json").json["plan"]
    names = [action["name"] for action in plan]
    assert {"emulator of machines", "kernel for armhf", "target root armhf"} <= set(names)
    assert names[-2:] == ["check outputs", "pack"]


def test_what_has_no_machine_says_so(xbuild: Xbuild) -> None:
    path = xbuild.project / "toolchains/armhf.yml"
    text = path.read_text()
    start = text.index("system:\n")
    path.write_text(text[:start] + text[text.index("distribution:\n") :])
    xbuild.recipe()
    said = xbuild.fails("tiny", "--mode", "system", code=2)
    assert "mode system: the target armhf has no machine to emulate" in said
    assert "toolchains/armhf.yml" in said


def test_a_mistake_in_the_machine_s_description_has_a_place(xbuild: Xbuild) -> None:
    path = xbuild.project / "toolchains/armhf.yml"
    path.write_text(path.read_text().replace("  cpu: cortex-a15\n", "  cqu: cortex-a15\n  memory: 5\n"))
    xbuild.recipe()
    said = xbuild.fails("tiny", "--mode", "system", code=2)
    assert "armhf.yml:" in said
    assert "cqu" in said
    assert "memory" in said


def test_nothing_is_recorded_in_a_machine(xbuild: Xbuild) -> None:
    xbuild.recipe()
    said = xbuild("trace", "tiny", "--target", "armhf", "--mode", "system", code=2).err
    assert "in an emulated machine the target's own kernel starts all programs" in said


def test_only_what_is_built_can_be_checked(xbuild: Xbuild) -> None:
    xbuild.recipe()
    said = xbuild("check", "tiny", "--target", "armhf", code=2).err
    assert "there is no artifact of tiny 1 for armhf" in said
    assert "invoke build tiny --target armhf" in said
    said = xbuild("check", "tiny", "--target", "amd64", "--system", code=2).err
    assert "amd64 is this machine itself" in said


@pytest.mark.long
def test_checks_run_again_in_a_sandbox(xbuild: Xbuild) -> None:
    program = "#!/bin/sh\necho 42\n"
    xbuild.recipe(
        files={"answer.sh": program},
        build={"compile": "true", "install": 'install -D answer.sh "$DESTDIR/usr/bin/answer"'},
        # The second time in the same tree it fails.
        check={"command": "test ! -e once && touch once", "timeout": "1m"},
        outputs=[{"path": "usr/bin/answer", "kind": "executable", "run": [], "prints": "42"}],
    )
    xbuild.build("tiny")
    assert not xbuild.place().exists()
    checked = xbuild("check", "tiny", "--target", "armhf", "--json").json
    assert (checked["phase"], checked["outputs"], checked["faults"]) == ("passed", 1, [])
    assert checked["where"] == "sandbox"
    # Nothing was kept for it.
    assert not xbuild.place().exists()
    xbuild.build("tiny", "--from", "unpack", "--keep")
    failed = xbuild("check", "tiny", "--target", "armhf", "--json", code=5)
    assert failed.json["phase"] == "failed"
    assert "phase 'check' failed" in failed.json["faults"][0]
    assert Path(failed.json["log"]).exists()
    assert "error: tiny 1 for armhf: checks failed" in failed.err


@pytest.mark.long
def test_checks_run_again_in_a_machine_with_a_kernel_of_its_own(xbuild: Xbuild) -> None:
    """What asks for the kernel finds another one there, and that is the proof that it ran there."""
    xbuild.recipe(
        build={"compile": f"{KERNEL} > mine; echo 42 > answer"},
        check={"command": f'echo "here is $({KERNEL})"; test "$({KERNEL})" = "$(cat mine)"', "timeout": "5m"},
    )
    xbuild.build("tiny", "--keep", target="arm64")
    assert xbuild("check", "tiny", "--target", "arm64", "--json").json["phase"] == "passed"
    failed = xbuild("check", "tiny", "--target", "arm64", "--system", "--json", code=5)
    assert (failed.json["where"], failed.json["phase"]) == ("machine", "failed")
    log = Path(failed.json["log"]).read_text()
    assert log.startswith("here is ")
    assert "arm64" in log
    assert "checks failed in an emulated machine" in failed.err
    # The tree is as it was: a build in it still passes.
    assert xbuild("check", "tiny", "--target", "arm64", "--json").json["phase"] == "passed"
    assert not (xbuild.place(target="arm64") / "machine").exists()


@pytest.mark.long
def test_a_machine_has_what_is_needed_of_other_recipes(xbuild: Xbuild) -> None:
    """Layers over the root, which lie on the machine's disk: headers, a library by ld.so's cache, what was hidden."""
    library(xbuild)
    own = "ldconfig -p | grep -c /opt/number >> answer; cat answer"
    program(xbuild, compile=f"{PROGRAM['compile']} && {own}")
    made = {mode: unpacked(xbuild.build("show", "--mode", mode)["artifact"]) for mode in ("substituted", "system")}
    assert made["system"] == made["substituted"]
    said = xbuild("log", "show", "--target", "armhf", "--mode", "system", "--phase", "compile").out
    assert said.endswith("number 42\n2\n")
    # Other bytes of the library are another disk.
    library(xbuild, "43")
    xbuild.build("show", "--mode", "system")
    said = xbuild("log", "show", "--target", "armhf", "--mode", "system", "--phase", "compile").out
    assert said.endswith("number 43\n2\n")
