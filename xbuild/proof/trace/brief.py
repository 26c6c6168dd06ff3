"""What ran emulated in a build, in a line."""

from __future__ import annotations

from pathlib import Path

from xbuild.base.text import human_time
from xbuild.build.stepfiles import recorded
from xbuild.formats.record import read
from xbuild.proof.trace.account import account, file_name, merge, read_cpu, sum_up

_NAMED = 3
"""How many programs are named."""
_LEAST = 0.05
"""Share of CPU time from which it is worth a word, 0 to 1."""


def emulated_line(records: Path) -> str:
    """Which programs took most of the time under the emulator; "" if they took next to nothing, or nobody knows."""
    steps = [(read(records / step.record).counts, read_cpu(records / step.accounts)) for step in recorded(records)]
    uses = merge(use for counts, cpu in steps for use in account(counts, cpu))
    known = sum_up(uses, [cpu for _, cpu in steps])
    share = known.share(known.emulated)
    if share is None or share < _LEAST:
        return ""
    slow = sorted((use for use in uses if not use.native), key=lambda use: -use.seconds)[:_NAMED]
    names = ", ".join(f"{_name(use.name)} {human_time(use.seconds)}" for use in slow if use.seconds > 0)
    execs = known.native_execs + known.emulated_execs
    return (
        f"emulated: {known.emulated_execs} of {execs} programs, {human_time(known.emulated)} of CPU "
        f"({100 * share:.0f} %), most of it {names}"
    )


def _name(name: str) -> str:
    return file_name(name) if name.startswith("/") else name
