"""Digests of files that were read before: right whatever was done to the files, and no file read twice."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xbuild.sources import seen, trees
from xbuild.sources.local import look
from xbuild.store.local import Store

NAMES = ("a", "b", "sub/a", "sub/b")
CONTENTS = ("one\n", "two\n", "three\n")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files settle at once, but later than any clock's step; the file system of the tests is one of the kernel's."""
    monkeypatch.setattr(seen, "_SETTLED", 30 * 10**6)
    monkeypatch.setattr(seen, "kind_of_system", lambda _path: "ext4")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "store")
    made.directory("tmp")
    return made


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are read."""
    found: list[str] = []

    def counted(file: trees.File, status: os.stat_result) -> bytes:
        found.append(file.name)
        return trees.content_of(file, status)

    monkeypatch.setattr(seen, "content_of", counted)
    return found


def tree(top: Path) -> Path:
    for name in NAMES:
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(CONTENTS[0])
    return top


def wait() -> None:
    time.sleep(0.04)


def test_an_unchanged_tree_is_not_read_again(store: Store, reads: list[str], tmp_path: Path) -> None:
    top = tree(tmp_path / "own")
    wait()
    first = look(top, None, store)
    assert sorted(reads) == sorted(NAMES)
    reads.clear()
    assert look(top, None, store) == first == look(top)
    assert reads == []
    (top / "b").write_text("two\n")
    wait()
    assert look(top, None, store) == look(top) != first
    assert look(top, None, store) == look(top)
    assert reads == ["b"]
    # Another tree has its own.
    copy = tmp_path / "copy"
    shutil.copytree(top, copy)
    wait()
    assert look(copy, None, store).digest == look(top).digest
    assert sorted(reads) == sorted(["b", *NAMES])


def test_what_was_just_changed_is_read_again(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where times have steps, as in kernels before 6.13; all contents have one size."""
    exact = seen._marks

    def coarse(status: os.stat_result) -> bytes:
        step = 20 * 10**6
        times = {name: getattr(status, name) // step * step for name in ("st_mtime_ns", "st_ctime_ns")}
        others = {name: getattr(status, name) for name in ("st_dev", "st_ino", "st_mode", "st_size")}
        return exact(SimpleNamespace(**times, **others))  # type: ignore[arg-type]

    monkeypatch.setattr(seen, "_marks", coarse)
    top = tree(tmp_path / "own")
    for number in range(300):
        for text in (f"{number:04}", f"{number:04}"[::-1]):
            (top / "a").write_text(text)
            assert look(top, None, store) == look(top)


def touched(top: Path, name: str) -> None:
    """The same times of contents and the same size, and other contents."""
    before = (top / name).stat()
    (top / name).write_text("xyz\n")
    os.utime(top / name, ns=(before.st_atime_ns, before.st_mtime_ns))


def renamed(top: Path, name: str) -> None:
    before = (top / name).stat()
    other = top / f"{name}.new"
    other.write_text("zyx\n")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(top / name)


def through_a_link(top: Path, name: str) -> None:
    outside = top.parent / "outside"
    os.link(top / name, outside)
    outside.write_text("yxz\n")
    outside.unlink()


def swapped(top: Path, name: str) -> None:
    aside = top.parent / "aside"
    top.rename(aside)
    shutil.copytree(aside, top, copy_function=shutil.copy2)
    (top / name).write_text("zxy\n")
    shutil.rmtree(aside)


@pytest.mark.parametrize("change", [touched, renamed, through_a_link, swapped])
def test_no_change_is_missed(
    store: Store, reads: list[str], tmp_path: Path, change: Callable[[Path, str], None]
) -> None:
    top = tree(tmp_path / "own")
    wait()
    first = look(top, None, store)
    assert look(top, None, store) == first
    change(top, "sub/a")
    assert look(top, None, store) == look(top) != first
    wait()
    assert look(top, None, store) == look(top) != first


STEPS = st.one_of(
    st.tuples(st.just("write"), st.sampled_from(NAMES), st.sampled_from(CONTENTS)),
    st.tuples(st.just("append"), st.sampled_from(NAMES), st.sampled_from(CONTENTS)),
    st.tuples(st.just("remove"), st.sampled_from(NAMES)),
    st.tuples(st.just("touch"), st.sampled_from(NAMES), st.sampled_from([0, 1, 10**9, 4 * 10**9])),
    st.tuples(st.just("mode"), st.sampled_from(NAMES), st.sampled_from([0o644, 0o755])),
    st.tuples(st.just("move"), st.sampled_from(NAMES), st.sampled_from(NAMES)),
    st.tuples(st.just("link"), st.sampled_from(NAMES), st.sampled_from(NAMES)),
    st.tuples(st.just("symlink"), st.sampled_from(NAMES), st.sampled_from(NAMES)),
    st.tuples(st.just("look")),
    st.tuples(st.just("wait")),
)


def do(top: Path, what: str, *words: object) -> None:
    path = top / str(words[0]) if words else top
    if what == "write":
        path.unlink(missing_ok=True)
        path.write_text(str(words[1]))
    elif what == "wait":
        wait()
    elif what == "mode" and path.exists():
        path.chmod(int(str(words[1])))
    elif what == "append" and path.exists():
        with path.open("r+") as file:
            file.write(str(words[1]))
    elif what == "touch" and path.exists():
        os.utime(path, (int(str(words[1])),) * 2)
    elif what == "remove":
        path.unlink(missing_ok=True)
    elif what == "move" and path.is_file():
        path.replace(top / str(words[1]))
    elif what in ("link", "symlink") and path.is_file() and words[0] != words[1]:
        (top / str(words[1])).unlink(missing_ok=True)
        (os.link if what == "link" else os.symlink)(path, top / str(words[1]))


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, max_size=12))
def test_it_is_what_one_who_reads_all_finds(place: Path, steps: list[tuple[object, ...]]) -> None:
    with tempfile.TemporaryDirectory(dir=place) as folder:
        top, store = tree(Path(folder, "own")), Store(Path(folder, "store"))
        store.directory("tmp")
        for what, *words in [*steps, ("look",)]:
            if what == "look":
                # Twice: what the first one has kept is believed by the second.
                assert [look(top, None, store).digest for _ in range(2)] == [look(top).digest] * 2
            else:
                do(top, str(what), *words)


def damages(data: bytes) -> Iterator[bytes]:
    yield b""
    yield data[:-1]
    yield data + b"\0a"
    yield data.replace(b"digests of files, 1", b"digests of files, 9")
    for place in range(0, len(data), 7):
        yield data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def test_a_damaged_record_is_not_believed(store: Store, tmp_path: Path) -> None:
    top = tree(tmp_path / "own")
    wait()
    first = look(top, None, store)
    (record,) = (store.root / "digests").iterdir()
    good = record.read_bytes()
    for number, bad in enumerate(damages(good)):
        record.write_bytes(bad)
        assert look(top, None, store) == first, number
    assert record.read_bytes() == good
    record.unlink()
    record.mkdir()
    assert look(top, None, store) == first


def test_a_plan_makes_no_store(tmp_path: Path) -> None:
    look(tree(tmp_path / "own"), None, Store(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_only_file_systems_of_the_kernel_are_believed(
    store: Store, reads: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = tree(tmp_path / "own")
    wait()
    for kind in ("nfs4", "fuse.sshfs", "tmpfs", "vfat", None):
        monkeypatch.setattr(seen, "kind_of_system", lambda _path, kind=kind: kind)
        look(top, None, store)
    assert len(reads) == 5 * len(NAMES)
    assert not (store.root / "digests").exists()


def test_records_that_nobody_uses_are_removed(store: Store, tmp_path: Path) -> None:
    old, new = tree(tmp_path / "old"), tree(tmp_path / "new")
    wait()
    look(old, None, store)
    (record,) = (store.root / "digests").iterdir()
    os.utime(record, (0, 0))
    look(old, None, store)
    assert record.stat().st_mtime > 0
    os.utime(record, (0, 0))
    look(new, None, store)
    assert len(list((store.root / "digests").iterdir())) == 1


def test_which_file_system(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(
        "22 1 8:1 / / rw - ext4 /dev/a rw\n"
        "23 22 0:5 / /home rw,relatime shared:1 - xfs /dev/b rw\n"
        "24 22 0:6 / /home rw - nfs4 server:/x rw\n"
        "25 22 0:7 / /a\\040b rw master:2 - btrfs /dev/c rw\n"
    )
    wanted = {"/x": "ext4", "/home": "nfs4", "/home/me": "nfs4", "/homes": "ext4", "/a b/c": "btrfs", "/": "ext4"}
    assert {path: KIND(path, table) for path in wanted} == wanted
    assert KIND("/x", tmp_path / "none") is None


KIND = seen.kind_of_system
