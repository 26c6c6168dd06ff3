"""What twins leave behind in a session that could not go on: there is no phase to begin again, so the user is told."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from xbuild.base.process import InVain, never
from xbuild.build.late import require_nothing_late
from xbuild.formats.record import Marks
from xbuild.sandbox import idmap
from xbuild.store.local import Store


def late(recorded: Path | None) -> InVain:
    """Whether a twin could not go on, as the file of `watched` tells: then the session's end may never come."""
    return Marks(recorded).programs if recorded else never


@contextlib.contextmanager
def watched(store: Store, *, there: bool) -> Iterator[Path | None]:
    """A file for what twins, or all that runs, are to write down, gone after the block; None if not `there`.

    Raises LateError at the end of the block if a twin could not go on, whatever who started it has made of it.
    """
    if not there:
        yield None
        return
    with store.lock("trace", shared=True, describe="traces a program"):
        path = store.scratch("trace")
        path.touch()
        # Whoever they are inside; the store is closed to all others.
        path.chmod(0o666)
        idmap.own(path)
        try:
            yield path
            require_nothing_late(path, "in this session", way="the same once more with  --emulate {}")
        finally:
            path.unlink(missing_ok=True)
