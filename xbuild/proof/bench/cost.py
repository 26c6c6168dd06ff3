"""What one exec through the kernel and the dispatcher costs."""

from __future__ import annotations

import re

from xbuild.base import log, paths
from xbuild.build.environment import sandbox
from xbuild.build.ground import furnish, lay
from xbuild.build.request import Request
from xbuild.build.subject import read
from xbuild.model.native import here
from xbuild.sandbox.run import capture

_EXECS = 2000
_FIRST = 200
_PROGRAM = "/usr/bin/true"

# The same shell, the same program: once by the target's path, through the kernel and the dispatcher, once directly.
_LOOP = """
count() { i=0; while [ $i -lt "$1" ]; do "$2"; i=$((i + 1)); done; }
now() { date +%s%N; }
count "$4" "$2"; count "$4" "$3"
a=$(now); count "$1" "$2"; b=$(now); count "$1" "$3"; c=$(now)
echo "$(((b - a) / $1)) $(((c - b) / $1))"
"""


def exec_cost(target: str, suite: str | None) -> tuple[float, float]:
    """Microseconds to start and wait for `true` through the dispatcher, and for the very same file directly."""
    subject = read(Request(str(paths.PACKAGE / "bare.yml"), target, suite=suite))
    with subject.store.lock(subject.place.path.name, wait=False, describe=f"builds {subject.title}"):
        fresh = not subject.place.path.exists()
        subject.place.make()
        where = sandbox(furnish(subject, lay(subject), subject.place), subject.place, subject.variables(0), cwd="/")
        direct = f"{paths.PRIVATE}/{here().name}{_PROGRAM}"
        words = ["sh", "-euc", _LOOP, "sh", str(_EXECS), _PROGRAM, direct, str(_FIRST)]
        returncode, said = capture(where, words)
        if fresh:
            subject.store.discard(subject.place.path)
    match = re.search(rb"(\d+) (\d+)\s*$", said)
    if returncode != 0 or match is None:
        raise RuntimeError(f"the loop failed: {said.decode(errors='replace')}")
    log.detail(f"{_EXECS} execs each")
    return int(match[1]) / 1000, int(match[2]) / 1000
