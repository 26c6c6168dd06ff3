"""Directories for a moment, which are gone in the end also if their maker is killed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from xbuild.base.errors import MachineError
from xbuild.store.local import Store, writing_below

_MOST = 256
"""So many of one kind at once."""


@contextlib.contextmanager
def for_a_moment(store: Store, kind: str) -> Iterator[Path]:
    """A closed directory below the store's `tmp/`, removed with the block.

    kind: a word, for its lock. What a killed process has left of this kind is removed by the next one, or by `sweep`.
    """
    with contextlib.ExitStack() as stack:
        name = _claimed(store, kind, stack)
        store.discard_scratch_of(name)
        path = store.scratch(name)
        stack.callback(store.discard, path)
        with writing_below(store.root):
            path.mkdir(mode=0o700)
        yield path


def _claimed(store: Store, kind: str, stack: contextlib.ExitStack) -> str:
    """The first name of `kind` that nobody has. Locks stay as files, so there are no more than are held at once."""
    for number in range(_MOST):
        name = f"{kind}-{number}"
        try:
            stack.enter_context(store.lock(name, wait=False))
        except MachineError:
            if number + 1 == _MOST:
                raise
        else:
            return name
    raise AssertionError
