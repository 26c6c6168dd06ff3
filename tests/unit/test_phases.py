from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xbuild.base.errors import EXIT_MACHINE, MachineError
from xbuild.build import phases
from xbuild.build.environment import WorkPlace
from xbuild.build.phases import Progress, hint_for, keep_copy, last_lines, newest
from xbuild.build.plan import Done, Step
from xbuild.sandbox.idmap import IdMap


@pytest.fixture
def place(tmp_path: Path) -> WorkPlace:
    return WorkPlace(tmp_path)


def filled(place: WorkPlace) -> Progress:
    progress = Progress(place)
    progress.epoch = 1700000000
    progress.add(Step("unpack", "key 1"), "done", 1.23456)
    progress.add(Step("configure", "key 2"), "done", 2)
    progress.add(Step("compile", "key 3"), "failed", 3)
    return progress


def test_progress_of_a_new_place(place: WorkPlace) -> None:
    progress = Progress(place)
    assert (progress.done(), progress.epoch, progress.resumed) == ((), 0, False)
    assert not place.state.exists()


def test_progress_is_remembered(place: WorkPlace) -> None:
    written = filled(place)
    read = Progress(place)
    assert read.records == written.records
    assert (read.epoch, read.resumed) == (1700000000, False)
    assert read.done() == (
        Done("unpack", "key 1", "done"),
        Done("configure", "key 2", "done"),
        Done("compile", "key 3", "failed"),
    )
    assert read.records[0].seconds == 1.235
    assert [path.name for path in place.path.iterdir()] == ["progress.json"]


def test_start_at_forgets_what_runs_now(place: WorkPlace) -> None:
    filled(place).start_at(2)
    read = Progress(place)
    assert [record.name for record in read.records] == ["unpack", "configure"]
    assert read.resumed
    read.start_at(0)
    assert Progress(place).done() == ()


def test_a_start_from_the_beginning_is_no_resuming(place: WorkPlace) -> None:
    Progress(place).start_at(0)
    assert not Progress(place).resumed


@given(st.data())
def test_a_cut_state_file_means_that_nothing_was_done(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    place = WorkPlace(tmp_path_factory.mktemp("place"))
    filled(place)
    whole = place.state.read_bytes()
    # The last byte is a newline or the closing brace; without the brace it is cut.
    place.state.write_bytes(whole[: data.draw(st.integers(0, len(whole.rstrip()) - 1))])
    progress = Progress(place)
    assert (progress.done(), progress.epoch, progress.resumed) == ((), 0, False)


@pytest.mark.parametrize(
    "text",
    [
        "null",
        "[]",
        '{"records": [], "epoch": 1}',
        '{"records": [{"name": "unpack"}], "epoch": 1, "resumed": false}',
        '{"records": 1, "epoch": 1, "resumed": false}',
        '{"records": ["unpack"], "epoch": 1, "resumed": false}',
        '{"records": [], "epoch": "soon", "resumed": false}',
        "\x00" * 100,
        "\x80",
    ],
)
def test_an_odd_state_file_means_that_nothing_was_done(place: WorkPlace, text: str) -> None:
    place.state.write_text(text, encoding="latin-1")
    progress = Progress(place)
    assert (progress.done(), progress.epoch, progress.resumed) == ((), 0, False)


def test_the_state_is_read_by_people_too(place: WorkPlace) -> None:
    filled(place)
    value = json.loads(place.state.read_text())["value"]
    assert value["records"][2] == {"name": "compile", "key": "key 3", "status": "failed", "seconds": 3}


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("x.c:1:10: fatal error: zlib.h: No such file or directory", "header zlib.h is missing"),
        ("/usr/bin/ld: cannot find -lz: No such file or directory", "library z is missing"),
        ("sh: 3: cmake: not found", "program cmake is missing"),
        ("./x: line 3: flex: command not found", "program flex is missing"),
        ("make[1]: flex: No such file or directory", "program flex is missing"),
        ("cc1: error: No space left on device", "the disk is full"),
        ("curl: (6) Could not resolve name: example.test", "only `build.fetch` has"),
        ("cc1plus: virtual memory exhausted: Cannot allocate memory", "--jobs 1"),
        ("g++: fatal error: Killed signal terminated program cc1plus", "--jobs 1"),
        ("./conftest: cannot execute binary file: Exec format error", "--mode emulated"),
    ],
)
def test_hint_for(line: str, hint: str) -> None:
    assert hint in str(hint_for(["before", line, "make: *** [Makefile:2: all] Error 1"]))


def test_the_last_line_that_tells_counts() -> None:
    lines = ["sh: 1: bison: not found", "x.c:1:10: fatal error: {0}.h: No such file"]
    assert hint_for(lines) == "header {0}.h is missing: put the package that has it into depends.packages"


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["make: *** Error 1"],
        ["make: *** sub: No such file or directory.  Stop."],
        ["checking for flex... not found", ""],
    ],
)
def test_no_hint(lines: list[str]) -> None:
    assert hint_for(lines) is None


@pytest.mark.parametrize("line", ["x" * 3_000_000, ":" * 3_000_000, "a: " * 1_000_000, "fatal error: x" * 200_000])
def test_hints_of_endless_lines(line: str) -> None:
    """A search that goes back at each place takes hours here."""
    assert hint_for([line] * 20) is None


def test_long_lines_keep_their_ends(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("x.c:1:1: fatal error: zlib.h: No such file" + "y" * 60_000 + " sh: 1: flex: not found\n")
    (line,) = last_lines(log)
    assert len(line) < 1100
    assert line.startswith("x.c:1:1: fatal error")
    assert hint_for([line]) == hint_for([log.read_text()])
    assert hint_for([line]) == "header zlib.h is missing: put the package that has it into depends.packages"


def test_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"".join(b"line %d\n" % number for number in range(100)) + b"\x1b[31mred\x1b[0m \xff\n")
    lines = last_lines(log)
    assert lines == [*(f"line {number}" for number in range(81, 100)), "red \ufffd"]


def test_last_lines_of_little_and_of_much(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"")
    assert last_lines(log) == []
    log.write_text("no newline")
    assert last_lines(log) == ["no newline"]
    with log.open("wb") as stream:
        stream.truncate(10**9)
        stream.seek(10**9)
        stream.write(b"\nend\n")
    assert last_lines(log)[-1] == "end"


def test_newest_says_the_same_on_any_day(tmp_path: Path) -> None:
    def at(seconds: int, name: str) -> None:
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (seconds, seconds))

    assert newest(tmp_path) == 0
    at(-1, "early")
    assert newest(tmp_path) == 0
    at(1000, "old")
    # The link is made now, and so is what it leads to.
    for name, target in (("link", "old"), ("up", "."), ("out", "/usr"), ("gone", "none")):
        (tmp_path / name).symlink_to(target)
        os.utime(tmp_path / name, (2000, 2000), follow_symlinks=False)
    assert newest(tmp_path) == 2000
    at(0x7FFFFFFF, "tomorrow")
    at(0x80000000, "never")
    (tmp_path / ".git").mkdir()
    assert newest(tmp_path) == 0x7FFFFFFF


def test_keep_copy(tmp_path: Path) -> None:
    (tmp_path / "source").write_text("new")
    destination = tmp_path / "dist" / "file"
    destination.parent.mkdir()
    destination.write_text("old")
    assert keep_copy(tmp_path / "source", destination) == destination
    assert destination.read_text() == "new"
    assert [path.name for path in destination.parent.iterdir()] == ["file"]


def test_where_nothing_can_be_copied_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("made")
    (tmp_path / "dist").touch()
    with pytest.raises(MachineError, match=r"/dist is no directory") as caught:
        keep_copy(tmp_path / "file", tmp_path / "dist/file")
    assert caught.value.exit_code == EXIT_MACHINE


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_what_is_delivered_has_the_modes_that_the_caller_wants(
    umask: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(phases, "callers_umask", lambda: umask)
    (tmp_path / "file").write_text("made")
    place = keep_copy(tmp_path / "file", tmp_path / "dist/file")
    assert place.stat().st_mode & 0o777 == 0o666 & ~umask
    assert place.parent.stat().st_mode & 0o777 == 0o777 & ~umask


def test_nothing_is_done_where_the_tree_is_somebody_elses(place: WorkPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(place)
    place.build.mkdir()
    own = place.build.stat()
    monkeypatch.setattr("xbuild.sandbox.idmap.find", lambda: IdMap(((0, own.st_uid, 1),), ((0, own.st_gid, 1),)))
    assert Progress(place).done()
    monkeypatch.setattr("xbuild.sandbox.idmap.find", lambda: IdMap(((0, own.st_uid + 1, 1),), ((0, 1, 1),)))
    assert Progress(place).done() == ()
