from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xbuild import paths
from xbuild.record import Exec, Verdict, parse, read

EXECS = st.lists(
    st.builds(
        Exec,
        time=st.integers(0, 2**64 - 1),
        pid=st.integers(0, 2**32 - 1),
        verdict=st.sampled_from(Verdict),
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
    numbers = {name: int(value) for name, value in re.findall(r"^    ([A-Z_]+) = (\d+)", header, re.MULTILINE)}
    assert numbers == {verdict.name: verdict.value for verdict in Verdict}
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
        Exec(1, 5, Verdict.TWIN, "/usr/bin/make"),
        Exec(2, 6, Verdict.TWIN, "/usr/bin/sed"),
        Exec(3, 5, Verdict.TWIN, "/usr/bin/sed"),
        Exec(4, 6, Verdict.FAILED, "/usr/bin/sed"),
    ]
    file = tmp_path / "record"
    file.write_bytes(written(execs))
    found = read(file)
    assert found.whole
    assert found.execs == (execs[0], execs[2], execs[3])
    assert [known.native for known in found.execs] == [True, True, False]


@pytest.mark.parametrize("damage", [b"x", b"\0" * 40, struct.pack("<HBBIQ", 20, 99, 0, 1, 1) + b"/abc"])
def test_damage_is_told(tmp_path: Path, damage: bytes) -> None:
    file = tmp_path / "record"
    kept = Exec(1, 5, Verdict.NO_ENTRY, "/usr/bin/perl")
    file.write_bytes(written([kept]) + damage)
    found = read(file)
    assert not found.whole
    assert found.execs == (kept,)


def test_names_that_are_no_text_can_be_printed(tmp_path: Path) -> None:
    file = tmp_path / "record"
    file.write_bytes(struct.pack("<HBBIQ", 18, 3, 0, 1, 1) + b"/\xff")
    assert [known.path for known in read(file).execs] == ["/\ufffd"]


def test_no_file_is_an_empty_record(tmp_path: Path) -> None:
    assert read(tmp_path / "none").execs == ()
