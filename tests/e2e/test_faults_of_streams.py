"""Commands that do their work, with nobody to tell it to; and files in the way."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.e2e.command_line import CHECKOUT, Xbuild
from xbuild.sandbox.run import remove_tree

pytestmark = pytest.mark.e2e

# By a shell, which can close a stream as users' scripts do.
_STREAMS = {"full": ">/dev/full", "closed": ">&-", "broken": "", "deaf": "2>/dev/full", "all closed": "<&- >&- 2>&-"}
_TELL = {
    "build": ["build", "tiny"],
    "build json": ["build", "tiny", "--json"],
    "why": ["why", "tiny"],
    "trace": ["trace", "tiny", "--json"],
    "log": ["log", "tiny"],
    "check": ["check", "tiny"],
    "compare": ["compare", "tiny", "--modes", "substituted,emulated", "--json"],
    "export": ["export", "--layer", "--tar", "{project}/layer.tar"],
}
_TELL_NOT = {"shell": ["shell", "tiny", "--", "true"], "run": ["run", "--target", "armhf", "--", "true"]}


@pytest.fixture
def built(xbuild: Xbuild) -> Iterator[Xbuild]:
    """xbuild with something that is built."""
    xbuild.recipe(check={"command": "true", "timeout": "1m"})
    xbuild.build("tiny")
    yield xbuild
    remove_tree(xbuild.cache / "sessions")


# All commands are run for each; CI has the time for one.
_FIRST, *_OTHERS = _STREAMS


@pytest.mark.parametrize("stream", [_FIRST, *(pytest.param(one, marks=pytest.mark.long) for one in _OTHERS)])
def test_streams(built: Xbuild, stream: str) -> None:
    codes = {}
    for name, words in {**_TELL, **_TELL_NOT}.items():
        own = [word.format(project=built.project) for word in words]
        script = f'"$@" {_STREAMS[stream]}'
        # Of a pipe the first program's code counts.
        if stream == "broken":
            script = '{ "$@"; echo $? >&3; } 3>"$0" | true; exit "$(cat "$0")"'
        command = ["sh", "-c", script, f"{built.project}/code", sys.executable, "-m", "invoke", *own]
        done = subprocess.run(command, cwd=CHECKOUT, env=built.environment(), capture_output=True, check=False)
        assert b"Traceback" not in done.stderr, done.stderr.decode()
        assert b"Exception ignored" not in done.stderr, done.stderr.decode()
        codes[name] = done.returncode
    told = {"full": {4}, "closed": {4}, "broken": {0, 141}, "deaf": {0}, "all closed": {4}}[stream]
    assert {name: code for name, code in codes.items() if name in _TELL and code not in told} == {}
    assert {name: codes[name] for name in _TELL_NOT} == dict.fromkeys(_TELL_NOT, 0)
    # What could not be told is done.
    assert (built.project / "layer.tar").exists()


def test_a_file_in_the_place_of_dist(xbuild: Xbuild) -> None:
    xbuild.recipe()
    (xbuild.project / "dist").write_text("mine")
    said = xbuild.fails("tiny", code=4)
    assert f"{xbuild.project}/dist is no directory" in said
    assert "hint: rename or remove it" in said
    (xbuild.project / "dist").unlink()
    assert xbuild.build("tiny")["artifact"].startswith(str(xbuild.project))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_project_that_cannot_be_written(xbuild: Xbuild) -> None:
    xbuild.recipe()
    xbuild.project.chmod(0o500)
    try:
        said = xbuild.fails("tiny", code=4)
    finally:
        xbuild.project.chmod(0o700)
    assert f"{xbuild.project}/dist: Permission denied" in said
