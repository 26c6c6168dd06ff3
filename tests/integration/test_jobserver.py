"""make's jobserver across the border: native and emulated makes start each other, and N jobs run at once, no more.

A make that has no twin is a copy of the root's own. Every job registers itself and counts who else is there; none ends
before N were there together, so a busy machine makes the test slow, not wrong.
"""

from __future__ import annotations

import pytest

from tests.integration.conftest import Target

pytestmark = pytest.mark.integration

NATIVE = "/usr/bin/make"
EMULATED = "/tmp/make"

# Its argument: how many have to be there together before the first one ends. Patience: 1200 looks, some 60 s.
JOB = """#!/bin/sh
cd /tmp/jobs
wanted=$1
look() { set -- running/*; echo $# >> counts; [ $# -lt $wanted ] || : > reached; }
mkdir running/$$
looks=0
until look; [ -e reached ]; do
  looks=$((looks + 1))
  [ $looks -lt 1200 ] || : > reached
  sleep 0.05
done
sleep 0.1
look
rmdir running/$$
"""

# CHAIN: the makes still to come. Jobs beside the makes of the next level, of which make is told by $(MAKE) or by `+`.
MAKEFILE = """
MAKE := $(firstword $(CHAIN))
NEXT := $(MORE) -f /tmp/makefile CHAIN="$(wordlist 2,9,$(CHAIN))"
JOBS := one two three four
all: $(if $(CHAIN),$(HOW)) $(JOBS) marked
$(JOBS): ; @/tmp/job $(WANTED)
marked: ; +@/tmp/job $(WANTED)
by-name: ; @$(MAKE) $(NEXT)
by-mark: ; +@$(firstword $(CHAIN)) $(NEXT)
not-told: ; @$(firstword $(CHAIN)) $(NEXT)
.PHONY: all $(JOBS) marked by-name by-mark not-told
"""

SCRIPT = f"""
cp {NATIVE} {EMULATED}
printf %s "$JOB" > /tmp/job
printf %s "$MAKEFILE" > /tmp/makefile
chmod 755 /tmp/job
mkdir -p /tmp/jobs/running
"$@" 2>&1
sort -n /tmp/jobs/counts | tail -n 1
"""


def at_once(target: Target, makes: tuple[str, ...], jobs: int, *words: str, wanted: int = 0) -> tuple[int, str]:
    """How many jobs `makes`, each of which starts the next, run at once under `-j JOBS`; and what they said.

    wanted: how many the jobs wait for, if not `jobs`.
    """
    first, *others = makes
    command = (first, f"-j{jobs}", "--no-print-directory", "-f", "/tmp/makefile", f"CHAIN={' '.join(others)}")
    variables = ("HOW=by-name by-mark", *words, f"WANTED={wanted or jobs}")
    env = {"JOB": JOB, "MAKEFILE": MAKEFILE}
    *said, most = target.says("sh", "-euc", SCRIPT, "sh", *command, *variables, env=env).splitlines()
    return int(most), "\n".join(said)


def makes_that_ran(target: Target) -> dict[str, int]:
    """How often make ran natively and how often emulated."""
    execs = [(known.path, known.native) for known in target.execs()]
    return {NATIVE: execs.count((NATIVE, True)), EMULATED: execs.count((EMULATED, False))}


@pytest.mark.parametrize("style", ["pipe", "fifo"])
@pytest.mark.parametrize(
    ("makes", "jobs"),
    [
        ((NATIVE, EMULATED), 2),
        ((NATIVE, EMULATED), 3),
        ((NATIVE, EMULATED), 4),
        ((EMULATED, NATIVE), 2),
        ((EMULATED, NATIVE), 3),
        ((EMULATED, NATIVE), 4),
        ((NATIVE, NATIVE), 3),
        ((EMULATED, EMULATED), 3),
        ((NATIVE, EMULATED, NATIVE), 3),
        ((EMULATED, NATIVE, EMULATED), 3),
    ],
    ids=lambda value: "-".join("native" if make == NATIVE else "emulated" for make in value)
    if isinstance(value, tuple)
    else str(value),
)
def test_jobs_are_kept(target: Target, makes: tuple[str, ...], jobs: int, style: str) -> None:
    most, said = at_once(target, makes, jobs, f"--jobserver-style={style}")
    assert said == ""
    assert most == jobs
    # Each level has two of the next one.
    expected = {NATIVE: 0, EMULATED: 0}
    for level, make in enumerate(makes):
        expected[make] += 2**level
    assert makes_that_ran(target) == expected


@pytest.mark.parametrize(("outer", "inner"), [(NATIVE, EMULATED), (EMULATED, NATIVE)])
def test_jobs_beyond_the_limit_are_seen(target: Target, outer: str, inner: str) -> None:
    most, said = at_once(target, (outer, inner), 2, "MORE=-j3", wanted=5)
    assert most > 2
    assert "resetting jobserver mode" in said


@pytest.mark.parametrize(("outer", "inner"), [(NATIVE, EMULATED), (EMULATED, NATIVE)])
def test_a_lost_jobserver_is_seen(target: Target, outer: str, inner: str) -> None:
    _, said = at_once(target, (outer, inner), 2, "--jobserver-style=pipe", "HOW=not-told")
    assert "jobserver unavailable" in said
