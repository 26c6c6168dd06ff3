"""Directories for a moment: each has its own, and none stays, however its maker ends."""

from __future__ import annotations

import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from xbuild.store.local import Store
from xbuild.store.moment import for_a_moment

KILLED = """
import os, signal, sys
from pathlib import Path
from xbuild.store.local import Store
from xbuild.store.moment import for_a_moment

with for_a_moment(Store(Path(sys.argv[1])), "some") as place:
    (place / "secret").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def left(store: Store) -> list[str]:
    return [path.name for path in (store.root / "tmp").iterdir()]


def test_each_has_its_own_and_it_goes(store: Store) -> None:
    with for_a_moment(store, "some") as first, for_a_moment(store, "some") as second:
        assert first != second
        assert {stat.S_IMODE(place.stat().st_mode) for place in (first, second)} == {0o700}
        (first / "file").touch()
        store.sweep()
        assert (first / "file").exists()
    with pytest.raises(KeyError), for_a_moment(store, "some"):
        raise KeyError
    assert left(store) == []
    # However often: locks are files that stay.
    assert len(list((store.root / "locks").glob("some-*"))) == 2


@pytest.mark.parametrize("swept", [True, False])
def test_what_a_killed_one_left_goes_with_the_next(store: Store, swept: bool) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(store.root)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(left(store)) == 1
    if swept:
        store.sweep()
    else:
        with for_a_moment(store, "some") as place:
            assert left(store) == [place.name]
    assert left(store) == []
