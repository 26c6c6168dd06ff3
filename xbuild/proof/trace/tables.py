"""A trace for people: rows of tables."""

from __future__ import annotations

import math
from collections.abc import Sequence

from xbuild.proof.trace import Trace
from xbuild.proof.trace.account import Sum, Use
from xbuild.proof.trace.advice import Advice

PHASES = ("phase", "", "native", "emulated", "CPU s", "emulated s", "±", "share", "unseen")
PROGRAMS = ("program", "native", "emulated", "why", "native s", "emulated s", "±")
POSSIBLE = ("gain s", "programs", "packages", "reason", "what to do")
IMPOSSIBLE = ("CPU s", "programs", "reason")

_NAMES = 4
"""Programs that a row of advice names."""


def phase_rows(trace: Trace) -> list[Sequence[str]]:
    """Execs and CPU seconds of the phases, and of all together."""
    rows = [
        _sum_row(phase.name, "" if phase.status == "done" else phase.status, known)
        for phase, known in zip(trace.phases, trace.sums, strict=True)
    ]
    return [*rows, _sum_row("total", "", trace.total)] if len(rows) != 1 else rows


def program_rows(trace: Trace, top: int) -> list[Sequence[str]]:
    """The `top` programs that cost most, and the rest as one."""
    rows = [_program_row(trace, native, emulated) for native, emulated in trace.programs[:top]]
    if rest := trace.programs[top:]:
        native, emulated = Use("", True), Use("", False)
        for one, other in rest:
            native.add(one)
            emulated.add(other)
        name = f"{len(rest)} more"
        rows.append((name, *_program_row(trace, native, emulated)[1:]))
    return rows


def possible_rows(trace: Trace, top: int) -> list[Sequence[str]]:
    """Advice that somebody can follow."""
    chosen = [advice for advice in trace.advice if advice.possible]
    return [
        (_seconds(advice.gain), _names(advice), " ".join(sorted(advice.packages)), advice.explanation.reason,
         advice.explanation.remedy or "")
        for advice in chosen[:top]
    ]  # fmt: skip


def impossible_rows(trace: Trace, top: int) -> list[Sequence[str]]:
    """What has to run emulated."""
    chosen = [advice for advice in trace.advice if not advice.possible]
    return [(_seconds(advice.seconds), _names(advice), advice.explanation.reason) for advice in chosen[:top]]


def notes(trace: Trace) -> list[str]:
    """How to read the tables."""
    interval = next((phase.cpu.interval for phase in trace.phases if phase.cpu), None)
    if interval is None:
        return []
    lines = [
        "",
        f"Execs and the totals of CPU seconds are exact. Who used them was looked at every {1000 * interval:.0f} ms; "
        f"whose the {_seconds(trace.total.hidden)} s were that no look has seen is estimated (±: standard error).",
    ]
    other = sum(phase.cpu.unrecorded for phase in trace.phases if phase.cpu)
    if other > interval:
        lines.append(f"Processes beside the build, such as distccd, used at least {_seconds(other)} s more.")
    return lines


def _sum_row(name: str, status: str, known: Sum) -> Sequence[str]:
    execs = (str(known.native_execs), str(known.emulated_execs))
    seconds = [None, None] if known.total is None else [known.emulated, known.error]
    shares = (known.share(known.emulated), known.share(known.hidden))
    return (name, status, *execs, _seconds(known.total), *map(_seconds, seconds), *map(_share, shares))


def _program_row(trace: Trace, native: Use, emulated: Use) -> Sequence[str]:
    why = ", ".join(f"{word} {count}" for word, count in trace.reasons(emulated).items())
    known = any(phase.cpu for phase in trace.phases)
    seconds = [_seconds(use.seconds if known else None) for use in (native, emulated)]
    error = math.hypot(native.error, emulated.error) if known else None
    return (native.name, str(native.execs), str(emulated.execs), why, *seconds, _seconds(error))


def _names(advice: Advice) -> str:
    names = [advice.files[name] for name, _ in advice.programs.most_common()]
    more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    return " ".join(names[:_NAMES]) + more


def _seconds(value: float | None) -> str:
    return "?" if value is None else f"{value:.2f}"


def _share(value: float | None) -> str:
    return "?" if value is None else f"{100 * value:.0f} %"
