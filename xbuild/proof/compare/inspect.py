"""diffoscope's word on files that differ, where it is installed."""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from xbuild.base import log, process
from xbuild.proof.compare.files import Difference
from xbuild.proof.compare.outcome import Pair, groups
from xbuild.proof.compare.verdict import Verdict

MOST = 20
"""How many pairs of files are given to diffoscope."""

_SECONDS = 60
_SECONDS_ALL = 300
_BYTES = 20_000
_LINES = 60

Key = tuple[tuple[str, str], str]
"""A pair of modes, and a path."""


def available() -> bool:
    """Whether diffoscope is installed."""
    return shutil.which("diffoscope") is not None


def chosen(pairs: Sequence[Pair]) -> list[tuple[Pair, Difference]]:
    """The differences to look at: of each group of like ones the first, then the second ..., at most `MOST`."""
    columns = []
    for pair in pairs:
        readable = [item for item in pair.differences if item.verdict is not Verdict.ONLY and item.contents]
        columns += [[(pair, item) for item in members] for _, members in groups(readable)]
    ordered = (item for line in itertools.zip_longest(*columns) for item in line if item is not None)
    return list(itertools.islice(ordered, MOST))


def inspect(top: Path, first: Path, second: Path) -> str:
    """diffoscope's text on two files below the directory `top`, limited in size and time."""
    command = ["timeout", "--kill-after=5", str(_SECONDS), "diffoscope", "--no-progress", "--text", "-"]
    command += ["--max-text-report-size", str(_BYTES), "--max-diff-block-lines", str(_LINES)]
    names = [first.relative_to(top), second.relative_to(top)]
    done = process.run([*command, *names], cwd=top, capture=True, check=False)
    text = done.stdout.decode(errors="replace")[:_BYTES]
    # diffoscope(1): 0 for no differences, 1 for differences; timeout(1): 124.
    if done.returncode not in (0, 1):
        ending = "took too long" if done.returncode in (124, 137) else process.describe_exit(done.returncode)
        text += f"\ndiffoscope: {ending}"
    return text


class Budget:
    """The time that all of diffoscope's runs together may take."""

    def __init__(self) -> None:
        self._end = time.monotonic() + _SECONDS_ALL

    def is_spent(self) -> bool:
        """Whether it is used up; said once to who reads the log."""
        spent = time.monotonic() > self._end
        if spent:
            log.info("diffoscope has used up its time; the other files are left out")
        return spent
