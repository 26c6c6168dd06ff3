"""Clusters and a shared store that does not answer for a while, in the middle of what is packed or fetched."""

import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.test_shared_store import BLOB, keys, shared, warnings
from xbuild.base.errors import MachineError
from xbuild.cluster import parcels
from xbuild.store.shared.records import Blob
from xbuild.store.shared.shared import Shared, SharedError

__all__ = ["keys", "shared", "warnings"]

pytestmark = [
    pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="there is no ssh-keygen"),
    pytest.mark.skipif(os.geteuid() == 0, reason="root reads what nobody may read"),
]


@pytest.fixture
def closed(shared: Shared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Blob, Callable[[], None]]:
    """A store that nobody may read: a blob of it, and what opens it again."""
    monkeypatch.setattr(parcels, "REST", 0.2)
    shared.rest = 0.2
    (tmp_path / "in").write_bytes(b"abc")
    blob = shared.put_blob(tmp_path / "in")
    (tmp_path / "store").chmod(0)
    return blob, lambda: (tmp_path / "store").chmod(0o700)


def fetch(shared: Shared, blob: Blob, to: Path) -> Callable[[], str]:
    def work() -> str:
        if not shared.get_blob(blob, to):
            raise MachineError("it is not there")
        return to.read_text()

    return work


def test_a_store_that_comes_back_is_waited_for(
    shared: Shared, closed: tuple[Blob, Callable[[], None]], tmp_path: Path, warnings: list[str]
) -> None:
    blob, reopen = closed
    timer = threading.Timer(1.0, reopen)
    timer.start()
    assert parcels.patiently(shared, fetch(shared, blob, tmp_path / "out")) == "abc"
    timer.join()
    (told,) = warnings
    assert "Permission denied" in told
    (tmp_path / "in").write_bytes(b"more")
    assert shared.put_blob(tmp_path / "in").size == 4


def test_one_that_does_not_is_told(
    shared: Shared, closed: tuple[Blob, Callable[[], None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parcels, "PATIENCE", 0.5)
    with pytest.raises(MachineError, match=r"did not answer for .*Permission denied") as told:
        parcels.patiently(shared, fetch(shared, closed[0], tmp_path / "out"))
    assert told.value.details == ("it is not there",)
    # While it rests, it is said what is wrong, and not that there is none.
    for said in ("Permission denied", "did not answer earlier"):
        time.sleep(0.25 if said.startswith("P") else 0)
        with pytest.raises(SharedError, match=said):
            shared.put_blob(tmp_path / "in")
    closed[1]()


def test_what_a_store_does_not_have_is_not_waited_for(shared: Shared, tmp_path: Path) -> None:
    shared.rest = 0.2
    began = time.monotonic()
    with pytest.raises(MachineError, match="it is not there"):
        parcels.patiently(shared, fetch(shared, BLOB, tmp_path / "out"))
    assert time.monotonic() - began < parcels.REST


def test_nobody_waits_for_what_nobody_wants(
    shared: Shared, closed: tuple[Blob, Callable[[], None]], tmp_path: Path
) -> None:
    with pytest.raises(parcels.CancelledError):
        parcels.patiently(shared, fetch(shared, closed[0], tmp_path / "out"), lambda: True)
    closed[1]()
