import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xbuild.base.digest import canonical_json, key_of
from xbuild.base.errors import MachineError
from xbuild.store.differences import diff_values
from xbuild.store.local import LAYOUT, Store, writing_below

WORDS = st.sampled_from(["", "a", "b\nc", "1", "true", "a, b", "'a'"])
SCALARS = st.none() | st.booleans() | st.integers(-9, 9) | WORDS
VALUES = st.recursive(
    SCALARS | st.text(st.characters(codec="utf-8")),
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.sampled_from("abcd"), below, max_size=4),
    max_leaves=12,
)

MAKER = """
import sys, time
from pathlib import Path
from xbuild.store.local import Store

def make(staging):
    (staging / "data").write_text("half")
    with open({made!r}, "a") as stream:
        stream.write("made\\n")
    time.sleep({seconds})
    (staging / "data").write_text("whole")

print(Store(Path({root!r})).ensure("roots", {value!r}, "the root", make), flush=True)
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def whole(staging: Path) -> None:
    (staging / "data").write_text("whole")


def unneeded(staging: Path) -> None:
    raise AssertionError("made twice")


def start_maker(store: Store, made: Path, value: Any, seconds: float) -> subprocess.Popen[str]:
    code = MAKER.format(made=str(made), root=str(store.root), value=value, seconds=seconds)
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(path: Path) -> None:
    end = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_ensure_makes_once_and_keeps_the_value(store: Store) -> None:
    value = {"packages": ["a", "b"], "suite": "s"}
    path = store.ensure("roots", value, "the root", whole)
    assert (path / "data").read_text() == "whole"
    assert path == store.entry("roots", key_of(value)) == store.root / "roots" / key_of(value)[:20]
    assert store.ensure("roots", value, "the root", unneeded) == path
    assert store.get("roots", key_of(value)) == path
    assert store.value("roots", key_of(value)) == value
    assert list((store.root / "tmp").iterdir()) == []


def test_nothing_is_written_before_it_is_needed(store: Store) -> None:
    assert store.get("roots", key_of(1)) is None
    assert store.value("roots", key_of(1)) is None
    assert store.finished("roots") == []
    store.sweep()
    assert not store.root.exists()


def test_cachedir_tag(store: Store) -> None:
    store.directory("tmp")
    text = (store.root / "CACHEDIR.TAG").read_text()
    assert text.startswith("Signature: 8a477f597d28d172789f06886806bc55\n")


def test_unknown_kind(store: Store) -> None:
    with pytest.raises(ValueError, match="no such kind"):
        store.entry("rooots", key_of(1))


def test_entry_is_readable_whatever_the_umask(store: Store) -> None:
    old = os.umask(0o077)
    try:
        path = store.ensure("roots", 1, "the root", whole)
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o755


def test_failed_maker_leaves_nothing(store: Store) -> None:
    def fail(staging: Path) -> None:
        (staging / "data").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.ensure("roots", 1, "the root", fail)
    assert store.get("roots", key_of(1)) is None
    assert list((store.root / "tmp").iterdir()) == []
    store.ensure("roots", 1, "the root", whole)


@pytest.mark.parametrize(
    "text",
    ["", "{", "\udce4", '{"key": "0"}', '{"key": "0", "value": 1}', '{"key": 5, "value": 1}', None, "2"],
)
def test_corrupt_key_file_counts_as_absent(store: Store, text: str | None) -> None:
    key_file = store.ensure("roots", 1, "the root", whole) / "key.json"
    if text is None:
        key_file.unlink()
    elif text == "2":
        key_file.write_text(json.dumps({"key": key_of(2), "value": 2}))
    else:
        key_file.write_bytes(text.encode(errors="surrogateescape"))
    (key_file.parent / "left-over").touch()
    assert store.get("roots", key_of(1)) is None
    assert store.value("roots", key_of(1)) is None
    assert store.finished("roots") == []
    path = store.ensure("roots", 1, "the root", whole)
    assert not (path / "left-over").exists()
    assert store.get("roots", key_of(1)) == path


def test_value_that_does_not_give_the_key_is_not_trusted(store: Store) -> None:
    key_file = store.ensure("roots", {"a": 1}, "the root", whole) / "key.json"
    key_file.write_text(key_file.read_text().replace("1", "2", 1))
    assert store.get("roots", key_of({"a": 1})) is None


def test_file_in_the_place_of_an_entry_is_replaced(store: Store) -> None:
    store.directory("roots")
    store.entry("roots", key_of(1)).write_text("not a directory")
    assert store.ensure("roots", 1, "the root", whole).is_dir()


def test_two_processes_make_once(store: Store, tmp_path: Path) -> None:
    made = tmp_path / "made"
    makers = [start_maker(store, made, {"a": 1}, 0.5) for _ in range(2)]
    results = [maker.communicate(timeout=60) for maker in makers]
    assert [maker.returncode for maker in makers] == [0, 0], results
    assert made.read_text() == "made\n"
    assert results[0][0] == results[1][0] == f"{store.entry('roots', key_of({'a': 1}))}\n"
    assert "waiting for another xbuild that makes the root\n" in "".join(err for _, err in results)


def test_killed_maker_leaves_nothing_that_is_trusted(store: Store, tmp_path: Path) -> None:
    made = tmp_path / "made"
    maker = start_maker(store, made, {"a": 1}, 60)
    wait_for(made)
    maker.send_signal(signal.SIGKILL)
    maker.communicate()
    half = list((store.root / "tmp").iterdir())
    assert [(path / "data").read_text() for path in half] == ["half"]
    assert store.get("roots", key_of({"a": 1})) is None
    path = store.ensure("roots", {"a": 1}, "the root", whole)
    assert (path / "data").read_text() == "whole"
    assert list((store.root / "tmp").iterdir()) == []


def test_sweep_removes_what_killed_ones_left_but_not_what_is_in_use(store: Store, tmp_path: Path) -> None:
    killed, running = tmp_path / "killed", tmp_path / "running"
    first, second = start_maker(store, killed, 1, 60), start_maker(store, running, 2, 60)
    try:
        wait_for(killed)
        wait_for(running)
        first.send_signal(signal.SIGKILL)
        first.communicate()
        store.sweep()
        left = [path.name for path in (store.root / "tmp").iterdir()]
        assert len(left) == 1
        assert left[0].startswith(f"roots-{key_of(2)[:20]}.")
    finally:
        second.kill()
        second.communicate()


def test_lock_without_waiting(store: Store) -> None:
    with store.lock("work-a", describe="builds a"):
        with (
            pytest.raises(MachineError, match="another xbuild that builds a"),
            store.lock("work-a", wait=False, describe="builds a"),
        ):
            pass
        with store.lock("work-b", wait=False):
            pass
    with store.lock("work-a", wait=False):
        pass


def test_lock_is_waited_for(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    order = []

    def second() -> None:
        with store.lock("a", describe="builds a"):
            order.append("second")

    with store.lock("a"):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.2)
        order.append("first")
    thread.join(30)
    assert order == ["first", "second"]


def test_remove_tree_is_the_given_one(tmp_path: Path) -> None:
    removed = []

    def remove(path: Path) -> None:
        removed.append(path)
        shutil.rmtree(path)

    store = Store(tmp_path, remove)
    path = store.ensure("roots", 1, "the root", whole)
    store.remove("roots", key_of(1))
    assert not path.exists()
    assert len(removed) == 1
    assert removed[0].parent == tmp_path / "tmp"
    store.remove("roots", key_of(1))


def test_finished_lists_the_newest_first(store: Store) -> None:
    old = store.ensure("artifacts", {"n": 1}, "old", whole)
    new = store.ensure("artifacts", {"n": 2}, "new", whole)
    os.utime(old / "key.json", (1, 1))
    first, second = store.finished("artifacts")
    assert first == (new, key_of({"n": 2}), {"n": 2})
    assert second == (old, key_of({"n": 1}), {"n": 1})


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_is_told(store: Store, number: int) -> None:
    def fill(staging: Path) -> None:
        raise OSError(number, os.strerror(number))

    with pytest.raises(MachineError, match=r"disk full: .* has \d+ MiB free") as caught:
        store.ensure("roots", 1, "the root", fill)
    assert "invoke clean" in str(caught.value.hint)
    assert list((store.root / "tmp").iterdir()) == []


def test_other_errors_of_the_system_pass(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), writing_below(tmp_path):
        (tmp_path / "absent").read_text()


def test_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match="cannot make") as caught:
        Store(tmp_path / "file" / "store").ensure("roots", 1, "the root", whole)
    assert "XBUILD_CACHE" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ({"recipe": {"version": "1"}}, {"recipe": {"version": "2"}}, ["recipe.version: '1' -> '2'"]),
        ({"packages": ["a"]}, {"packages": ["a", "libfoo"]}, ["packages: + libfoo"]),
        ({"packages": ["a", "b"]}, {"packages": ["a"]}, ["packages: - b"]),
        ({"p": ["a", "b"]}, {"p": ["b", "a"]}, ["p: order: a, b -> b, a"]),
        ({"env": {"A": "1"}}, {"env": {"B": "1"}}, ["env.A: - '1'", "env.B: + '1'"]),
        ({"s": [{"sha": "1"}]}, {"s": [{"sha": "2"}]}, ["s[0].sha: '1' -> '2'"]),
        ({"s": []}, {"s": [{"b": 1, "a": 2}]}, ['s: + {"a":2,"b":1}']),
        ({"script": "a\nb\nc\n"}, {"script": "a\nB\nc\n"}, ["script: - b", "script: + B"]),
        ({"x": 1}, {"x": True}, ["x: 1 -> true"]),
        ({"x": None}, {"x": "null"}, ["x: null -> 'null'"]),
        (1, 2, ["value: 1 -> 2"]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, []),
    ],
)
def test_diff_values(old: Any, new: Any, lines: list[str]) -> None:
    assert diff_values(old, new) == lines


@given(VALUES, VALUES)
def test_diff_is_empty_exactly_for_equal_keys(old: Any, new: Any) -> None:
    assert (diff_values(old, new) == []) == (key_of(old) == key_of(new))
    assert (key_of(old) == key_of(new)) == (canonical_json(old) == canonical_json(new))


@given(VALUES)
def test_diff_and_key_do_not_see_what_json_does_not_keep(value: Any) -> None:
    again = json.loads(json.dumps(value))
    assert diff_values(value, again) == []
    assert key_of(again) == key_of(value)


@given(st.lists(SCALARS), st.lists(SCALARS))
def test_diff_of_flat_lists_tells_every_change(old: list[Any], new: list[Any]) -> None:
    lines = diff_values(old, new)
    gone = sum(line.startswith("value: - ") for line in lines)
    come = sum(line.startswith("value: + ") for line in lines)
    assert len(new) - len(old) == come - gone


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), st.integers()))
def test_key_does_not_depend_on_order(value: dict[str, int]) -> None:
    assert key_of(dict(reversed(value.items()))) == key_of(value)


def test_the_store_is_closed_to_others(tmp_path: Path) -> None:
    path = tmp_path / "store"
    store = Store(path)
    store.secure(path)
    assert not path.exists()
    store.ensure("roots", 1, "the root", whole)
    with store.lock("one"):
        pass
    places = (path, path / "roots", path / "tmp", path / "locks/one.lock")
    assert [place.stat().st_mode & 0o77 for place in places] == [0] * 4
    path.chmod(0o755)
    store.secure(path)
    assert path.stat().st_mode & 0o777 == 0o700


def test_a_directory_with_other_things_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    mode = tmp_path.stat().st_mode
    with pytest.raises(MachineError, match="holds other things than a store"):
        Store(tmp_path).secure(tmp_path)
    assert tmp_path.stat().st_mode == mode


def test_nothing_is_removed_behind_a_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    (victim / "a").mkdir(parents=True)
    store = Store(tmp_path / "store")
    store.directory("tmp")
    (store.root / "work").symlink_to(victim)
    with pytest.raises(MachineError, match="is a link"):
        store.clear("work")
    assert (victim / "a").is_dir()


def test_a_lock_cannot_be_another_file(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (store.directory("locks") / "one.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(MachineError, match="cannot use"), store.lock("one"):
        pass
    assert not (tmp_path / "victim").exists()


def test_what_another_layout_made_is_known(store: Store) -> None:
    old = {"what": "layer", "base": {"what": "target root"}}
    store.ensure("layers", old, "old", whole)
    store.ensure("layers", {**old, "base": {"layout": LAYOUT}}, "new", whole)
    asked = {"layout": LAYOUT, "packages": ["make"], "suite": "trixie", "what": "target root"}
    store.ensure("layers", {**old, "base": asked}, "asked for", whole)
    assert sorted(store.older("layers")) == sorted([key_of(old), key_of({**old, "base": asked})])


@pytest.mark.parametrize("part", ["tmp", "locks", ""])
def test_what_may_not_be_written_is_no_bug(part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    store = Store(tmp_path / "store")
    for name in ("tmp", "locks"):
        store.directory(name)
    place = store.root / part
    place.chmod(0o500)
    # As on a file system that is read-only: modes cannot be changed there.
    monkeypatch.setattr(Path, "chmod", lambda *_: None)
    with pytest.raises(MachineError, match=r"cannot (use|make)"):
        store.ensure("roots", 1, "the root", whole)
    monkeypatch.undo()
    place.chmod(0o700)


def test_a_place_that_cannot_be_made() -> None:
    with pytest.raises(MachineError, match="cannot make /proc/nothing/tmp"):
        Store(Path("/proc/nothing")).directory("tmp")


def test_a_file_is_no_store_and_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "file").touch(0o644)
    with pytest.raises(MachineError, match="Not a directory"):
        Store(tmp_path / "file").directory("tmp")
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644
