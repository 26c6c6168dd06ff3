"""Local stores that share one: what is made, fetched and pushed. Entries are packed and unpacked inside."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.test_shared_store import keys, make_keys, warnings
from xbuild.base.digest import file_sha256, key_of, write_sums
from xbuild.sandbox.run import give_tree, machine_view, remove_tree, run
from xbuild.store import carry
from xbuild.store.shared.entries import SharingStore, borrow, lend, obtain, pull
from xbuild.store.shared.shared import Shared
from xbuild.store.shared.trust import Keys

__all__ = ["keys", "warnings"]

KEY = "1" * 64
VALUE = {"what": "layer", "base": {"architecture": "armhf"}, "packages": ["a"]}


def files(top: Path) -> list[Path]:
    return [path for path in top.rglob("*") if path.is_file()]


def sharing(tmp_path: Path, name: str, keys: Keys, *, push: bool = True) -> SharingStore:
    shared = Shared([str(tmp_path / "shared")], keys, push=push)
    return SharingStore(tmp_path / name, remove_tree, carry.record, shared)


def fill(staging: Path) -> None:
    """Something that only root inside can make."""
    script = 'cd "$1"; mkdir usr; echo su > usr/su; chown 42:42 usr/su; chmod 4755 usr/su'
    (staging / "upper").mkdir()
    give_tree(0, [staging / "upper"])
    words = ["sh", "-euc", script, "sh", str(staging / "upper")]
    run(machine_view(), words) if os.geteuid() else subprocess.run(words, check=True)
    (staging / "told.json").write_text("{}")


def refuse(_: Path) -> None:
    raise AssertionError("it is made, though a shared store has it")


def test_a_second_store_makes_nothing(tmp_path: Path, keys: Keys, warnings: list[str]) -> None:
    first, second = (sharing(tmp_path, name, keys) for name in ("first", "second"))
    made = first.ensure("layers", VALUE, "the layer", fill)
    assert obtain(second, "layers", {"what": "nothing"}, "nothing") is None
    found = second.ensure("layers", VALUE, "the layer", refuse)
    assert (found / "CONTENTS").read_text() == (made / "CONTENTS").read_text()
    third = sharing(tmp_path, "third", keys)
    assert pull(third, third.shared, "layers", key_of(VALUE))
    assert not pull(third, third.shared, "layers", KEY)
    assert obtain(sharing(tmp_path, "fourth", keys), "layers", VALUE, "the layer") is not None
    assert list((second.root / "tmp").iterdir()) == []
    assert warnings == []


def test_an_artifact_that_was_built_is_kept(tmp_path: Path, keys: Keys) -> None:
    """`build --from` makes one anew that a shared store has too."""

    def make(word: str) -> Callable[[Path], None]:
        def write(staging: Path) -> None:
            (staging / "x").write_text(word)
            write_sums(staging)

        return write

    first, second = (sharing(tmp_path, name, keys) for name in ("first", "second"))
    first.ensure("artifacts", VALUE, "the artifact", make("old"))
    assert (second.ensure("artifacts", VALUE, "the artifact", make("new")) / "x").read_text() == "new"
    found = obtain(sharing(tmp_path, "third", keys), "artifacts", VALUE, "the artifact")
    assert found is not None
    assert (found / "x").read_text() == "new"


def test_what_may_not_be_pushed_is_not(tmp_path: Path, keys: Keys) -> None:
    sharing(tmp_path, "first", keys, push=False).ensure("layers", VALUE, "the layer", fill)
    assert not (tmp_path / "shared").exists()


def test_nothing_of_a_stranger_is_taken(tmp_path: Path, keys: Keys) -> None:
    """What a twin is runs on this machine: a store alone must not be able to bring one."""
    stranger = make_keys(tmp_path / "stranger", name="stranger")
    sharing(tmp_path, "first", stranger).ensure("layers", VALUE, "the layer", fill)
    made: list[Path] = []

    def make(staging: Path) -> None:
        made.append(staging)
        fill(staging)

    sharing(tmp_path, "second", keys).ensure("layers", VALUE, "the layer", make)
    assert len(made) == 1


def swapped(shared: Path) -> None:
    (blob,) = files(shared / "blobs")
    blob.write_bytes(blob.read_bytes()[:-1] + b"x")


def gone(shared: Path) -> None:
    (blob,) = files(shared / "blobs")
    blob.unlink()


@pytest.mark.parametrize("fault", [swapped, gone], ids=lambda fault: fault.__name__)
def test_a_damaged_blob_is_made_anew_and_mended(
    fault: Callable[[Path], None], tmp_path: Path, keys: Keys, warnings: list[str]
) -> None:
    sharing(tmp_path, "first", keys).ensure("layers", VALUE, "the layer", fill)
    fault(tmp_path / "shared")
    sharing(tmp_path, "second", keys).ensure("layers", VALUE, "the layer", fill)
    assert len(warnings) <= 1
    sharing(tmp_path, "third", keys).ensure("layers", VALUE, "the layer", refuse)


def test_an_entry_of_another_key_is_not_taken(tmp_path: Path, keys: Keys, warnings: list[str]) -> None:
    """Also if who is trusted has signed it."""
    first = sharing(tmp_path, "first", keys)
    first.ensure("layers", VALUE, "the layer", fill)
    record = first.shared.get_record("layers", key_of(VALUE))
    assert record is not None
    other = {**VALUE, "packages": ["b"]}
    first.shared.put_record("layers", key_of(other), record)
    second = sharing(tmp_path, "second", keys)
    assert obtain(second, "layers", other, "the layer") is None
    assert "does not have the one entry" in warnings[0]
    assert obtain(second, "layers", VALUE, "the layer") is not None


def test_sources_come_from_the_store_too(tmp_path: Path, keys: Keys) -> None:
    first, second = (sharing(tmp_path, name, keys) for name in ("first", "second"))
    file = tmp_path / "source"
    file.write_bytes(b"tarball")
    digest = file_sha256(file)
    lend(first, digest, file)
    found = borrow(second, digest, tmp_path / "one", "source")
    assert found is not None
    assert found.sha256 == digest
    assert (tmp_path / "one").read_bytes() == b"tarball"
    # The digest of a checkout is none of its file: that one is signed.
    lend(first, KEY, file)
    found = borrow(second, KEY, tmp_path / "two", "source")
    assert found is not None
    assert found.sha256 == digest
    assert borrow(second, "3" * 64, tmp_path / "three", "source") is None
