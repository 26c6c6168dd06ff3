from __future__ import annotations

import os
import re
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xbuild.base import paths
from xbuild.formats import record
from xbuild.formats.record import Choice, Exec, Marks, Record, Stream, keep, parse, read

EXECS = st.lists(
    st.builds(
        Exec,
        time=st.integers(0, 2**64 - 1),
        pid=st.integers(0, 2**32 - 1),
        verdict=st.sampled_from(Choice),
        path=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=50).map("/".__add__),
    )
)


def written(execs: list[Exec]) -> bytes:
    """What the dispatcher would have written."""
    found = b""
    for known in execs:
        path = known.path.encode()
        found += struct.pack("<HBBIQ", 16 + len(path), known.verdict, 0, known.pid, known.time) + path
    return found


def test_numbers_and_layout_are_those_of_the_header() -> None:
    header = (paths.DISPATCHER / "table.h").read_text()
    assert f'"{record.CUT}"' in header
    numbers = {name: int(value) for name, value in re.findall(r"^    ([A-Z_]+) = (\d+)", header, re.MULTILINE)}
    assert numbers == {verdict.name: verdict.value for verdict in Choice}
    found = re.search(r"struct record \{(.*?)\n\};", header, re.DOTALL)
    assert found is not None
    kinds = re.findall(r"^    uint(\d+)_t", found[1], re.MULTILINE)
    assert kinds == ["16", "8", "8", "32", "64"]


@given(EXECS)
def test_what_was_written_is_read(execs: list[Exec]) -> None:
    data = written(execs)
    assert parse(data) == (execs, len(data))


@given(EXECS, st.integers(0, 100))
def test_what_is_cut_off_is_lost_and_nothing_else(execs: list[Exec], cut: int) -> None:
    data = written(execs)
    found, used = parse(data[: max(0, len(data) - cut)])
    assert found == execs[: len(found)]
    assert used == len(written(found))
    assert len(data) - used <= cut + 16 + 250 or not cut


@given(st.binary(max_size=200))
def test_any_bytes_are_read_without_a_fault(data: bytes) -> None:
    found, used = parse(data)
    assert 0 <= used <= len(data)
    assert bool(found) == bool(used)


def test_a_twin_that_could_not_start_was_none(tmp_path: Path) -> None:
    execs = [
        Exec(1, 5, Choice.TWIN, "/usr/bin/make"),
        Exec(2, 6, Choice.TWIN, "/usr/bin/sed"),
        Exec(3, 5, Choice.TWIN, "/usr/bin/sed"),
        Exec(4, 6, Choice.FAILED, "/usr/bin/sed"),
    ]
    file = tmp_path / "record"
    file.write_bytes(written(execs))
    sed = "/usr/bin/sed"
    assert read(file) == Record(
        {("/usr/bin/make", Choice.TWIN): 1, (sed, Choice.TWIN): 1, (sed, Choice.FAILED): 1}, whole=True
    )
    assert read(file).total(native=False) == {sed: 1}


@pytest.mark.parametrize("damage", [b"x", b"\0" * 40, struct.pack("<HBBIQ", 20, 99, 0, 1, 1) + b"/abc"])
def test_damage_is_told(tmp_path: Path, damage: bytes) -> None:
    file = tmp_path / "record"
    kept = Exec(1, 5, Choice.NO_ENTRY, "/usr/bin/perl")
    file.write_bytes(written([kept]) + damage)
    found = read(file)
    assert found == Record({(kept.path, kept.verdict): 1}, whole=False)
    keep(file, tmp_path / "kept")
    assert read(tmp_path / "kept") == found


def test_names_that_are_no_text_can_be_printed(tmp_path: Path) -> None:
    file = tmp_path / "record"
    file.write_bytes(struct.pack("<HBBIQ", 18, 3, 0, 1, 1) + b"/\xff")
    assert [path for path, _ in read(file).counts] == ["/\ufffd"]


def test_no_file_is_an_empty_record(tmp_path: Path) -> None:
    assert read(tmp_path / "none") == Record({}, whole=True)


SED = Exec(1, 5, Choice.TWIN, "/usr/bin/sed")


def peak(action: Callable[[], object]) -> int:
    """The most memory, in bytes, that Python needs meanwhile."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_what_a_build_does_to_its_record_costs_nobody_else(tmp_path: Path) -> None:
    """`truncate -s 3G`, and rubbish."""
    file, copy = tmp_path / "record", tmp_path / "copy"
    for rubbish in (b"", b"\xff" * 100_000):
        file.write_bytes(written([SED] * 3) + rubbish)
        os.truncate(file, 3 << 30)
        assert peak(lambda: read(file)) < 8 << 20
        assert read(file) == Record({(SED.path, SED.verdict): 3}, whole=False)
        assert peak(lambda: keep(file, copy)) < 8 << 20
        assert copy.stat().st_size < 1000
        assert read(copy) == read(file)


def test_a_record_is_read_up_to_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = len(written([SED]))
    monkeypatch.setattr(record, "MOST", 100 * one + 5)
    file, copy = tmp_path / "record", tmp_path / "copy"
    file.write_bytes(written([SED] * 1000))
    keep(file, copy)
    for known in (file, copy):
        assert read(known) == Record({(SED.path, SED.verdict): 100}, whole=False)
    assert copy.stat().st_size == 100 * one + 1


def test_a_record_grows_while_it_is_read(tmp_path: Path) -> None:
    data = written([SED] * 4)
    one = len(data) // 4
    file = tmp_path / "record"
    file.touch()
    with file.open("rb") as stream:
        known = Stream(stream.fileno())
        found = []
        for end in (0, one - 1, one, one + 3, 4 * one):
            file.write_bytes(data[:end])
            found.append(len(known.more()))
    assert found == [0, 0, 1, 0, 3]


def test_the_dispatcher_says_that_an_exec_is_missing(tmp_path: Path) -> None:
    file, copy = tmp_path / "record", tmp_path / "copy"
    file.write_bytes(written([SED]))
    try:
        os.setxattr(file, record.CUT, b"1")
    except OSError:
        pytest.skip("this file system has no extended attributes")
    keep(file, copy)
    assert [read(known).whole for known in (file, copy)] == [False, False]


def test_a_twin_that_could_not_go_on_counts_once_and_is_found_however_long_the_record_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "02-compile"
    marks = Marks(file)
    assert marks.programs() == frozenset()
    perl, ended = Exec(1, 7, Choice.TWIN, "/usr/bin/perl"), Exec(2, 7, Choice.TOO_LATE, "/usr/bin/perl")
    file.write_bytes(written([perl, ended, Exec(3, 8, Choice.TWIN, "/usr/bin/sed")]))
    assert read(file).counts == {("/usr/bin/perl", Choice.TOO_LATE): 1, ("/usr/bin/sed", Choice.TWIN): 1}
    assert marks.programs() == {"/usr/bin/perl"}
    more = written([perl, Exec(3, 8, Choice.TOO_LATE, "/usr/bin/gawk")])
    for piece, known in ((more[:-1], {"/usr/bin/perl"}), (more[-1:], {"/usr/bin/perl", "/usr/bin/gawk"})):
        with file.open("ab") as stream:
            stream.write(piece)
        assert marks.programs() == known
    monkeypatch.setattr(record, "MOST", 10_000)
    monkeypatch.setattr(record, "_PIECE", 1000)
    file.write_bytes(written([perl] * 1000 + [ended, Exec(3, 8, Choice.TOO_LATE, "/usr/bin/gawk")]) + b"cut")
    assert not read(file).whole
    assert Marks(file).programs() == {"/usr/bin/perl", "/usr/bin/gawk"}
    with file.open("ab") as stream:
        stream.truncate(1 << 40)
    assert Marks(file).programs() == {"/usr/bin/perl", "/usr/bin/gawk"}
