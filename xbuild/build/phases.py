"""Runs the steps of a build in its sandbox, with a log each, and remembers what was done."""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from xbuild.base import log, process
from xbuild.base.digest import read_sealed, sealed
from xbuild.base.errors import MachineError, PhaseError
from xbuild.base.paths import BUILD, callers_umask
from xbuild.build.environment import VARIABLES, Job, Root, WorkPlace, capture, describe, run_logged
from xbuild.build.plan import Done, Step, directory_of
from xbuild.build.stepfiles import StepFiles
from xbuild.model.recipe import Recipe
from xbuild.store.local import writing_below

INSTALL = "install"
"""The phase that begins with an empty install directory."""
_TAIL = 20
_MOST = 200_000
_LONGEST = 1000
"""Characters of a line that are shown and searched: some tools write a megabyte without a newline."""

_HINTS: tuple[tuple[str, str], ...] = (
    (r"No space left on device", "the disk is full; `invoke clean` frees what the store can make again"),
    (
        r"fatal error: (\S+): No such file",
        "header {0} is missing: put the package that has it into depends.packages",
    ),
    (r"(?:/bin/ld|ld): cannot find -l([^\s:]+)", "library {0} is missing: put its -dev package into depends.packages"),
    (
        r"No rule to make target '(install)'",
        "the Makefile does not say what to {0}: write a recipe with build.install (`invoke init` begins one)",
    ),
    (r"(?<!\S)(\S+): (?:command )?not found", "program {0} is missing: put its package into depends.packages"),
    # make's own word, of a line that it runs without a shell.
    (r"^make(?:\[\d+\])?: (\S+): No such file", "program {0} is missing: put its package into depends.packages"),
    (
        r"virtual memory exhausted|[Cc]annot allocate memory|std::bad_alloc|Killed signal terminated program",
        "there is not enough memory: build with --jobs 1, or end other programs",
    ),
    (
        r"Could not resolve|Temporary failure in name resolution|Network is unreachable",
        "a phase has no network; only `build.fetch` has",
    ),
    (r"wrong ELF class|cannot execute binary file", "try the same with --mode emulated; if that works, report it"),
)


_BEGUN = "begun"


@dataclass(frozen=True)
class StepRecord:
    """What the state file says about a step. status: as in `Done`. seconds: how long it took."""

    name: str
    key: str
    status: str
    seconds: float


class Progress:
    """The state file of a work place."""

    def __init__(self, place: WorkPlace) -> None:
        self._place = place
        self.records: list[StepRecord] = []
        self.epoch = 0
        self.resumed = False
        if place.strange:
            return
        try:
            value = read_sealed(place.state)
            self.records = [StepRecord(**record) for record in value["records"]]
            self.epoch, self.resumed = int(value["epoch"]), bool(value["resumed"])
        except (OSError, ValueError, KeyError, TypeError):
            # Absent, damaged, or another version's: then nothing was done.
            self.records = []

    def done(self) -> tuple[Done, ...]:
        """The records as the plan wants them."""
        return tuple(Done(record.name, record.key, record.status) for record in self.records)

    def start_at(self, number: int) -> None:
        """Forget the steps from `number` on: they run now."""
        self.resumed = number > 0
        self.records = self.records[:number]
        self.save()

    @contextmanager
    def going_back_to(self, step: str) -> Iterator[None]:
        """In the block what `step` has made is changed: who is stopped there, or fails, has `step` done once more."""
        records, names = self.records, [record.name for record in self.records]
        self.records = records[: names.index(step)] if step in names else []
        self.save()
        yield
        self.records = records
        self.save()

    @property
    def cut(self) -> bool:
        """Whether a step was begun, and nobody saw its end."""
        return any(record.status == _BEGUN for record in self.records)

    def cut_in(self, steps: Iterable[Step]) -> bool:
        """Whether it was one of these, with the same inputs."""
        keys = {step.key for step in steps}
        return any(record.status == _BEGUN and record.key in keys for record in self.records)

    def begin(self, step: Step) -> None:
        """Note that a step begins, which changes the trees as it goes."""
        self.add(step, _BEGUN, 0)

    def add(self, step: Step, status: str, seconds: float) -> None:
        """Note the end of a step."""
        self.records = [record for record in self.records if record.status != _BEGUN]
        self.records.append(StepRecord(step.name, step.key, status, round(seconds, 3)))
        self.save()

    def save(self) -> None:
        """Write the state file, whole or not at all."""
        value = {
            "records": [asdict(record) for record in self.records],
            "epoch": self.epoch,
            "resumed": self.resumed,
        }
        beside = self._place.state.with_suffix(".new")
        beside.write_text(sealed(value))
        beside.replace(self._place.state)


def last_lines(file: Path) -> list[str]:
    """The last lines of a log, without colours; of a long one the beginning and the end."""
    with file.open("rb") as stream:
        stream.seek(max(0, file.stat().st_size - _MOST))
        text = stream.read().decode(errors="replace")
    return [_shortened(line) for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()[-_TAIL:]]


def _shortened(line: str) -> str:
    half = _LONGEST // 2
    return line if len(line) <= _LONGEST else f"{line[:half]} [{len(line) - 2 * half} more characters] {line[-half:]}"


def hint_for(lines: Sequence[str]) -> str | None:
    """What usually helps against what the last lines of a log say."""
    for line in map(_shortened, reversed(lines)):
        for pattern, hint in _HINTS:
            if match := re.search(pattern, line):
                return hint.format(*match.groups())
    return None


def run_phase(
    recipe: Recipe, step: Step, files: StepFiles, place: WorkPlace, root: Root, env: Mapping[str, str], title: str,
    *, expected: float | None = None, on_stopped: Callable[[], None] = lambda: None,
) -> float:  # fmt: skip
    """Run one phase; give the seconds it took, as it did `expected` another time. on_stopped: see `run_logged`.

    Raises PhaseError, without the commands that help, if it fails.
    """
    assert step.phase is not None
    place.script(files).write_text(step.phase.script)
    file = place.log(files)
    file.write_bytes(b"")
    if step.name == INSTALL:
        place.empty_dest()
    network = step.phase.network or root.network
    deadline = _deadline(recipe, step)
    limit = float(min(recipe.idle_limit, deadline or recipe.idle_limit))

    def on_idle(seconds: float) -> None:
        log.warn(f"{step.name} has said nothing and used no CPU for {log.human_time(seconds)}; log: {file}")

    started = time.monotonic()
    # As its own $0, by which the shell tells the lines of errors.
    command = ["sh", "-euc", f'. {VARIABLES}; . "$0"', f"{BUILD}/run/{files.script}"]
    if deadline is not None:
        command = ["timeout", "--kill-after=10", str(deadline), *command]
    cwd, root_runs = directory_of(recipe, step.name), step.phase.root
    job = Job(tuple(command), env, cwd, network=network, changes=True, step=files, root=root_runs)
    for line in describe(root, place, job):
        log.detail(line)
    with log.step(step.name, file, expected):
        returncode = run_logged(root, place, job, file, idle_limit=limit, on_idle=on_idle, on_stopped=on_stopped)
    seconds = time.monotonic() - started
    if returncode == 0:
        return seconds
    ending = _ending(returncode, seconds, limit, deadline)
    error = _failure(f"{title}: phase {step.name!r} failed after {log.human_time(seconds)} ({ending})", file)
    error.cut = returncode in _BY_FORCE
    raise error


_BY_FORCE = (None, -signal.SIGKILL, 128 + signal.SIGKILL)
"""How a phase ends that was idle, or whose shell, or last program, was killed (as by a kernel without memory)."""


def _ending(returncode: int | None, seconds: float, limit: float, deadline: int | None) -> str:
    """How it ended that took `seconds`, in words. limit, deadline: seconds without a sign of life, and in all."""
    if returncode is None:
        return f"ended after {log.human_time(limit)} without output and CPU use"
    if deadline is not None and returncode in (124, 137) and seconds >= deadline:
        return f"ended after its time limit of {log.human_time(deadline)}"
    return process.describe_exit(returncode)


def _failure(message: str, file: Path) -> PhaseError:
    lines = last_lines(file)
    error = PhaseError(message, details=[*lines, "", f"log:    {file}"], hint=hint_for(lines))
    error.log = file
    return error


def _deadline(recipe: Recipe, step: Step) -> int | None:
    return recipe.check.timeout if step.name == "check" and recipe.check else None


_APPLY = 'for patch; do patch -p1 --batch --forward -i "$patch"; done'


def unpack(
    place: WorkPlace, fill: Callable[[Path], None], patches: Sequence[Path], root: Root, env: Mapping[str, str]
) -> int:
    """Fill the source directory anew by `fill`, apply `patches`; give SOURCE_DATE_EPOCH, see `newest`.

    Raises PhaseError if a patch does not apply.
    """
    place.source.mkdir()
    fill(place.source)
    epoch = newest(place.source)
    if epoch > time.time():
        log.warn(f"the newest source file is dated {time.strftime('%Y-%m-%d', time.gmtime(epoch))}, in the future")
    place.give_to_builder(*place.trees)
    if patches:
        # Patches of two directories can have one name.
        names = [f"patch-{number}-{patch.name}" for number, patch in enumerate(patches)]
        for patch, name in zip(patches, names, strict=True):
            shutil.copyfile(patch, place.scripts / name)
            (place.scripts / name).chmod(0o644)
        inside = [f"{BUILD}/run/{name}" for name in names]
        job = Job(("sh", "-euc", _APPLY, "sh", *inside), env, cwd=f"{BUILD}/src", changes=True)
        returncode, said = capture(root, place, job)
        if returncode != 0:
            lines = said.decode(errors="replace").splitlines()
            raise PhaseError("a patch does not apply", details=lines[-_TAIL:], hint="is it made for this version?")
    return epoch


_LATEST = 0x7FFFFFFF
"""2038-01-19, the last second that 32 bits hold: a program of a target may keep times in no more."""


def newest(tree: Path) -> int:
    """The time of the newest file or link of the source `tree`, in seconds since 1970; 0 if there is none.

    The same on every day: what is dated in the future counts as well, but later than _LATEST or before 1970 it says
    nothing. Version control's own files do not count.
    """
    latest = 0
    for directory, directories, files in os.walk(tree):
        directories[:] = [name for name in directories if name != ".git"]
        for name in (*files, *directories):
            status = Path(directory, name).lstat()
            # A directory's own time says when it was unpacked; a link to one is a link.
            if not stat.S_ISDIR(status.st_mode) and int(status.st_mtime) <= _LATEST:
                latest = max(latest, int(status.st_mtime))
    return latest


def keep_copy(source: Path, destination: Path) -> Path:
    """Copy the file `source` to `destination`, which appears only when complete, with the modes that its user wants.

    Raises MachineError if it cannot be written.
    """
    return _kept(destination, lambda beside: shutil.copyfile(source, beside))


def keep_text(text: str, destination: Path) -> Path:
    """As `keep_copy`, of a file with this text."""
    return _kept(destination, lambda beside: beside.write_text(text))


def _kept(destination: Path, write: Callable[[Path], object]) -> Path:
    folder = destination.parent
    if folder.exists() and not folder.is_dir():
        raise MachineError(f"cannot make {destination}: {folder} is no directory", hint="rename or remove it")
    with writing_below(folder):
        if not folder.exists():
            folder.mkdir(parents=True)
            folder.chmod(0o777 & ~callers_umask())
        beside = destination.with_name(f".{destination.name}.new")
        write(beside)
        beside.chmod(0o666 & ~callers_umask())
        beside.replace(destination)
    return destination
