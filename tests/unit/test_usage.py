"""When entries were used, what is recorded of them, and the words about them."""

import os
import shutil
import time
from pathlib import Path

import pytest

from xbuild.base.digest import CONTENTS, SUMS, key_of
from xbuild.base.errors import MachineError, UsageError
from xbuild.store import carry, usage
from xbuild.store.local import Store

VALUE = {"what": "twins"}
KEY = key_of(VALUE)


def fill(staging: Path) -> None:
    (staging / "twins.json").write_text("[]\n")
    (staging / "log").write_text("a path of this machine\n")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", record=carry.record)


def test_an_entry_is_stamped_when_it_is_handed_out_and_not_else(store: Store) -> None:
    entry = store.ensure("twins", VALUE, "twins", fill)
    lock = store.root / "locks" / f"twins-{entry.name}.lock"
    for file in (lock, entry / "key.json"):
        os.utime(file, (1000, 1000))
    assert store.finished("twins")
    with store.lock(f"twins-{entry.name}"):
        assert store.used("twins", entry.name) == 1000
    before = {path.name: path.stat().st_mtime_ns for path in entry.iterdir()}
    assert store.get("twins", KEY) == entry
    assert store.used("twins", entry.name) > 1_000_000_000
    assert {path.name: path.stat().st_mtime_ns for path in entry.iterdir()} == before
    os.utime(lock, (1000, 1000))
    assert store.ensure("twins", VALUE, "twins", fill) == entry
    assert store.used("twins", entry.name) > 1_000_000_000


def test_an_entry_that_was_copied_without_its_lock_is_stamped(store: Store) -> None:
    entry = store.ensure("twins", VALUE, "twins", fill)
    lock = store.root / "locks" / f"twins-{entry.name}.lock"
    lock.unlink()
    os.utime(entry / "key.json", (1000, 1000))
    assert store.used("twins", entry.name) == 1000
    assert store.get("twins", KEY) == entry
    assert store.used("twins", entry.name) > 1_000_000_000
    assert lock.stat().st_mode & 0o777 == 0o600


def test_a_store_that_cannot_be_written_is_read(store: Store) -> None:
    entry = store.ensure("twins", VALUE, "twins", fill)
    shutil.rmtree(store.root / "locks")
    assert store.get("twins", KEY) == entry
    assert store.used("twins", entry.name) == (entry / "key.json").stat().st_mtime
    assert store.used("twins", "none") == 0


def test_what_is_in_an_entry_is_recorded_once(store: Store) -> None:
    entry = store.ensure("twins", VALUE, "twins", fill)
    text = (entry / CONTENTS).read_text()
    assert '"twins.json"' in text
    assert f'"{SUMS}"' in text
    assert '"log"' not in text
    assert CONTENTS not in (entry / SUMS).read_text()


def test_an_entry_of_an_xbuild_that_records_nothing_is_good(tmp_path: Path) -> None:
    old = Store(tmp_path / "store")
    entry = old.ensure("twins", VALUE, "twins", fill)
    assert not (entry / CONTENTS).exists()
    new = Store(tmp_path / "store", record=carry.record)
    assert new.ensure("twins", VALUE, "twins", fill) == entry
    assert new.get("twins", KEY) == old.get("twins", KEY) == entry
    (entry / "twins.json").write_text("[ ]\n")
    assert new.get("twins", KEY) is None
    assert (new.ensure("twins", VALUE, "twins", fill) / CONTENTS).exists()
    assert old.get("twins", KEY) == entry


def test_one_is_removed_unless_it_is_held(store: Store) -> None:
    entry = store.ensure("twins", VALUE, "twins", fill)
    with store.lock(f"twins-{entry.name}"):
        assert not store.clear_one("twins", entry.name)
    assert entry.is_dir()
    assert store.clear_one("twins", entry.name)
    assert not entry.exists()
    assert list((store.root / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    ("text", "size"),
    [("20G", 20 << 30), ("1.5T", 3 << 39), ("500 MiB", 500 << 20), ("7kb", 7 << 10), ("0", 0), ("12B", 12)],
)
def test_sizes(text: str, size: int) -> None:
    assert usage.size_of(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1G", "1E", "1e3", "20 Gi G", "٣G", "nan"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="an amount such as 20G"):
        usage.size_of(text)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (
            {"what": "target root", "architecture": "armhf", "suite": "trixie", "packages": ["b", "a"]},
            "target root armhf trixie with b a",
        ),
        ({"what": "layer", "base": {"architecture": "armhf", "suite": "trixie"}, "packages": []}, "layer armhf trixie"),
        (
            {
                "mode": "substituted",
                "recipe": {"name": "zlib", "version": "1.3.1"},
                "target": {"name": "armhf", "distribution": {"suite": "trixie"}},
            },
            "zlib 1.3.1 substituted armhf trixie",
        ),
        ({"what": ["odd"], "packages": [1], "recipe": {"name": 5}, "base": 7, "target": {}}, ""),
        (5, ""),
    ],
)
def test_entries_in_words(value: object, words: str) -> None:
    assert usage.described(value) == words


def answer(store: Store, name: str, size: int, used: float) -> Path:
    """A file as ccache keeps one."""
    file = store.directory("ccache") / "files" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"x" * size)
    os.utime(file, (used, used))
    return file


def test_the_compiler_cache_is_listed_and_its_oldest_answers_go(store: Store) -> None:
    now = time.time()
    old = [answer(store, f"0/{number}/{'a' * 30}R", 8192, now - 90 * 86400 - number) for number in range(3)]
    new = answer(store, f"f/f/{'b' * 30}R", 8192, now - 60)
    own = [answer(store, "stats", 1, 1000), answer(store, "0/stats", 1, 1000), answer(store, "0/0/stats", 1, 1000)]
    own += [answer(store, "lock/one", 1, 1000), answer(store, "tmp/two", 8192, 1000)]
    (held,) = usage.held(store)
    assert (held.kind, held.name, held.key, held.what) == ("ccache", "files", None, "4 answers of compilers")
    assert held.used == pytest.approx(now - 60)
    # 6 files, and directories.
    assert held.size >= 5 * 8192 + 4 * 512
    assert usage.held(store, ("twins",)) == []
    told = usage.collect(store, (), days=30, dry=True)
    assert [(one.kind, one.what) for one in told.gone] == [("ccache", "3 answers of compilers")]
    assert told.left == held.size - told.freed
    assert all(file.exists() for file in old)
    # The oldest first: one is enough.
    done = usage.collect(store, (), size=held.size - 1)
    assert done.gone[0].what == "1 answers of compilers"
    assert [file.exists() for file in [*old, new]] == [True, True, False, True]
    done = usage.collect(store, (), days=30)
    assert [one.what for one in done.gone] == ["2 answers of compilers"]
    assert done.left == usage.held(store)[0].size
    assert [file.exists() for file in [*old, new]] == [False, False, False, True]
    usage.collect(store, (), size=0)
    assert not new.exists()
    assert all(file.exists() for file in own)


def test_entries_and_answers_go_by_one_order_of_age(store: Store) -> None:
    entry = store.ensure("twins", VALUE, "twins", fill)
    for file in (store.root / "locks" / f"twins-{entry.name}.lock", entry / "key.json"):
        os.utime(file, (2000, 2000))
    older, newer = answer(store, f"0/0/{'a' * 30}R", 8192, 1000), answer(store, f"0/0/{'b' * 30}R", 8192, 3000)
    total = sum(one.size for one in usage.held(store))
    assert [one.kind for one in usage.collect(store, (), size=total - 8193).gone] == ["twins", "ccache"]
    assert (older.exists(), entry.exists(), newer.exists()) == (False, False, True)


def test_answers_stay_while_something_builds(store: Store) -> None:
    file = answer(store, f"0/0/{'a' * 30}R", 8192, 1000)
    with store.in_use():
        assert usage.held(store)[0].in_use
        assert usage.collect(store, (), size=0, dry=True).gone == ()
        with pytest.raises(MachineError, match="another xbuild that builds"):
            usage.collect(store, (), size=0)
    assert file.exists()
