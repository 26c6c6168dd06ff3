"""Looks at what runs meanwhile: passes on what a log says, and tells from time to time that something still runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from xbuild.base.activity import Activity, shown

_APART = 0.2
"""Seconds between two looks at a log."""
BEAT = 60.0
"""Seconds between two signs of life where there is no terminal: some CI end what is silent for long."""
_PIECE = 1 << 16


class Follower:
    """Follows `activity` inside a `with` block, from a thread of its own.

    line: gets each line of its log, without its end; None: nobody wants them. alive: gets a sign of life now and then.
    """

    def __init__(
        self, activity: Activity, line: Callable[[str], None] | None, alive: Callable[[str], None] | None
    ) -> None:
        self._activity = activity
        self._line = line if activity.file is not None else None
        self._alive = alive
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Follower:
        if self._line or self._alive:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        log, told = _Log(self._activity.file), time.monotonic()
        while not self._ended.wait(_APART if self._line else BEAT):
            if self._line:
                log.pass_on(self._line)
            if self._alive and time.monotonic() - told >= BEAT:
                told = time.monotonic()
                self._alive(self._activity.now()[0])
        if self._line:
            log.pass_on(self._line, whole=True)


class _Log:
    """A log that grows, read line by line."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._place = 0
        self._rest = b""

    def pass_on(self, line: Callable[[str], None], *, whole: bool = False) -> None:
        """Give the lines that have come. whole: also one that has no end yet, for nothing more comes."""
        while piece := self._read():
            *lines, self._rest = (self._rest + piece).split(b"\n")
            for text in lines:
                line(shown(text.decode(errors="replace")))
            # A line without an end must not fill the memory.
            self._rest = self._rest[-_PIECE:]
        if whole and self._rest:
            line(shown(self._rest.decode(errors="replace")))

    def _read(self) -> bytes:
        try:
            assert self._file is not None
            with self._file.open("rb") as stream:
                stream.seek(self._place)
                piece = stream.read(_PIECE)
        except OSError:
            return b""
        self._place += len(piece)
        return piece
