"""What came of a run: for programs, and as the error that it ends with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xbuild.base.errors import (
    EXIT_BUG,
    EXIT_CHECK,
    EXIT_INTERRUPTED,
    EXIT_MACHINE,
    EXIT_PHASE,
    EXIT_USAGE,
    CheckError,
    MachineError,
    PhaseError,
    UsageError,
    XbuildError,
)
from xbuild.graph.display import log_of
from xbuild.graph.run import Ended
from xbuild.graph.scheduler import State

_KINDS: dict[int, type[XbuildError]] = {
    EXIT_USAGE: UsageError, EXIT_PHASE: PhaseError, EXIT_MACHINE: MachineError, EXIT_CHECK: CheckError,
}  # fmt: skip
_OF_COMMAND = ("schema", "exit_code", "status", "warnings")
"""Fields of a command's object that are the whole's here."""


def as_json(ended: Ended) -> dict[str, Any]:
    """One command's object, with what the run knows of it."""
    own = {name: value for name, value in ended.value.items() if name not in _OF_COMMAND}
    return {
        "error": None,
        **own,
        "title": ended.order.title,
        "status": ended.status,
        "reason": ended.reason,
        "because": ended.because or None,
        "began": None if ended.began is None else round(ended.began, 3),
        "seconds": round(ended.seconds, 3),
        "memory": ended.memory or None,
        "log": str(log_of(ended)) if log_of(ended) else None,
        "worker": ended.where or None,
    }


def fault(all_ended: Sequence[Ended], what: str) -> XbuildError | None:
    """The error of a run in which something failed: of the kind, and with the exit code, of what failed first."""
    failed = [ended for ended in all_ended if ended.state is State.FAILED]
    if not failed:
        return None
    failed.sort(key=lambda ended: (ended.began or 0.0) + ended.seconds)
    first = failed[0]
    details = [line for ended in failed for line in _lines(ended)]
    left = [ended for ended in all_ended if ended.state in (State.SKIPPED, State.WAITING)]
    if left:
        details += ["", f"not done: {', '.join(ended.order.title for ended in left)}"]
    message = f"{len(failed)} of {len(all_ended)} {what} failed: {', '.join(ended.order.title for ended in failed)}"
    hint = (first.value.get("error") or {}).get("hint")
    code = EXIT_BUG if first.code < 0 else first.code
    error = _KINDS.get(code, XbuildError)(message, details=details, hint=hint)
    error.exit_code = code if code != EXIT_INTERRUPTED else EXIT_MACHINE
    if isinstance(error, PhaseError):
        error.log = log_of(first)
    return error


def _lines(ended: Ended) -> list[str]:
    error = ended.value.get("error") or {}
    return [f"{ended.order.title}: {error.get('message', ended.status)}", f"  log: {log_of(ended)}"]
