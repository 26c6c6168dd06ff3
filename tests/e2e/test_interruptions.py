"""^C, kill -9, crashes and company: nothing is left behind, and the same command then succeeds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.command_line import Xbuild, mounts, processes, wait_for
from xbuild.sandbox.run import remove_tree

pytestmark = pytest.mark.e2e

# Hangs once, and goes on when it is run again in the same tree.
_ONCE = 'if [ ! -e first ]; then touch first; echo started; sleep {}; fi; echo 42 > answer'
# Enough for unpacking and packing to take a while: neither compresses.
_BULKY = {f"{number}.bin": os.urandom(1 << 16) for number in range(300)}
_BULKY_BUILD = {
    "compile": "sleep 1; cat *.bin *.bin *.bin > bulk; echo 42 > answer",
    "install": 'install -D -m 644 answer "$DESTDIR/usr/share/answer"; cp bulk "$DESTDIR/usr/share/"',
}


def nothing_is_left(xbuild: Xbuild, marker: str) -> None:
    """No process of the build and no mount; what is killed takes a moment to go."""
    wait_for(f"the end of {marker}", lambda: processes(marker) == [], 10)
    wait_for("the end of all sandboxes", lambda: processes(str(xbuild.cache)) == [], 10)
    assert mounts(xbuild.cache) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_polite_end(xbuild: Xbuild, number: signal.Signals) -> None:
    marker = f"sleep 9871{number:02d}"
    xbuild.recipe(build={"compile": _ONCE.format(marker.split()[1])})
    process = xbuild.start("build", "tiny", "--target", "armhf")
    wait_for("the phase", lambda: xbuild.log() == "started\n")
    wait_for(marker, lambda: processes(marker))
    process.send_signal(number)
    said = xbuild.ended(process, code=130)
    assert "warning: interrupted; a build goes on where it stopped when the same command is given again" in said.err
    nothing_is_left(xbuild, marker)
    again = xbuild("build", "tiny", "--target", "armhf")
    assert "from compile, it was interrupted here" in again.err


def test_control_c_reaches_the_whole_terminal(xbuild: Xbuild) -> None:
    """A terminal sends SIGINT to every process of the foreground group, not to xbuild alone."""
    marker = "sleep 98720"
    xbuild.recipe(build={"compile": _ONCE.format("98720")})
    process = xbuild.start("build", "tiny", "--target", "armhf")
    wait_for("the phase", lambda: xbuild.log() == "started\n")
    os.killpg(process.pid, signal.SIGINT)
    xbuild.ended(process, code=130)
    nothing_is_left(xbuild, marker)
    assert xbuild.build("tiny")["status"] == "built"


def _moments(xbuild: Xbuild) -> dict[str, Callable[[], object]]:
    place, tmp = xbuild.place(), xbuild.cache / "tmp"
    return {
        "packs the source": lambda: [*tmp.glob("tree-*")],
        "unpacks": lambda: len([*(place / "build/src").glob("*.bin")]) > 5,
        "runs a phase": lambda: (place / "logs").is_dir() and [*(place / "logs").iterdir()],
        "installs": lambda: (place / "build/dest/usr/share/answer").exists(),
        "packs the artifact": lambda: [*tmp.glob("artifacts-*/*")],
    }


_LONG = [pytest.param(moment, marks=pytest.mark.long) for moment in ("unpacks", "installs", "packs the artifact")]


@pytest.mark.parametrize("moment", ["packs the source", "runs a phase", *_LONG])
def test_kill_at_a_moment(xbuild: Xbuild, moment: str) -> None:
    xbuild.recipe(files=_BULKY, build=_BULKY_BUILD)
    process = xbuild.start("build", "tiny", "--target", "armhf")
    wait_for(f"xbuild {moment}", _moments(xbuild)[moment])
    process.kill()
    xbuild.ended(process, code=-9)
    nothing_is_left(xbuild, "sleep 1 ")
    result = xbuild.build("tiny")
    assert result["status"] == "built"
    # Nothing of the killed build is left but what its successor used.
    assert [path.name for path in (xbuild.cache / "artifacts").iterdir()] == [_key(result)]
    assert not xbuild.place().exists()
    assert [*(xbuild.cache / "tmp").glob("artifacts-*")] == []


def _key(result: dict[str, str]) -> str:
    return str(json.loads(Path(result["manifest"]).read_text())["key"])[:20]


@pytest.mark.long
def test_kill_at_any_time(xbuild: Xbuild) -> None:
    """Killed again and again, a little later each time, the build gives in the end what an undisturbed one gives."""
    xbuild.recipe(build={"configure": "sleep 0.3", "compile": "sleep 0.3; echo 42 > answer"})
    undisturbed = xbuild.build("tiny")["sha256"]
    xbuild("clean")
    finished, delay = False, 0.2
    while not finished:
        process = xbuild.start("build", "tiny", "--target", "armhf")
        try:
            process.wait(delay)
            finished = True
        except subprocess.TimeoutExpired:
            process.kill()
        xbuild.ended(process, code=0 if finished else -9)
        delay += 0.15
        assert delay < 60
    assert xbuild.build("tiny")["sha256"] == undisturbed
    nothing_is_left(xbuild, str(xbuild.project))


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (signal.SIGKILL, "from unpack, 'compile' was cut short, and what it left half written might count as finished"),
        pytest.param(signal.SIGINT, "from compile, it was interrupted here", marks=pytest.mark.long),
    ],
    ids=["kill", "control-c"],
)
def test_what_is_half_written_is_not_taken_for_finished(xbuild: Xbuild, number: signal.Signals, reason: str) -> None:
    """make goes by the time of a file; of what ends it in order it removes what it was making."""
    rule = "answer:\n\techo 4 > $@; echo started; sleep 3; echo 42 > $@\n"
    xbuild.recipe(files={"Makefile": rule}, build={"compile": "make -s answer"})
    undisturbed = xbuild.build("tiny")["sha256"]
    xbuild("clean")
    process = xbuild.start("build", "tiny", "--target", "armhf")
    wait_for("the half of a file", lambda: xbuild.log() == "started\n")
    process.send_signal(number)
    xbuild.ended(process, code=-9 if number == signal.SIGKILL else 130)
    again = xbuild("build", "tiny", "--target", "armhf")
    assert reason in again.err
    assert xbuild.build("tiny")["sha256"] == undisturbed


def test_kill_while_a_layer_is_made(xbuild: Xbuild, user_cache: Path) -> None:
    """Also what takes the network and apt, a layer with a package that nothing else wants."""
    (xbuild.cache / "layers").unlink()
    try:
        xbuild.recipe(depends={"packages": ["bc"]}, build={"compile": "echo '6 * 7' | bc > answer"})
        process = xbuild.start("build", "tiny", "--target", "armhf")
        wait_for("apt", lambda: [*(xbuild.cache / "tmp").glob("layers-*/upper/var/lib/dpkg/*")], 300)
        process.kill()
        xbuild.ended(process, code=-9)
        nothing_is_left(xbuild, "apt-get")
        assert xbuild.build("tiny")["status"] == "built"
        assert [*(xbuild.cache / "tmp").glob("layers-*")] == []
    finally:
        remove_tree(xbuild.cache / "layers")
        (xbuild.cache / "layers").symlink_to(user_cache / "layers")


def test_two_builds_of_the_same_recipe_at_once(xbuild: Xbuild) -> None:
    xbuild.recipe(build={"compile": "sleep 2; echo 42 > answer"})
    running = [xbuild.start("build", "tiny", "--target", "armhf", "--json") for _ in range(3)]
    said = [xbuild.ended(process) for process in running]
    assert sorted(one.json["status"] for one in said) == ["built", "up-to-date", "up-to-date"]
    assert len({one.json["sha256"] for one in said}) == 1
    assert sum("waiting for another xbuild that builds tiny 1 for armhf" in one.err for one in said) == 2


@pytest.mark.long
def test_builds_of_different_recipes_at_once(xbuild: Xbuild) -> None:
    names = ["tiny", "small", "little"]
    for name in names:
        xbuild.recipe(name, build={"compile": "sleep 2; echo 42 > answer"})
    started = time.monotonic()
    running = [xbuild.start("build", name, "--target", "armhf", "--json") for name in names]
    said = [xbuild.ended(process) for process in running]
    assert [one.json["status"] for one in said] == ["built"] * 3
    # They may wait for each other's source, which is the same, but not for each other's build.
    assert all("that builds" not in one.err for one in said)
    assert time.monotonic() - started < 60


@pytest.mark.long
def test_a_shell_does_not_disturb_a_build(xbuild: Xbuild) -> None:
    xbuild.recipe(build={"compile": "echo started; sleep 3; echo 42 > answer"})
    process = xbuild.start("build", "tiny", "--target", "armhf")
    wait_for("the phase", lambda: xbuild.log() == "started\n")
    said = xbuild("shell", "tiny", "--", "true", code=4).err
    assert "there is another xbuild that builds tiny 1 for armhf" in said
    xbuild.ended(process)


_CONTENTS = {"empty": "", "cut": "{", "of another": '{"key": "0", "value": {}}'}


@pytest.mark.parametrize(
    "content",
    [pytest.param(text, id=name, marks=() if name == "cut" else pytest.mark.long) for name, text in _CONTENTS.items()],
)
def test_a_corrupt_entry_of_the_cache(xbuild: Xbuild, content: str) -> None:
    xbuild.recipe()
    first = xbuild.build("tiny")
    (xbuild.cache / "artifacts" / _key(first) / "key.json").write_text(content)
    second = xbuild.build("tiny")
    assert (second["status"], second["sha256"]) == ("built", first["sha256"])
    assert xbuild.build("tiny")["status"] == "up-to-date"


def test_a_corrupt_state_of_a_work_place(xbuild: Xbuild) -> None:
    xbuild.recipe(build={"compile": "false"})
    xbuild.fails("tiny", code=3)
    (xbuild.place() / "progress.json").write_text('{"records": [{"name"')
    xbuild.recipe()
    assert xbuild.build("tiny")["status"] == "built"


def test_what_is_missing_in_dist_is_brought_again(xbuild: Xbuild) -> None:
    xbuild.recipe()
    first = xbuild.build("tiny")
    Path(first["artifact"]).unlink()
    second = xbuild.build("tiny")
    assert second["status"] == "up-to-date"
    assert Path(second["artifact"]).stat().st_size == second["bytes"]
