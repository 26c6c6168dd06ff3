"""What is known of earlier runs of a command: how long it took and how much memory it needed, in the store."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from xbuild.base.digest import key_of, read_sealed, sealed
from xbuild.base.text import one_line
from xbuild.graph.run import Ended
from xbuild.graph.scheduler import State
from xbuild.store.local import Store

RUNS = "runs"
"""The directory of the store with the logs of runs, and what is known of commands."""
_KEPT = 10
"""Runs whose logs stay."""
_HISTORY = "history"


@dataclass(frozen=True)
class Past:
    """The last time that it was done. memory: bytes, at most."""

    seconds: float | None = None
    memory: int | None = None


def past(store: Store, what: str, title: str) -> Past:
    """Of the command with this title among `what` (`builds`); nothing if it never ran, or if that file is damaged."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        value = read_sealed(_file(store, what, title))
        return Past(float(value["seconds"]), int(value["memory"]) or None)
    return Past()


def remember(store: Store, what: str, ended: Ended) -> None:
    """Write down what `ended` took, if it ran to a good end; who watches misses it if that cannot be written."""
    if ended.state is not State.DONE or ended.log is None:
        return
    file = _file(store, what, ended.order.title)
    with contextlib.suppress(OSError):
        file.parent.mkdir(mode=0o700, exist_ok=True)
        beside = file.with_suffix(f".{time.monotonic_ns()}")
        beside.write_text(sealed({"seconds": round(ended.seconds, 3), "memory": ended.memory}))
        beside.replace(file)


def _file(store: Store, what: str, title: str) -> Path:
    return store.root / RUNS / _HISTORY / f"{key_of([what, one_line(title)])[:20]}.json"


@contextlib.contextmanager
def place_of_run(store: Store) -> Iterator[Path]:
    """A directory for the logs of a run; those of older ones go, but for the last _KEPT."""
    folder = store.directory(RUNS)
    known = sorted(path.name for path in folder.iterdir() if path.name != _HISTORY)
    for name in known[: max(0, len(known) - _KEPT + 1)]:
        # Unless it still runs.
        store.clear_one(RUNS, name)
    # Sorted by their age.
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{time.monotonic_ns() % 10**6:06}"
    with store.lock(f"{RUNS}-{name}", describe="runs many builds"):
        (folder / name).mkdir(mode=0o700)
        yield folder / name
