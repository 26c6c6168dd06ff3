"""Shared stores from the command line: which ones, whose keys, what is pushed, what goes."""

import errno
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.unit.test_shared_store import KEY, OTHER, again, keys, make_keys, shared, warnings
from xbuild.base.errors import UsageError
from xbuild.store import carry
from xbuild.store.shared import NO_PUSH, VARIABLE, choose, opened, trust
from xbuild.store.shared.entries import SharingStore, lend, offer
from xbuild.store.shared.records import Record
from xbuild.store.shared.shared import Shared
from xbuild.store.shared.survey import collect, verified
from xbuild.store.shared.trust import Keys

__all__ = ["keys", "shared", "warnings"]


@pytest.mark.parametrize("binary", [False, True])
def test_keys_are_made_trusted_and_revoked(binary: bool, tmp_path: Path, shared: Shared) -> None:
    mine = Keys(tmp_path / "mine")
    trust.make(mine, "mine")
    with pytest.raises(UsageError, match="there is a key"):
        trust.make(mine, "mine")
    if binary:
        subprocess.run(["ssh-keygen", "-q", "-k", "-f", mine.revoked, "/dev/null"], check=True)
    public = shared.keys.key.with_suffix(".pub")
    trust.add(mine, public, "builder")
    trust.add(mine, public, "builder")
    assert [(one.name, one.revoked) for one in trust.listed(mine)] == [("mine", False), ("builder", False)]
    shared.put_record("roots", KEY, Record())
    assert again(shared, mine).get_record("roots", KEY) is not None
    assert [one.name for one in trust.revoke(mine, "builder")] == ["builder"]
    assert [(one.name, one.revoked) for one in trust.listed(mine)] == [("mine", False), ("builder", True)]
    assert again(shared, mine).get_record("roots", KEY) is None
    other = make_keys(tmp_path / "other", name="other")
    trust.add(mine, other.key.with_suffix(".pub"), "")
    trust.revoke(mine, str(other.key.with_suffix(".pub")))
    assert [one.revoked for one in trust.listed(mine)] == [False, True, True]
    with pytest.raises(UsageError, match="nobody is called 'nobody'"):
        trust.revoke(mine, "nobody")


def test_what_is_no_public_key_is_not_trusted(tmp_path: Path, keys: Keys) -> None:
    """Above all not the secret one."""
    for file in (keys.key, tmp_path / "none", keys.allowed):
        with pytest.raises(UsageError):
            trust.add(keys, file, "x")
    with pytest.raises(UsageError, match="cannot be the name"):
        trust.add(keys, keys.key.with_suffix(".pub"), "a b")


def test_without_a_key_or_with_a_spoilt_one_nothing_is_signed(tmp_path: Path, keys: Keys) -> None:
    with pytest.raises(UsageError, match="there is no key to sign by"):
        Keys(tmp_path / "none").signature("text")
    keys.key.with_suffix(".pub").write_text("spoilt\n")
    with pytest.raises(UsageError, match="this is no public key"):
        Keys(keys.folder).signature("text")


def test_the_command_line_names_stores_for_all_that_it_starts(
    tmp_path: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ((VARIABLE, f"{tmp_path}/a {tmp_path}/b"), (NO_PUSH, ""), ("XBUILD_STORE_KEYS", keys.folder)):
        monkeypatch.setenv(name, str(value))
    store = opened(tmp_path / "own", shutil.rmtree, lambda _: None)
    assert isinstance(store, SharingStore)
    assert [place.shown for place in store.shared.places] == [f"{tmp_path}/a", f"{tmp_path}/b"]
    assert store.shared.writes
    choose(f"{tmp_path}/c", push=False)
    store = opened(tmp_path / "own", shutil.rmtree, lambda _: None)
    assert isinstance(store, SharingStore)
    assert [place.shown for place in store.shared.places] == [f"{tmp_path}/c"]
    assert not store.shared.writes
    monkeypatch.setenv(VARIABLE, "")
    assert not isinstance(opened(tmp_path / "own", shutil.rmtree, lambda _: None), SharingStore)


def test_what_cannot_be_pushed_is_a_warning(
    tmp_path: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch, warnings: list[str]
) -> None:
    """The build is well: a full disk, or a key that cannot sign, is no fault of it."""
    store = SharingStore(tmp_path / "own", shutil.rmtree, None, Shared([str(tmp_path / "shared")], keys))
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(carry, "write", lambda *_: (_ for _ in ()).throw(full))
    offer(store, "roots", KEY)
    assert "disk full" in warnings[0]
    keys.key.write_text("no key")
    (tmp_path / "source").write_text("x")
    lend(store, KEY, tmp_path / "source")
    assert "cannot sign" in warnings[1]


def test_gc_keeps_what_is_new_and_what_is_named(shared: Shared, tmp_path: Path) -> None:
    (place,) = shared.places
    blobs = []
    for number, key in enumerate((KEY, OTHER)):
        file = tmp_path / str(number)
        file.write_bytes(bytes([number]) * 1000)
        blobs.append(shared.put_blob(file))
        shared.put_record("roots", key, Record({"entry": blobs[-1]}))
    loose = tmp_path / "loose"
    loose.write_bytes(b"x" * 10)
    young = shared.put_blob(loose)
    assert collect(place, shared.keys, days=1).names == ()
    dry = collect(place, shared.keys, size=1000, dry=True)
    assert (len(dry.names), dry.freed, dry.left) == (2, 1000, 1010)
    assert all(shared.has_blob(blob) for blob in blobs)
    collect(place, shared.keys, size=1000)
    assert [shared.has_blob(blob) for blob in blobs].count(True) == 1
    old = time.time() - 2 * 86400
    os.utime(tmp_path / "store" / young.name, (old, old))
    assert collect(place, shared.keys, size=1000).names == (young.name,)
    assert [one.fault for one in verified(place, shared.keys)] == [""]
