"""Rules about options before a script, and about whose script it is, with the real kernel and real twins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.integration.conftest import Armhf, Target, make_target
from xbuild.dispatcher.table import Entry
from xbuild.formats.debian import Tree
from xbuild.formats.record import Choice
from xbuild.model.policy import Tool
from xbuild.twins import pairing

pytestmark = pytest.mark.integration

OWN = {
    "scripts": ["/usr/bin/(zless|zmore|which|nothing)"],
    "script-options": ["-e", "-O*"],
    "value-options": ["-O"],
    "script-words": ["--version", "-u -c"],
}
OPTIONS = {"emulate-options": ["-v", "-n*"], "value-options": ["-o"]}

Ran = Callable[[str, str], list[Choice]]


@pytest.fixture(scope="module")
def tables(armhf: Armhf) -> dict[str, Sequence[Entry]]:
    """The table by each of the two sets of rules for bash."""
    made = dict[str, Sequence[Entry]]()
    for name, rules in (("own", OWN), ("options", OPTIONS)):
        tools = dict(armhf.policy.tools)
        tools["bash"] = Tool.model_validate({**tools["bash"].model_dump(by_alias=True), **rules})
        policy = armhf.policy.model_copy(update={"tools": tools})
        made[name] = pairing.pair(armhf.natives.twins, Tree(armhf.layers), policy, armhf.toolchain).table
    return made


@pytest.fixture
def ran(armhf: Armhf, tables: dict[str, Sequence[Entry]], place: Path) -> Ran:
    """Gives what was decided about bash, each time that a shell text starts it, by further rules."""

    def verdicts(rules: str, text: str) -> list[Choice]:
        target: Target = make_target(armhf, place, tables[rules])
        target.sh(f"cd /tmp; echo exit >own; cp -r $(readlink -f /usr/bin/zmore) copied; ({text}) >&2 || :")
        return [known.verdict for known in target.execs() if known.path == "/usr/bin/bash"]

    return verdicts


@pytest.mark.parametrize(
    "words",
    [
        ["/usr/bin/zless"],
        ["/usr/bin/../bin/zmore", "-c", "/tmp/own"],
        ["-e", "-O", "extglob", "-Oextglob", "/usr/bin/zless"],
        ["--version"],
        ["-e", "-u", "-c", "exit"],
    ],
)
def test_the_twin_runs_a_distributions_script(ran: Ran, words: Sequence[str]) -> None:
    assert ran("own", f"bash {' '.join(words)} </dev/null") == [Choice.TWIN]


@pytest.mark.parametrize(
    "text",
    [
        "bash own",
        "bash copied",
        "bash /usr/bin/zdiff",
        "bash -O /usr/bin/zless own",
        "bash -x /usr/bin/zless",
        "bash -c exit /usr/bin/zless",
        "bash -u /usr/bin/zless -c",
        "bash -u '' -c",
        "bash -ec exit",
        "bash </usr/bin/zless",
        "bash - </usr/bin/zless",
        "bash -e",
        "bash /usr/bin/no-such-file",
        "bash ''",
        "bash /usr/bin",
        "bash /usr/bin/sed",
        "mkfifo p; echo exit >p & bash p",
    ],
)
def test_the_targets_own_runs_all_else(ran: Ran, text: str) -> None:
    assert ran("own", text) == [Choice.ARGUMENT]


def test_a_script_is_found_by_its_line(ran: Ran) -> None:
    """By a link too; and not, once it is another file."""
    text = "printf '#!/bin/bash -e\\nexit\\n' >s; chmod +x s; ./s; ln -s /usr/bin/zless l; bash l; bash -e ./l"
    assert ran("own", text) == [Choice.ARGUMENT, Choice.TWIN, Choice.TWIN]


@pytest.mark.parametrize(
    ("words", "verdict"),
    [
        ("-v own", Choice.ARGUMENT),
        ("-e -nu own", Choice.ARGUMENT),
        ("-o nounset -v own", Choice.ARGUMENT),
        ("-o -v", Choice.TWIN),
        ("own -v", Choice.TWIN),
        ("-- own -v", Choice.TWIN),
        ("-o nounset own -n", Choice.TWIN),
        ("", Choice.TWIN),
    ],
)
def test_options_before_the_first_other_word(ran: Ran, words: str, verdict: Choice) -> None:
    assert ran("options", f"bash {words} </dev/null") == [verdict]
