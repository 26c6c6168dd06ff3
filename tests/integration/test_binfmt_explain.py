"""What `binfmt.explain` says, held against what the kernel does, in a private binfmt_misc."""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Armhf
from xbuild.base.paths import PACKAGE
from xbuild.binfmt.render import for_architecture, render
from xbuild.sandbox.run import machine_view, run

pytestmark = pytest.mark.integration

CASES = {
    "no entry": "no-entry",
    "other byte order": "no-entry",
    "static": "ok",
    "entry disabled": "entry-disabled",
    "all disabled": "binfmt-disabled",
    "cut in the header": "truncated",
    "cut, and taken": "truncated",
    "cut in its code": "truncated",
    "object": "not-a-program",
    "native object": "not-a-program",
    "mode 0644": "not-executable",
    "not there": "no-such-file",
    "dangling link": "dangling-link",
    "circle of links": "link-loop",
    "link": "ok",
    "directory": "directory",
    "behind a file": "no-such-file",
    "empty": "empty",
    "data": "no-program",
    "noexec": "noexec",
    "script": "ok",
    "script of an ARM program": "ok",
    "script without a last line end": "ok",
    "carriage returns": "script-line-ends",
    "no such interpreter": "script-interpreter-missing",
    "interpreter not executable": "script-interpreter-not-executable",
    "nothing behind #!": "script-interpreter-missing",
    "a long line": "script-line-too-long",
    "long arguments": "ok",
    "byte order mark": "byte-order-mark",
    "no #!": "no-interpreter-line",
    "env": "script-interpreter-missing",
    "five interpreters": "ok",
    "six interpreters": "loop",
    "native": "ok",
    "loader missing": "loader-missing",
    "library missing": "library-missing",
    "loader is short": "loader-wrong",
    "loader is no ELF file": "loader-wrong",
    "loader not executable": "loader-not-executable",
    "cut native program": "truncated",
    "other loader": "loader-missing",
    "dynamic in its root": "ok",
    "script in its root": "ok",
    "dynamic outside of its root": "loader-missing",
    "setuid": "ok",
    "static in a chroot": "ok",
    "without F": "ok",
    "without F in a chroot": "interpreter-missing",
    "F, and the interpreter is gone": "ok",
    "interpreter missing": "interpreter-missing",
    "the newest counts": "ok",
    "F and a dynamic interpreter": "ok",
    "F and a dynamic interpreter, in a chroot": "interpreter-loader-missing",
    "the interpreter is a script": "ok",
    "its own interpreter": "loop",
    "interpreter is not executable": "interpreter-not-executable",
    "extension": "ok",
    "other extension": "no-interpreter-line",
    "zeros behind the end of the file": "ok",
}
"""By case of binfmt_cases.py: the cause."""

ENDS = {
    "static": 42, "link": 42, "setuid": 42, "static in a chroot": 42, "without F": 42,
    "F, and the interpreter is gone": 42, "script": 7, "script of an ARM program": 42, "the interpreter is a script": 3,
    "script in its root": 1,
}  # fmt: skip
"""Exit codes of programs that run, besides 0."""


@pytest.fixture(scope="session")
def found(armhf: Armhf) -> dict[str, Any]:
    """What came of all cases."""
    qemu = armhf.natives.private / "qemu"
    line = render(for_architecture("hexagon", interpreter="/bin/true", flags="F")).register
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": str(PACKAGE.parent), "LC_ALL": "C.UTF-8"}
    # One entry, so that there is an instance.
    sandbox = replace(machine_view(), registrations=(line,), env=env)
    script = Path(__file__).with_name("binfmt_cases.py")
    with tempfile.TemporaryFile() as output:
        code = run(sandbox, [sys.executable, script, qemu, armhf.layers[0]], output=output, check=False)
        output.seek(0)
        said = output.read().decode()
    assert code == 0, said
    cases: dict[str, Any] = json.loads(said)
    return cases


def test_all_cases(found: dict[str, Any]) -> None:
    assert set(found) == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_the_cause_and_what_really_happens(found: dict[str, Any], name: str) -> None:
    case = found[name]
    assert case["cause"] == CASES[name], case
    match case["verdict"]:
        case "runs":
            assert case["real"] == {"ended": ENDS.get(name, 0)}
        case "dies":
            assert case["real"].get("ended") not in (None, 0, 42), case
        case other:
            assert other == "refused"
            assert case["real"] == {"errno": case["errno"]}


def test_byte_by_byte(found: dict[str, Any]) -> None:
    taken = found["static"]["comparisons"][0]
    assert (taken["entry"], taken["takes"], len(taken["bytes"])) == ("qemu-arm", True, 20)
    nearest = found["other byte order"]["comparisons"][0]
    assert not nearest["takes"]
    assert {item["field"] for item in nearest["bytes"] if not item["equal"]} == {"byte order", "type", "machine"}


def test_what_a_user_should_know(found: dict[str, Any]) -> None:
    assert "its setuid or setgid bit has no effect: the entry has no flag C" in found["setuid"]["notes"]
    assert "the newest entry that fits counts; older would fit too" in found["the newest counts"]["notes"]
    assert "invoke binfmt.install riscv64 --system" not in str(found["static"]["hints"])
    assert "invoke binfmt.install riscv32 --system" in str(found["no entry"]["hints"])


def test_every_failure_of_the_users_own_making_has_a_hint(found: dict[str, Any]) -> None:
    obvious = {"no-such-file", "dangling-link", "link-loop", "directory", "empty", "no-program"}
    other = {"script-interpreter-not-executable", "script-line-too-long", "loader-wrong", "loader-not-executable"}
    lacking = {case["cause"] for case in found.values() if case["cause"] != "ok" and not case["hints"]}
    assert lacking <= obvious | other | {"interpreter-not-executable"}
