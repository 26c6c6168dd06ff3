"""What a comparison says in JSON, in lines, and as an error."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from xbuild.base.errors import CheckError, PhaseError, UsageError
from xbuild.build.modes.distcc import Summary
from xbuild.cli.arguments import mode_words
from xbuild.proof.compare import environment
from xbuild.proof.compare.files import Counts, Difference
from xbuild.proof.compare.modes import cpu_of
from xbuild.proof.compare.outcome import Again, Comparison, Cpu, ModeRun, Pair, groups, with_own
from xbuild.proof.compare.text import COLUMNS, lines, mode_rows
from xbuild.proof.compare.verdict import Found, Verdict

PHASES = (("unpack", 0.5), ("configure", 1.5), ("compile", 8.0))
FAST = ModeRun("substituted", "built", PHASES, artifact=Path("/a.tar.zst"), bytes=2048, files=3, objects=2)
SLOW = replace(FAST, mode="emulated", status="up-to-date", phases=tuple((name, 10 * time) for name, time in PHASES))
FAILED = ModeRun("distcc", "failed", PHASES[:2], message="phase 'configure' failed", log="/x/02-configure.log")
SAME = Difference("artifact", "usr/lib/a.so", Verdict.SAME, (".debug_line",), contents=True)
CODE = Difference("objects", "src/a.o", Verdict.DIFFERENT, (".text", ".rel.text.main"), contents=True)
GOOD = Pair(("substituted", "emulated"), Counts(3, 0, 0, 0), Counts(2, 0, 0, 0), ())


def comparison(*modes: ModeRun, pairs: tuple[Pair, ...] = (GOOD,), again: Again | None = None) -> Comparison:
    return Comparison("zlib", "1.3.1", "armhf", "trixie", "zlib-1.3.1-armhf", modes, pairs, again)


def unequal(*differences: Difference) -> Pair:
    return Pair(("substituted", "emulated"), Counts(2, 1, 0, 0), Counts(1, 0, 1, 0), differences, ("src/config.h",))


def test_json_of_equal_modes() -> None:
    value = comparison(FAST, SLOW).as_json(Path("/x.html"))
    assert json.loads(json.dumps(value)) == value
    assert (value["identical"], value["html"], value["not_reproducible"]) == (True, "/x.html", [])
    assert value["modes"][0] == {
        "mode": "substituted", "status": "built", "seconds": 10.0, "resumed": False,
        "phases": [{"name": name, "seconds": time} for name, time in PHASES],
        "artifact": "/a.tar.zst", "bytes": 2048, "files": 3, "objects": 2,
    }  # fmt: skip
    assert value["pairs"] == [
        {
            "modes": ["substituted", "emulated"], "identical": True, "same_code": True, "differences": [],
            "artifact": {"identical": 3, "same_code": 0, "different": 0, "only": 0},
            "objects": {"identical": 2, "same_code": 0, "different": 0, "only": 0},
            "generated": [],
        }
    ]  # fmt: skip


def test_what_distcc_compiled_where_is_told() -> None:
    known = comparison(FAST, replace(SLOW, mode="distcc", distcc=Summary(remote=44, fallback=2, files=["a.c", "b.c"])))
    assert known.as_json(None)["modes"][1]["distcc"]["fallback"] == 2
    assert any("44 compiled by the server, 2 that should have been" in line for line in lines(known))


def test_a_failed_mode_is_not_identical() -> None:
    known = comparison(FAST, FAILED, SLOW)
    value = known.as_json(None)
    assert not value["identical"]
    assert (value["modes"][1]["message"], value["modes"][1]["log"]) == (FAILED.message, FAILED.log)
    fault = known.fault()
    assert isinstance(fault, CheckError)
    assert fault.message == "zlib 1.3.1 for armhf: 1 of 3 modes failed"


def test_all_modes_fail() -> None:
    fault = comparison(FAILED, replace(FAILED, mode="emulated"), pairs=()).fault()
    assert isinstance(fault, PhaseError)
    assert fault.details[0] == "distcc: phase 'configure' failed"
    assert f"log:    {FAILED.log}" in fault.details


def test_no_fault() -> None:
    assert comparison(FAST, SLOW).fault() is None


def test_a_difference_is_a_fault_that_names_files() -> None:
    pair = unequal(SAME, CODE)
    assert (pair.identical, pair.same_code, unequal(SAME).same_code) == (False, False, True)
    fault = comparison(FAST, SLOW, pairs=(pair,)).fault()
    assert isinstance(fault, CheckError)
    assert fault.message == "zlib 1.3.1 for armhf: 2 files differ between substituted and emulated"
    assert fault.details == (
        "src/a.o: different (.text, .rel.text.*)",
        "usr/lib/a.so: same code and data (.debug_line)",
    )


def test_what_differs_by_itself_is_marked_and_comes_last() -> None:
    again = Again("substituted", frozenset({("objects", "src/a.o"), ("artifact", "src/a.o")}))
    assert again.differing is not None
    known = comparison(FAST, SLOW, pairs=(with_own(unequal(CODE, SAME), again.differing),), again=again)
    assert known.not_reproducible == ["src/a.o"]
    assert [item.path for _, item in known.blamed] == ["usr/lib/a.so"]
    fault = known.fault()
    assert fault is not None
    assert fault.details[1] == "src/a.o: different (.text, .rel.text.*) (not reproducible by itself)"
    value = known.as_json(None)
    assert [found["own"] for found in value["pairs"][0]["differences"]] == [True, False]
    assert value["again"] == {"mode": "substituted", "status": "built", "message": None}


def test_groups_of_like_differences() -> None:
    functions = [replace(CODE, path=f"src/{name}.o", sections=(f".text.{name}",)) for name in "abc"]
    own = replace(CODE, own=True, path="src/x.o")
    found = groups([own, SAME, *functions])
    assert [(first.path, len(members)) for first, members in found] == [
        ("src/a.o", 3), ("usr/lib/a.so", 1), ("src/x.o", 1)
    ]  # fmt: skip


def test_members_in_json() -> None:
    member = ("a.o", Found(Verdict.SAME, (".debug_line",)))
    found = replace(SAME, members=(member,), detail="mode: 0644, 0755").as_json()
    assert found["members"] == [{"name": "a.o", "verdict": "same code and data", "sections": [".debug_line"]}]
    assert found["detail"] == "mode: 0644, 0755"


def test_a_name_that_is_no_text() -> None:
    value = replace(SAME, path="usr/\udcff").as_json()
    assert value["path"] == "usr/\\xff"
    json.dumps(value).encode()


def test_the_table_of_modes() -> None:
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in mode_rows([FAST, FAILED, SLOW])]
    assert [row["speed"] for row in rows] == ["10.0 x", "", "1.0 x"]
    assert [row["total"] for row in rows] == ["10.0 s", "2.0 s", "1m 40s"]
    assert [row["install"] for row in rows] == ["", "", ""]
    assert [row["artifact"] for row in rows] == ["2.0 KiB", "", "2.0 KiB"]
    assert mode_rows([FAST])[0][COLUMNS.index("speed")] == ""


def test_lines_for_the_terminal() -> None:
    many = [replace(SAME, where="objects", path=f"src/{number:03}.o") for number in range(300)]
    again = Again("substituted", frozenset({("objects", "src/a.o")}))
    assert again.differing is not None
    pair = with_own(unequal(*many, CODE), again.differing)
    known = replace(comparison(FAST, FAILED, SLOW, pairs=(pair,), again=again))
    said = list(lines(known))
    assert said[0] == "distcc failed: phase 'configure' failed (log: /x/02-configure.log)"
    assert said[1].startswith("up-to-date: ")
    assert said[2].startswith("not reproducible by itself: built twice in mode substituted, 1 file ")
    assert said[4].startswith("substituted and emulated: DIFFERENT (artifact: 2 of 3 identical, 1 same code and data;")
    assert said[5] == "  same code and data, 300 files (objects): .debug_line"
    assert "    ... and 292 more" in said
    assert "  different, not reproducible by itself, 1 file (objects): .text, .rel.text.*" in said
    assert "    src/config.h" in said
    assert "diffoscope is not installed; with it the report shows more of what differs" in said
    assert len(said) < 25


def test_lines_of_a_second_build() -> None:
    same = Again("substituted", frozenset())
    assert "built twice in mode substituted: the same both times" in lines(comparison(FAST, SLOW, again=same))
    failed = Again("substituted", None, "no space")
    assert any("no space" in line for line in lines(comparison(FAST, SLOW, again=failed)))


def test_cpu_of_a_record(tmp_path: Path) -> None:
    looks = {"caught": 0, "before": 0.0}
    programs = [
        {"path": "/a", "native": True, "seconds": 3.0, **looks},
        {"path": "/b", "native": False, "seconds": 1.0, **looks},
    ]
    good = {"interval": 0.05, "samples": 9, "total": 4.0, "programs": programs, "unseen": 0.0}
    (tmp_path / "02-compile.cpu.json").write_text(json.dumps(good))
    (tmp_path / "03-install.cpu.json").write_text('{"interval": 0.05, "samp')
    (tmp_path / "02-compile").write_bytes(b"\0")
    assert cpu_of(tmp_path) == {"compile": Cpu(1.0, 3.0, 4.0)}
    assert cpu_of(tmp_path)["compile"].share == 0.25
    assert cpu_of(tmp_path / "missing") == {}
    assert Cpu(0.0, 0.0, 0.1).share == Cpu(0.0, 0.0, 0.0).share == 0


def test_the_versions_that_took_part() -> None:
    words = ("gcc-14-x 14.2.0-19 amd64", "binutils-x 2.44-3 i386", "make 4.4.1-2 amd64")
    twins = [dict(zip(("package", "version", "architecture"), text.split(), strict=True)) for text in words]
    versions = {"gcc-14": "14.2.0-19", "gcc-14-base": "14.2.0-19", "make": "4.4.1-2", "libc6": "2.41-12"}
    root = {name: f"{version} armhf" for name, version in versions.items()}
    rows = environment.rows([{"inputs": {"target root": root}, "twins": twins}], "1:10.0")
    assert rows == [
        ("gcc", "14.2.0-19", "14.2.0-19 amd64"),
        ("binutils", "", "2.44-3 i386"),
        ("C library", "2.41-12", ""),
        ("make", "4.4.1-2", "4.4.1-2 amd64"),
        ("qemu-user", "", "1:10.0"),
    ]
    assert "Linux" in environment.machine()


def test_modes_from_words() -> None:
    assert mode_words("substituted, emulated") == ["substituted", "emulated"]
    with pytest.raises(UsageError, match="did you mean 'emulated'"):
        mode_words("substituted,emulate")
