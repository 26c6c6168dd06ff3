"""How many programs of a build may run at once, where a scheduler shares one budget of jobs out over many builds.

What knows GNU make's jobserver takes its jobs out of the build's named pipe by itself, job by job. For a phase of
anything else as many as can be had are taken out before it, and put back after it. Without a scheduler a build has the
jobs that its user has given it.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from xbuild.build.environment import JOBS_PIPE, assignments, phase_variables
from xbuild.build.plan import Step
from xbuild.build.subject import Subject
from xbuild.formats.debian import Tree
from xbuild.model.load import load_presets
from xbuild.model.policy import upstream
from xbuild.model.preset import Jobserver

VARIABLE = "XBUILD_JOBSERVER"
"""Names the pipe of a build, outside; whoever starts the build sets it."""
_MAKEFLAGS = "MAKEFLAGS"
_PATIENCE = 0.3
"""Seconds in which tokens are gathered for a phase: they come a few at a time."""
_LOOK = 0.05
# The number would begin another count of jobs, and make would say so.
_WITHOUT_NUMBER = """\
{program}() {{
  for _word do shift; [ "$_word" = "-j$JOBS" ] || set -- "$@" "$_word"; done
  command {program} "$@"
}}
"""


@dataclass(frozen=True)
class Granted:
    """What a phase may use. text: of its variables that are not exported. env: further ones that are.

    pipe: outside, that it is to see at JOBS_PIPE.
    """

    text: str
    env: Mapping[str, str] = field(default_factory=dict)
    pipe: Path | None = None


@contextlib.contextmanager
def granted(subject: Subject, step: Step, tree: Tree, env: Mapping[str, str]) -> Iterator[Granted]:
    """What `step` may use inside the block. tree: the root. env: what the step has as its environment."""
    named = os.environ.get(VARIABLE)
    if not named or step.phase is None:
        yield Granted(subject.assignments)
        return
    pipe, known = Path(named), _knows(subject, step, tree)
    if known is not None and _MAKEFLAGS not in env:
        flags = f"-j{subject.jobs} --jobserver-auth=fifo:{JOBS_PIPE}"
        yield Granted(subject.assignments + _WITHOUT_NUMBER.format(program=known.program), {_MAKEFLAGS: flags}, pipe)
    elif "JOBS" not in step.phase.script:
        yield Granted(_text(subject, 1))
    else:
        with reserved(pipe, subject.jobs - 1) as tokens:
            yield Granted(_text(subject, 1 + tokens))


def _text(subject: Subject, jobs: int) -> str:
    return assignments(phase_variables(subject.recipe, subject.toolchain, jobs))


def _knows(subject: Subject, step: Step, tree: Tree) -> Jobserver | None:
    """What takes its jobs from a pipe in this phase; None if it is not sure that all does."""
    preset = load_presets()[subject.recipe.build.preset]
    known, machine = preset.jobserver, subject.mode.whole
    # What a recipe says in the place of the preset may be anything; a machine sees no pipe.
    own = step.phase is None or step.phase.script != getattr(preset.phases, step.name, None)
    if known is None or step.name not in known.phases or own or machine:
        return None
    package = tree.packages.get(known.package)
    there = package is not None and _numbers(upstream(package.version)) >= _numbers(known.since)
    return known if there else None


def _numbers(version: str) -> list[int]:
    return [int(word) for word in re.findall(r"\d+", version)]


@contextlib.contextmanager
def reserved(pipe: Path, most: int) -> Iterator[int]:
    """Take up to `most` tokens out of the pipe, as many as there are in some _PATIENCE; they are put back at the end.

    Whoever kills us in between has to know that they are ours. Without the pipe there are none.
    """
    try:
        descriptor = os.open(pipe, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        yield 0
        return
    tokens, end = b"", time.monotonic() + _PATIENCE
    try:
        while len(tokens) < most:
            with contextlib.suppress(BlockingIOError):
                tokens += os.read(descriptor, most - len(tokens))
            if time.monotonic() >= end:
                break
            time.sleep(_LOOK)
        yield len(tokens)
    finally:
        with contextlib.suppress(OSError):
            os.write(descriptor, tokens)
        os.close(descriptor)
