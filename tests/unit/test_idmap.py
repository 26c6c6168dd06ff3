from __future__ import annotations

import itertools
import os
import pwd
from pathlib import Path
from types import SimpleNamespace

import pytest

from xbuild.base import process
from xbuild.base.errors import MachineError
from xbuild.sandbox import idmap
from xbuild.sandbox.idmap import IdMap

SUBIDS = """\
# comment
other:100000:65536
dev:200000:100
dev:300000:65536
1000:400000:70000
dev:bad:65536
dev
dev:500000
"""


@pytest.fixture
def subids(tmp_path: Path) -> Path:
    path = tmp_path / "subuid"
    path.write_text(SUBIDS)
    return path


def become(monkeypatch: pytest.MonkeyPatch, uid: int, gid: int, name: str | None) -> None:
    def look_up(wanted: int) -> SimpleNamespace:
        if name is None:
            raise KeyError(wanted)
        return SimpleNamespace(pw_name=name)

    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setattr(os, "getegid", lambda: gid)
    monkeypatch.setattr(pwd, "getpwuid", look_up)


def test_the_largest_range_counts(subids: Path) -> None:
    assert idmap.subordinate(subids, ("dev",)) == (300000, 65536)
    assert idmap.subordinate(subids, ("dev", "1000")) == (400000, 70000)
    assert idmap.subordinate(subids, ("de",)) is None
    assert idmap.subordinate(subids / "none", ("dev",)) is None


def test_a_user(subids: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    become(monkeypatch, 1234, 56, "dev")
    found = idmap.find(subids, subids)
    assert found == IdMap(((0, 300000, 65536),), ((0, 300000, 65536),))
    assert found.root == (300000, 300000)
    # For the machine's own tools he is one more.
    known = idmap.with_caller(found, 1234, 56)
    assert (known.uids[1], known.gids[1]) == ((65536, 1234, 1), (65536, 56, 1))


def test_a_user_without_a_name(subids: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    become(monkeypatch, 1000, 1000, None)
    assert idmap.find(subids, subids).uids == ((0, 400000, 65536),)


@pytest.mark.parametrize(
    ("text", "amount"),
    [("", "no subordinate ids"), ("dev:100000:65534\n", "only 65534 subordinate ids")],
)
def test_too_few_ids(text: str, amount: str, subids: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    become(monkeypatch, 1000, 1000, "dev")
    few = tmp_path / "few"
    few.write_text(text)
    for uids, gids in ((few, subids), (subids, few)):
        with pytest.raises(MachineError) as caught:
            idmap.find(uids, gids)
        assert caught.value.message == f"user dev has {amount} in {few}; 65535 are needed"
        assert "invoke doctor" in (caught.value.hint or "")


def test_just_enough_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    become(monkeypatch, 1000, 1000, "dev")
    path = tmp_path / "ids"
    path.write_text("dev:100000:65535\n")
    assert idmap.find(path, path).uids == ((0, 100000, 65535),)


def test_root_never_maps_itself(subids: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    become(monkeypatch, 0, 0, "root")
    base = ((0, idmap.ROOT_BASE, 65536),)
    assert idmap.find(subids, subids) == IdMap(base, base)
    own = tmp_path / "own"
    own.write_text("root:700000:65536\n")
    assert idmap.find(own, subids) == IdMap(((0, 700000, 65536),), base)


def test_apply_passes_all_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    called = []

    def run(command: list[str], **options: object) -> process.Completed:
        called.append(command)
        return process.Completed(0)

    become(monkeypatch, 1000, 1000, "dev")
    monkeypatch.setattr(process, "run", run)
    idmap.apply(IdMap(((0, 1000, 1), (1, 5, 9)), ((0, 7, 1), (1, 6, 9))), 42)
    assert called == [
        ["newuidmap", "42", "0", "1000", "1", "1", "5", "9"],
        ["newgidmap", "42", "0", "7", "1", "1", "6", "9"],
    ]


def test_apply_tells_what_newuidmap_said(monkeypatch: pytest.MonkeyPatch) -> None:
    become(monkeypatch, 1000, 1000, "dev")
    answer = process.Completed(1, b"", b"newuidmap: uid range not allowed\n")
    monkeypatch.setattr(process, "run", lambda *_, **__: answer)
    with pytest.raises(MachineError, match=r"^newuidmap failed: newuidmap: uid range not allowed$") as caught:
        idmap.apply(IdMap(((0, 1000, 1),), ((0, 1000, 1),)), 42)
    assert "uidmap" in (caught.value.hint or "")


def test_root_is_told_which_ids_it_may_not_map(monkeypatch: pytest.MonkeyPatch) -> None:
    become(monkeypatch, 0, 0, "root")
    with pytest.raises(MachineError, match=r"^root may not map the uids 700 to 709: ") as caught:
        # A process that is not there.
        idmap.apply(IdMap(((0, 700, 10),), ((0, 800, 10),)), 2**30)
    assert "/etc/subuid" in (caught.value.hint or "")


def test_own_changes_nothing_for_a_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tmp_path.stat()
    become(monkeypatch, 1000, 1000, "dev")
    assert idmap.own(tmp_path) == tmp_path
    assert tmp_path.stat().st_uid == before.st_uid


def test_a_line_is_cut_at_the_seams_of_the_caller_s_own_map() -> None:
    # As in a container that an ordinary user runs: 0 is he, the rest are his subordinate ids.
    assert idmap.cut([(0, 0, 65536)], [0, 1]) == [(0, 0, 1), (1, 1, 65535)]
    assert idmap.cut([(0, 100, 10), (10, 500, 5)], [0, 104, 108, 500]) == [
        (0, 100, 4),
        (4, 104, 4),
        (8, 108, 2),
        (10, 500, 5),
    ]
    assert idmap.cut([(0, 1879048192, 65536)], [0]) == [(0, 1879048192, 65536)]


@pytest.mark.parametrize(
    ("own", "lines"),
    [
        (1000, ((0, 100000, 1000), (1000, 1000, 1), (1001, 101001, 64535))),
        # The last id, one above all, and the first.
        (65535, ((0, 100000, 65535), (65535, 65535, 1))),
        (4_000_000, ((0, 100000, 65536), (4_000_000, 4_000_000, 1))),
    ],
)
def test_the_caller_is_himself(own: int, lines: tuple[tuple[int, int, int], ...]) -> None:
    known = IdMap(((0, 100000, 65536),), ((0, 100000, 65536),))
    found = idmap.with_own(known, own, 7)
    assert found.uids == lines
    assert sum(count for _, _, count in found.gids) == 65536
    assert (7, 7, 1) in found.gids
    # No id stands for two, inside or outside.
    for which in (0, 1):
        spans = sorted((line[which], line[which] + line[2]) for line in found.uids)
        assert all(one[1] <= other[0] for one, other in itertools.pairwise(spans))
