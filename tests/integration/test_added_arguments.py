"""Arguments that a policy's rule adds for a tool, with the real kernel and real twins."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from tests.integration.conftest import Armhf, Target, make_target
from xbuild.formats.debian import Tree
from xbuild.formats.record import Choice
from xbuild.model.policy import Tool
from xbuild.twins import pairing

pytestmark = pytest.mark.integration

Rule = Mapping[str, Sequence[str]]
Make = Callable[..., Target]


@pytest.fixture
def make(armhf: Armhf, place: Path) -> Make:
    """Gives a target whose policy has further rules for some tools."""

    def made(**rules: Rule) -> Target:
        tools = dict(armhf.policy.tools)
        for name, more in rules.items():
            tools[name] = Tool.model_validate({**tools[name].model_dump(by_alias=True), **more})
        policy = armhf.policy.model_copy(update={"tools": tools})
        pairs = pairing.pair(armhf.natives.twins, Tree(armhf.layers), policy, armhf.toolchain)
        return make_target(armhf, place, pairs.table)

    return made


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["x"], "arm-linux-gnueabihf a b x"),
        ([], "arm-linux-gnueabihf a b"),
        (["", "-n", ""], "arm-linux-gnueabihf a b  -n "),
        (["--plain=1", "x"], "--plain=1 x"),
        (["x", "--plain"], "x --plain"),
        (["x", "--plan"], "arm-linux-gnueabihf a b x --plan"),
    ],
)
def test_words_come_before_the_others(make: Make, words: list[str], said: str) -> None:
    target = make(coreutils={"add-args": ["{triplet}", "a b"], "add-args-unless": ["--plain*"]})
    assert target.says("echo", *words) == said
    assert [(known.path, known.verdict) for known in target.execs()] == [("/usr/bin/echo", Choice.TWIN)]


def test_a_program_has_its_name_and_its_words(make: Make) -> None:
    target = make(bash={"add-args": ["-o", "nounset"]})
    assert target.sh("exec bash -c 'exec -a foo bash -c \"echo \\$0 \\$-\"'") == "foo huBc"
    script = "printf '#!/bin/bash -e\\necho $- $0 $*\\n' >/tmp/s; chmod +x /tmp/s; /tmp/s 'a b' c"
    assert target.sh(script) == "ehuB /tmp/s a b c"


def test_added_words_are_no_question(make: Make) -> None:
    target = make(coreutils={"add-args": ["/proc/self/exe"]})
    assert target.says("echo", "x") == "/proc/self/exe x"
    assert " (cat) " in target.says("cat", "/proc/self/stat")
    assert [known.verdict for known in target.execs()] == [Choice.TWIN, Choice.ARGUMENT]


@pytest.mark.parametrize(("flags", "verdict"), [("", Choice.TWIN), ("-flto", Choice.WIDTH_TWIN)])
def test_beside_variables_and_for_the_twin_of_another_width(make: Make, flags: str, verdict: Choice) -> None:
    target = make(gcc={"add-args": ["-DDRIVER={version}"]}, cc1={"add-args": ["-DPROPER={version}"]})
    check = "_Static_assert(DRIVER == 14 && PROPER == 14, \"\"); int a;"
    assert target.sh(f"cd /tmp; echo '{check}' >a.c; gcc -c {flags} a.c") == ""
    assert [known.verdict for known in target.execs() if known.path.endswith("/cc1")] == [verdict]


def test_not_for_the_targets_own_program(make: Make) -> None:
    target = make(coreutils={"add-args": ["added"], "add-args-unless": ["/usr/bin/echo"], "emulate-args": ["-v"]})
    assert target.says("echo", "-v") == "-v"
    assert target.sh("cp /usr/bin/echo /tmp; /tmp/echo x; /usr/bin/echo x") == "x\nadded x"


def test_where_there_is_no_room_for_them_the_targets_own_runs(make: Make) -> None:
    """By its own words, as many as it was given: 2 MiB with all variables is what execve(2) takes."""
    target = make(coreutils={"add-args": ["y" * 100_000]})
    words = ["x" * 100_000] * 20
    assert target.says("echo", *words) == " ".join(words)
    assert [known.verdict for known in target.execs()] == [Choice.TWIN, Choice.FAILED]
    assert len(target.says("echo", *words[:-1])) == 20 * 100_001 - 1
