"""Measures builds of the same recipe against each other, in one run of each, and the cost of one exec."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from xbuild import log
from xbuild.build import Builder
from xbuild.environment import Mode, sandbox
from xbuild.paths import PRIVATE
from xbuild.plan import UNPACK
from xbuild.result import Options
from xbuild.sandbox.run import capture

TOTAL = "total"
_EXECS = 2000

# The same shell, the same program: once by the target's path, through the kernel and the dispatcher, once directly.
_LOOP = """
count() { i=0; while [ $i -lt "$1" ]; do "$2"; i=$((i + 1)); done; }
now() { date +%s%N; }
count 200 "$2"; count 200 "$3"
a=$(now); count "$1" "$2"; b=$(now); count "$1" "$3"; c=$(now)
echo "$(((b - a) / $1)) $(((c - b) / $1))"
"""


@dataclass(frozen=True)
class Run:
    """One build. seconds: by phase, and `total` of all phases."""

    recipe: str
    target: str
    mode: str
    seconds: dict[str, float]


def measure(recipe: str, target: str, mode: Mode, options: Options) -> Run:
    """Build `recipe` anew, from unpacking on; what the build needs is made before the clock runs."""
    builder = Builder(recipe, target, replace(options, mode=mode, start=UNPACK))
    result = builder.build()
    seconds = {name: time for name, time in result.phases if name not in (UNPACK, "check")}
    return Run(recipe, target, result.mode, {**seconds, TOTAL: sum(seconds.values())})


def compare(recipes: Sequence[str], targets: Sequence[str], *, emulated: bool, options: Options) -> list[Run]:
    """Build each recipe for each target, and if `emulated` each non-native target once more in that mode."""
    runs = []
    for recipe in recipes:
        for target in targets:
            runs.append(measure(recipe, target, "substituted", options))
            if emulated and runs[-1].mode != "native":
                runs.append(measure(recipe, target, "emulated", options))
    return runs


def rows(runs: Sequence[Run]) -> list[tuple[str, ...]]:
    """A table of `runs`: seconds, and the ratio to the same recipe's native build where there is one."""
    native = {run.recipe: run for run in runs if run.mode == "native"}
    found: list[tuple[str, ...]] = []
    for run in runs:
        base = native.get(run.recipe)
        for phase, seconds in run.seconds.items():
            ratio = f"{seconds / base.seconds[phase]:.2f}" if base and base.seconds.get(phase) else ""
            found.append((run.recipe, phase, run.target, run.mode, f"{seconds:.1f}", ratio))
    return found


def exec_cost(target: str, options: Options) -> tuple[float, float]:
    """Microseconds to start and wait for `true` through the dispatcher, and for the very same file directly."""
    builder = Builder("zlib", target, options)
    with builder.store.lock(builder.place.path.name, wait=False, describe=f"builds {builder.title}"):
        builder.place.make()
        where = sandbox(builder.root, builder.place, builder.variables(0), cwd="/")
        program = "/usr/bin/true"
        direct = f"{PRIVATE}/amd64{program}"
        returncode, said = capture(where, ["sh", "-euc", _LOOP, "sh", str(_EXECS), program, direct])
    match = re.search(rb"(\d+) (\d+)\s*$", said)
    if returncode != 0 or match is None:
        raise RuntimeError(f"the loop failed: {said.decode(errors='replace')}")
    log.detail(f"{_EXECS} execs each")
    return int(match[1]) / 1000, int(match[2]) / 1000
