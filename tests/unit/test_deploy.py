"""What is sent to a board and what goes from there: the decision."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from xbuild.base.errors import UsageError
from xbuild.deploy.board import connected
from xbuild.deploy.plan import ABSENT, OTHER, Entry, Listed, Plan, State, listed_after, listed_before, plan

NOTHING = Listed()
A, B, C = "a" * 64, "b" * 64, "c" * 64
FILE, LINK, DIRECTORY = Entry("file", A, 0o755, 3), Entry("link", A), Entry("directory")


def decided(wanted: Entry, state: State, own: Listed = NOTHING, others: Listed = NOTHING) -> Plan:
    return plan({"x": wanted}, {"x": state}, own, others)


@pytest.mark.parametrize(
    ("wanted", "state", "verdict"),
    [
        (FILE, State(ABSENT), "new"),
        (FILE, State("file", digest=A, mode=0o755), "same"),
        (FILE, State("file", digest=B, mode=0o755), "changed"),
        (FILE, State("file", digest=A, mode=0o4755), "changed"),
        (FILE, State("unreadable"), "changed"),
        (FILE, State("link", digest=A), "changed"),
        (FILE, State("link", directory=True, digest=A), "conflicts"),
        (FILE, State("directory", directory=True), "conflicts"),
        (FILE, State(OTHER), "conflicts"),
        (LINK, State("link", digest=A), "same"),
        (LINK, State("link", directory=True, digest=B), "changed"),
        (LINK, State("file", digest=A), "changed"),
        (LINK, State("directory", directory=True), "conflicts"),
        (DIRECTORY, State(ABSENT), "new"),
        (DIRECTORY, State("directory", directory=True), "same"),
        # /lib is a link to usr/lib on most boards.
        (DIRECTORY, State("link", directory=True, digest=A), "same"),
        (DIRECTORY, State("file", digest=A), "conflicts"),
        (DIRECTORY, State("link", digest=A), "conflicts"),
    ],
)
def test_what_becomes_of_each(wanted: Entry, state: State, verdict: str) -> None:
    found = decided(wanted, state)
    told = {name: bool(getattr(found, name)) for name in ("new", "changed", "same", "conflicts")}
    assert [name for name, is_so in told.items() if is_so] == [verdict]


def test_only_what_was_put_there_goes() -> None:
    files = {"gone": (A,), "mine": (A, B), "theirs": (A,), "shared": (A,), "no more": (A,)}
    own = Listed(files, frozenset({"d", "d/e"}))
    others = Listed({"shared": (A,)}, frozenset({"d"}))
    states = {
        "gone": State("file", digest=A), "mine": State("link", digest=B), "theirs": State("file", digest=C),
        "shared": State("file", digest=A), "no more": State(ABSENT),
    }  # fmt: skip
    found = plan({}, states, own, others)
    assert (found.removed, found.left, found.emptied) == (("gone", "mine"), ("theirs",), ("d/e",))


def test_what_others_have_is_told_when_it_is_replaced() -> None:
    assert decided(FILE, State("file", digest=B)).foreign == ("x",)
    assert decided(FILE, State("file", digest=B), Listed({"x": (B,)})).foreign == ()
    assert decided(FILE, State("file", digest=B), others=Listed({"x": (B,)})).foreign == ()
    assert decided(FILE, State(ABSENT)).foreign == ()


def test_who_is_stopped_knows_both() -> None:
    wanted = {"d": DIRECTORY, "d/new": FILE, "x": Entry("file", B)}
    own = Listed({"x": (A,), "old": (C,)}, frozenset({"o"}))
    states = {"d": State(ABSENT), "d/new": State(ABSENT), "x": State("file", digest=A), "old": State("file", digest=C)}
    done = plan(wanted, states, own, NOTHING)
    after = listed_after(wanted, done, own)
    assert after == Listed({"d/new": (A,), "x": (B,)}, frozenset({"d"}))
    before = listed_before(after, own)
    assert before == Listed({"x": (A, B), "old": (C,), "d/new": (A,)}, frozenset({"d", "o"}))
    assert Listed.of(json.loads(json.dumps(before.as_json()))) == before
    with pytest.raises(ValueError):
        Listed.of({"schema": 2})


@pytest.mark.parametrize("name", ["", "-oProxyCommand=x", "a b", "a\nb"])
def test_no_board(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no board"), connected(name, "/", tmp_path):
        pass


def test_a_connection_lies_in_its_directory_however_long_the_path_is(tmp_path: Path) -> None:
    """Nothing of it is in /tmp, where a kill would leave it. For a moment ssh puts 17 characters behind the name."""
    scratch = tmp_path / ("a" * 100) / "deployed"
    scratch.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listening, connected("board", "/", scratch) as board:
        path = board.control
        listening.bind(f"{path}.{'x' * 16}")
        os.link(f"{path}.{'x' * 16}", path, follow_symlinks=False)
        assert sorted(one.name for one in scratch.iterdir()) == ["c", f"c.{'x' * 16}"]
        path.unlink()
