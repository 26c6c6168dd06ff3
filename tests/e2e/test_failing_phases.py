"""What a user meets when a phase fails, and how he goes on."""

from __future__ import annotations

import time

import pytest

from tests.e2e.command_line import Xbuild, own_sleep, processes

pytestmark = pytest.mark.e2e

# Counts how often configure ran.
_COUNTED = {
    "configure": "echo x >> runs",
    "compile": 'echo one; echo "the last words" >&2; exit 7',
    "install": 'install -D -m 644 runs "$DESTDIR/usr/share/answer"',
}


def test_a_failing_phase_says_what_and_where_and_what_next(xbuild: Xbuild) -> None:
    xbuild.recipe(build=_COUNTED)
    said = xbuild.fails("tiny", code=3)
    log = next(xbuild.place().glob("logs/*-compile.log"))
    assert "error: tiny 1 for armhf: phase 'compile' failed after" in said
    assert "(exit code 7)" in said
    assert "one\n" in said
    assert "the last words\n" in said
    assert f"log:    {log}\n" in said
    assert " -m invoke shell tiny --target armhf\n" in said
    assert " -m invoke build tiny --target armhf    (resumes at this phase)\n" in said
    assert log.read_text() == "one\nthe last words\n"
    assert xbuild("log", "tiny", "--phase", "compile").out.endswith("one\nthe last words\n")
    # The shell is in the failed build's own tree.
    assert xbuild("shell", "tiny", "--", "cat", "/build/src/runs").out == "x\n"


def test_it_resumes_at_the_failed_phase(xbuild: Xbuild) -> None:
    xbuild.recipe(build=_COUNTED)
    xbuild.fails("tiny", code=3)
    xbuild.recipe(build={**_COUNTED, "compile": "true"})
    plan = xbuild("build", "tiny", "--plan", "--json").json["plan"]
    verdicts = {action["name"]: action["verdict"] for action in plan}
    expected = {"unpack": "skip", "configure": "skip", "compile": "resume", "install": "run"}
    assert {name: verdicts[name] for name in expected} == expected
    result = xbuild.build("tiny", "--keep")
    assert (xbuild.place() / "build/src/runs").read_text() == "x\n"
    assert [phase["name"] for phase in result["phases"]] == ["unpack", "configure", "compile", "install"]


def test_from_runs_a_phase_again(xbuild: Xbuild) -> None:
    xbuild.recipe(build={**_COUNTED, "compile": "true"})
    first = xbuild.build("tiny", "--keep")
    again = xbuild.build("tiny", "--keep", "--from", "configure")
    assert (first["status"], again["status"]) == ("built", "built")
    assert (xbuild.place() / "build/src/runs").read_text() == "x\nx\n"
    assert first["sha256"] != again["sha256"]


def test_from_an_unknown_phase(xbuild: Xbuild) -> None:
    xbuild.recipe()
    assert "did you mean 'install'?" in xbuild.fails("tiny", "--from", "instal", code=2)


def test_from_a_phase_whose_way_is_not_done(xbuild: Xbuild) -> None:
    xbuild.recipe()
    assert "cannot start from 'install'" in xbuild.fails("tiny", "--from", "install", code=2)


def test_an_earlier_phase_that_changed_starts_all_anew(xbuild: Xbuild) -> None:
    xbuild.recipe(build=_COUNTED)
    xbuild.fails("tiny", code=3)
    xbuild.recipe(build={**_COUNTED, "configure": "echo y >> runs", "compile": "true"})
    said = xbuild("build", "tiny", "--keep").err
    assert "inputs of 'configure' changed, so all starts anew" in said
    assert (xbuild.place() / "build/src/runs").read_text() == "y\n"


def test_a_phase_that_a_signal_kills(xbuild: Xbuild) -> None:
    xbuild.recipe(build={"compile": "kill -SEGV $$"})
    assert "(killed by SIGSEGV)" in xbuild.fails("tiny", code=3)


def test_a_phase_that_hangs_is_ended(xbuild: Xbuild) -> None:
    xbuild.recipe(build={"compile": own_sleep(98701)}, idle_limit="3s")
    started = time.monotonic()
    said = xbuild.fails("tiny", code=3)
    assert "warning: compile has said nothing and used no CPU for" in said
    assert "(ended after 3.0 s without output and CPU use)" in said
    assert time.monotonic() - started < 30
    assert processes(own_sleep(98701)) == []


@pytest.mark.parametrize("mode", ["substituted", pytest.param("emulated", marks=pytest.mark.long)])
def test_a_busy_phase_is_not_ended(xbuild: Xbuild, mode: str) -> None:
    busy = 'timeout 8 sh -c "while :; do :; done" || [ $? = 124 ]; echo 42 > answer'
    xbuild.recipe(build={"compile": busy}, idle_limit="3s")
    result = xbuild.build("tiny", "--mode", mode)
    seconds = {phase["name"]: phase["seconds"] for phase in result["phases"]}
    assert seconds["compile"] > 7


@pytest.mark.long
def test_a_talking_phase_is_not_ended(xbuild: Xbuild) -> None:
    talk = "for i in 1 2 3 4 5; do sleep 1; echo $i; done; echo 42 > answer"
    xbuild.recipe(build={"compile": talk}, idle_limit="3s")
    assert xbuild.build("tiny")["status"] == "built"


def test_a_check_that_takes_too_long(xbuild: Xbuild) -> None:
    xbuild.recipe(check={"command": "while :; do :; done", "timeout": "3s"})
    assert "(ended after its time limit of 3.0 s)" in xbuild.fails("tiny", code=3)


def test_the_missing_header_is_named(xbuild: Xbuild) -> None:
    files = {"a.c": "#include <no_such_header.h>\n"}
    xbuild.recipe(files=files, build={"compile": "cc -c a.c"})
    said = xbuild.fails("tiny", code=3)
    assert "hint: header no_such_header.h is missing: put the package that has it into depends.packages" in said


def test_a_patch_that_does_not_apply(xbuild: Xbuild) -> None:
    patch = "--- a/README\n+++ b/README\n@@ -1 +1 @@\n-something\n+else\n"
    (xbuild.project / "recipes" / "wrong.patch").write_text(patch)
    xbuild.recipe(patches=["wrong.patch"])
    said = xbuild.fails("tiny", code=3)
    assert "a patch does not apply" in said
    assert "README" in said


def test_an_empty_answer_of_the_log(xbuild: Xbuild) -> None:
    xbuild.recipe()
    assert "no log of tiny 1 for armhf" in xbuild("log", "tiny", code=2).err


def test_logs_stay_with_the_artifact(xbuild: Xbuild) -> None:
    xbuild.recipe(build={"compile": "echo the words; echo 42 > answer"})
    xbuild.build("tiny")
    assert not xbuild.place().exists()
    assert xbuild("log", "tiny", "--phase", "compile").out.endswith("the words\n")
