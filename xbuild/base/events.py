"""What happens, as lines of JSON in a file of the user's: for programs that watch a command.

Each line is one object with `schema`, `time` (seconds since 1970) and `event`, and what docs/schema/events.json says
of that kind.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from xbuild.base.errors import EXIT_INTERRUPTED, UsageError, XbuildError

SCHEMA = 1
"""The version of all objects for programs. It grows when a field goes or changes its meaning, not when one is added."""


class Events:
    """A file that lines are added to; whoever reads it finds whole lines. lost: told once, when it takes no more."""

    def __init__(self, path: Path, lost: Callable[[str], None]) -> None:
        """Raises UsageError if it cannot be written."""
        try:
            # Not buffered: a line is one write, at the end of the file, whoever else writes there.
            self._file: IO[bytes] | None = path.open("ab", buffering=0)
        except OSError as error:
            raise UsageError(f"--events {path}: {error.strerror}", hint="name a file that can be written") from error
        self._lost = lost

    def write(self, event: str, **facts: Any) -> None:
        """Add a line; once that has failed, the work goes on without."""
        if self._file is None:
            return
        line = {"schema": SCHEMA, "time": round(time.time(), 3), "event": event, **facts}
        try:
            self._file.write(json.dumps(line).encode() + b"\n")
        except OSError as error:
            file, self._file = self._file, None
            file.close()
            self._lost(f"--events: no more is written, for {error.strerror}")

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


_open: list[Events] = []
"""The file that there is, if any: set by `events_to`, as there is one command."""


@contextlib.contextmanager
def events_to(path: Path | None, lost: Callable[[str], None]) -> Iterator[None]:
    """Inside the block what happens is also written to the file, as lines of JSON; None: nowhere. lost: as of `Events`.

    Raises UsageError if it cannot be written.
    """
    events = Events(path, lost) if path is not None else None
    _open[:] = [events] if events else []
    try:
        yield
    finally:
        _open.clear()
        if events is not None:
            events.close()


def emit(event: str, **facts: Any) -> None:
    """Write an event, if somebody wants it."""
    for events in _open:
        events.write(event, **facts)


def conclusion(
    code: int, fault: XbuildError | None, value: Mapping[str, Any], warnings: Sequence[str]
) -> dict[str, Any]:
    """What a command gives to programs at its end: `value` with `schema`, `exit_code`, `error`, `warnings`, `status`.

    status: "ok" or the value's own; "failed" or "interrupted".
    """
    status = {0: "ok", EXIT_INTERRUPTED: "interrupted"}.get(code, "failed")
    whole = {"warnings": list(warnings), "status": status, **value}
    whole |= {"schema": SCHEMA, "exit_code": code, "error": fault.as_json() if fault else None}
    return whole | ({"status": status} if fault or code == EXIT_INTERRUPTED else {})
