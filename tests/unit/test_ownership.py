"""Who else could have a hand in a directory. Another user's files are imitated: to make them takes root."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from xbuild.base.errors import EXIT_MACHINE, MachineError
from xbuild.sandbox import idmap
from xbuild.store import ownership
from xbuild.store.local import Store

ME, OTHER = 1234, 4321


@pytest.fixture
def owned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Change the owner, mode or group that a path seems to have; the rest is ours, above tmp_path root's."""
    changes: dict[Path, dict[str, int]] = {}
    real = Path.lstat

    def lstat(path: Path) -> os.stat_result:
        facts = list(real(path))
        inside = path == tmp_path or tmp_path in path.parents
        known = changes.get(path, {})
        facts[0] = known.get("mode", facts[0] if inside else stat.S_IFDIR | 0o755)
        facts[4] = known.get("uid", ME if inside else 0)
        facts[5] = known.get("gid", ME if inside else 0)
        return os.stat_result(facts)

    monkeypatch.setattr(Path, "lstat", lstat)
    monkeypatch.setattr(os, "geteuid", lambda: ME)
    return lambda path, **known: changes.update({path: known})


def refusal(path: Path) -> str:
    with pytest.raises(MachineError) as caught:
        ownership.check_own(path, {ME})
    assert caught.value.exit_code == EXIT_MACHINE
    assert "XBUILD_CACHE" in (caught.value.hint or "")
    return caught.value.message


@pytest.mark.usefixtures("owned")
def test_ones_own_is_good_also_before_it_is_there(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "store")
    for path in (tmp_path / "store", tmp_path / "not/yet", tmp_path / "link/.." / tmp_path.name / "store"):
        ownership.check_own(path, {ME})
    (tmp_path / "store").mkdir()
    ownership.check_own(tmp_path / "link", {ME})


def test_another_user_s(tmp_path: Path, owned: Callable[..., None]) -> None:
    store = tmp_path / "store"
    store.mkdir()
    owned(store, uid=OTHER)
    assert refusal(store).endswith(f"{store} belongs to the user {OTHER}")
    owned(store, uid=0)
    assert "it belongs to the user root" in refusal(store)
    owned(store)
    owned(tmp_path, uid=OTHER)
    assert f"{tmp_path} belongs to" in refusal(store)


@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_what_others_may_write_to(mode: int, tmp_path: Path, owned: Callable[..., None]) -> None:
    store = tmp_path / "store"
    store.mkdir()
    owned(store, mode=stat.S_IFDIR | mode)
    assert "others may write to" in refusal(store)
    # Above it, as /var/tmp is: nobody can take away there what is not his.
    owned(store)
    owned(tmp_path, mode=stat.S_IFDIR | mode, uid=0)
    if mode & stat.S_ISVTX:
        ownership.check_own(store, {ME})
        ownership.check_own(tmp_path / "fresh", {ME})
    else:
        assert f"others may write to {tmp_path}" in refusal(store)


def test_a_group_counts_if_another_one_is_in_it(
    tmp_path: Path, owned: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    owned(tmp_path, mode=stat.S_IFDIR | 0o775, gid=77)
    monkeypatch.setattr(ownership, "_others_in", lambda _: False)
    ownership.check_own(tmp_path / "store", {ME})
    monkeypatch.setattr(ownership, "_others_in", lambda gid: gid == 77)
    assert f"others may write to {tmp_path}" in refusal(tmp_path / "store")


def test_links_of_others_and_circles(tmp_path: Path, owned: Callable[..., None]) -> None:
    (tmp_path / "victim").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "victim")
    ownership.check_own(link, {ME})
    owned(link, uid=OTHER, mode=stat.S_IFLNK | 0o777)
    assert f"{link} belongs to" in refusal(link)
    assert f"{link} belongs to" in refusal(link / "below")
    (tmp_path / "round").symlink_to("round")
    assert "circle" in refusal(tmp_path / "round")


@pytest.mark.parametrize(
    ("kind", "own", "made_anew"),
    [("roots", "root", True), ("layers", "upper", True), ("twins", "dispatcher", False), ("resolved", "root", False)],
)
def test_what_root_inside_no_longer_owns_is_made_anew(
    kind: str,
    own: str,
    made_anew: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def root_is(uid: int) -> None:
        lines = ((0, uid, idmap.IDS),)
        monkeypatch.setattr(idmap, "find", lambda: idmap.IdMap(lines, lines))

    def make(staging: Path) -> None:
        (staging / own).mkdir()
        made.append(staging)

    made: list[Path] = []
    store = Store(tmp_path / "store")
    root_is(os.geteuid())
    store.ensure(kind, {"a": 1}, "the root of armhf", make)
    store.ensure(kind, {"a": 1}, "the root of armhf", make)
    assert len(made) == 1
    # As after `chown -R` of the store, or with another line in /etc/subuid.
    root_is(os.geteuid() + 1)
    store.ensure(kind, {"a": 1}, "the root of armhf", make)
    assert (len(made) == 2) is made_anew
    assert ("belongs to the user" in capsys.readouterr().err) is made_anew
