"""Looks whether twins could not go on in the middle of their work, whatever became of the command that started them."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from xbuild.base.errors import LateError
from xbuild.formats import record


def require_nothing_late(file: Path, where: str, phase: str = "", *, way: str | None = None) -> None:
    """Raise LateError if the record in `file` tells of such a twin: a script may have taken its end for an answer.

    where: at the beginning of the message. phase: of the build, if it is one. way: the hint, with `{}` for their names.
    """
    if late := record.Marks(file).programs():
        error = LateError(
            f"{where}: {', '.join(sorted(late))} asked for a library that is only there for the target, and had done "
            "something already",
            hint=None if way is None else way.format(",".join(sorted(PurePosixPath(path).name for path in late))),
        )
        error.programs, error.phase = late, phase
        raise error
