"""When entries were used, what is recorded of them, and the words about them."""

import os
import shutil
from pathlib import Path

import pytest

from xbuild.base.digest import CONTENTS, SUMS, key_of
from xbuild.base.errors import UsageError
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
