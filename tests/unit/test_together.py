"""Sources of a list at once: what their commands are told, and what comes of what these tell."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit.commands import Run
from xbuild.base import log
from xbuild.cli.many import Many
from xbuild.cli.together import _words_of, reproduce_together, words_of
from xbuild.graph import children
from xbuild.packages import Options
from xbuild.proof.reproduce.run import Wanted
from xbuild.proof.reproduce.verdict import Row
from xbuild.store.local import Store

# What our own command would say: of `bad` that it could not be built, of all else a row.
CHILD = """
import json, sys
word = sys.argv[sys.argv.index("reproduce") + 1]
target = sys.argv[sys.argv.index("--target") + 1]
error = {"kind": "phase", "message": "no " + word, "details": ["one"], "hint": None}
row = {"source": word, "version": "1", "target": target, "mode": "substituted"}
known = {"status": "failed", "error": error} if word == "bad" else {"status": "ok", "error": None, "rows": [row]}
print(json.dumps(known))
sys.exit(3 if word == "bad" else 0)
"""


def test_each_source_and_target_has_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "PROGRAM", (sys.executable, "-c", CHILD))
    log.configure(json=True)
    told: list[list[Row]] = []

    def tell(rows: Any) -> dict[str, Any]:
        told.append(list(rows))
        return {"rows": len(told[0])}

    many = Many("sources", 3, 2, True, junit=str(tmp_path / "junit.xml"))
    wanted = Wanted("", "", "substituted")
    store = Store(tmp_path / "store")
    rows = reproduce_together(wanted, ["less", "bad"], ["armhf", "arm64"], many, store, tell)
    assert [(row.source, row.target, row.failed, row.exit_code) for row in rows] == [
        ("less", "armhf", "", 0), ("less", "arm64", "", 0),
        ("bad", "armhf", "no bad", 3), ("bad", "arm64", "no bad", 3),
    ]  # fmt: skip
    assert told == [rows]
    text = (tmp_path / "junit.xml").read_text()
    assert text.count("<testcase ") == 4
    assert text.count("<failure ") == 2
    assert len(list((store.root / "runs" / "history").iterdir())) == 2
    log.configure()


def test_words_that_ask_for_the_same() -> None:
    options = Options("both", build_options=("nocheck",))
    wanted = Wanted("less", "armhf", "emulated", True, False, "bookworm", "2026-01-31", options)
    assert _words_of(wanted, 4) == (
        "reproduce", "less", "--mode", "emulated", "--jobs", "4", "--any", "--all", "--emulated", "--no-native",
        "--nocheck", "--target", "armhf", "--suite", "bookworm", "--snapshot", "2026-01-31",
    )  # fmt: skip


OF_DEB = """
import json, sys
error = {"kind": "phase", "message": "no", "details": [], "hint": None}
bad = sys.argv[2] == "bad"
built = {"target": "x", "package": "p", "version": "1", "files": [], "build": {"words": sys.argv[1:]}}
print(json.dumps({"status": "failed", "error": error} if bad else {"status": "ok", "builds": [built]}))
sys.exit(3 if bad else 0)
"""


def test_a_command_for_several_is_one_for_each(
    xbuild: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "PROGRAM", (sys.executable, "-c", OF_DEB))
    monkeypatch.setattr("xbuild.cli.together.require", lambda **_: None)
    words = ("less", "gzip", "bad", "--target", "armhf,arm64", "--nocheck", "--repo", "a", "--repo", "b", "-j", "3")
    ended = xbuild("deb", *words, "--at-once", "2", "--json")
    assert ended.code == 3
    assert "2 of 6 packages failed: bad for arm" in ended.err
    told = [one["build"]["words"] for one in json.loads(ended.out)["builds"]]
    assert [words[1:4] for words in told] == [
        [name, "--target", target] for name in ("less", "gzip") for target in ("armhf", "arm64")
    ]
    rest = told[0][4:]
    assert rest[: rest.index("--events")] == [
        "--jobs", "3", "--mode", "substituted", "--nocheck", "--repo", "a", "--repo", "b", "--json",
    ]  # fmt: skip


def test_what_is_about_one_is_refused_for_several(xbuild: Run) -> None:
    ended = xbuild("deb", "less", "gzip", "--recipe")
    assert (ended.code, "--recipe is not for several packages" in ended.err) == (2, True)


def test_words_of_values() -> None:
    values = {"from_": "compile", "at_once": "", "keep": True, "yes": False, "repo": ["a", "b"], "also": None}
    assert words_of(values) == ["--from", "compile", "--keep", "--repo", "a", "--repo", "b"]
