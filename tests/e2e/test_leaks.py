"""Leaks: whatever a build can ask about where it runs has the same answer in both modes; see leaks.py.

What the native tools answer in a shell and in the phase of a build is held against a phase of mode emulated. The same
against mode system, where no qemu-user takes part, is in tests/slow/leaks-in-a-machine.
A comparison that finds nothing proves nothing unless it can find something: each probe is also asked where leaks were
planted (planted.py), and must differ there.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.e2e.command_line import CHECKOUT, Xbuild
from tests.e2e.leaks import TARGETS, Probe, answers, built, probes, recipe, script
from xbuild.formats.record import Record
from xbuild.sandbox.run import remove_tree

pytestmark = pytest.mark.e2e

PROBES = tuple(probes())

MARKS = {"armhf": (), "arm64": (pytest.mark.long,)}
"""By target: CI has no time for both. Nor has it for a shell's answers beside a phase's, and for the plants."""


def _cases(rows: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Rows whose first word is a target, marked as that says."""
    names = ["-".join(getattr(one, "name", str(one)) for one in row) for row in rows]
    return [pytest.param(*row, id=name, marks=MARKS[row[0]]) for row, name in zip(rows, names, strict=True)]


PLANTED = [(target, probe) for target in TARGETS for probe in PROBES if target in probe.plant]
CONTROLS = {"questions": ("umask", "file order", "dates"), "wrappers": ("dpkg", "pkg-config", "config.guess")}
"""By plant: probes that it must not spoil."""
MACHINES = [("armhf", "armv7l", "arm-linux-gnueabihf"), ("arm64", "aarch64", "aarch64-linux-gnu")]
"""By target: what uname -m says, and the triplet."""
RUNS = ("emulated", "phase", "substituted", "questions", "wrappers")
PHASES = {"emulated": "emulated", "phase": "substituted"}
"""By run: the mode of the build that asks in a phase. The others ask in a shell."""


class Asked(NamedTuple):
    """What the probes said, and the record of a phase."""

    answers: Mapping[str, str]
    record: Record


class Runs:
    """The runs of a target, by name, each made when a test first wants it.

    All are held against the emulated one, which takes longest, so that one starts with the first.
    """

    def __init__(self, ask: Callable[[str], Asked], pool: ThreadPoolExecutor) -> None:
        self._ask, self._pool = ask, pool
        self._begun: dict[str, Future[Asked]] = {}

    def __getitem__(self, run: str) -> Asked:
        for name in ("emulated", run):
            if name not in self._begun:
                self._begun[name] = self._pool.submit(self._ask, name)
        return self._begun[run].result()


Answers = Callable[[str, str], Mapping[str, str]]
"""Give what the probes said, by target and run."""
PCH_BY_ANOTHER = "/usr/bin/arm-linux-gnueabihf-as"
"""Starts once less in mode substituted for armhf: see the probe of a precompiled header with -flto only at its use."""


@pytest.fixture(scope="module")
def ask(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Runs]]:
    """Gives the runs of a target."""
    project = tmp_path_factory.mktemp("project")
    shutil.copytree(CHECKOUT / "toolchains", project / "toolchains")
    (project / "recipes").mkdir()
    xbuild = Xbuild(project, cache)
    for run in RUNS:
        recipe(xbuild, run, PROBES)

    with ThreadPoolExecutor(2) as pool:

        def made(target: str) -> Runs:
            xbuild("shell", "substituted", "--target", target, "--", "true")
            return Runs(lambda run: _ask(xbuild, target, run), pool)

        yield made
    for part in ("work", "artifacts"):
        remove_tree(cache / part)


@pytest.fixture(scope="module")
def armhf(ask: Callable[[str], Runs]) -> Runs:
    return ask("armhf")


@pytest.fixture(scope="module")
def arm64(ask: Callable[[str], Runs]) -> Runs:
    return ask("arm64")


@pytest.fixture
def asked(request: pytest.FixtureRequest) -> Callable[[str], Runs]:
    """Gives the runs of a target, made once, and only if a test wants them."""
    return lambda target: request.getfixturevalue(target)


@pytest.fixture
def said(asked: Callable[[str], Runs]) -> Answers:
    return lambda target, run: asked(target)[run].answers


def _ask(xbuild: Xbuild, target: str, run: str) -> Asked:
    if mode := PHASES.get(run):
        return Asked(*built(xbuild, run, target, mode))
    if run == "substituted":
        words = ["-m", "invoke", "shell", run, "--target", target, "--", script(PROBES)]
    else:
        wanted = [probe for probe in PROBES if run in probe.plant.values() or probe.name in CONTROLS[run]]
        words = [str(Path(__file__).with_name("planted.py")), run, run, target, script(wanted)]
    done = subprocess.run(
        [sys.executable, *words],
        cwd=CHECKOUT,
        # A phase has this one; a shell has the user's.
        env=xbuild.environment({"TERM": "dumb"}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    assert done.returncode == 0, (words[:-1], done.stderr)
    return Asked(answers(done.stdout), Record({}, whole=True))


@pytest.mark.parametrize(("target", "probe"), _cases([(target, probe) for target in TARGETS for probe in PROBES]))
@pytest.mark.parametrize("run", [pytest.param("substituted", marks=pytest.mark.long), "phase"])
def test_the_answers_are_the_same(
    request: pytest.FixtureRequest, said: Answers, run: str, target: str, probe: Probe
) -> None:
    if reason := probe.known.get(target):
        request.applymarker(pytest.mark.xfail(strict=True, reason=reason, raises=AssertionError))
    native, emulated = (said(target, name)[probe.name] for name in (run, "emulated"))
    assert emulated.strip()
    assert native == emulated


@pytest.mark.long
@pytest.mark.parametrize(("target", "probe"), _cases(PLANTED))
def test_a_planted_leak_is_found(said: Answers, target: str, probe: Probe) -> None:
    assert said(target, probe.plant[target])[probe.name] != said(target, "emulated")[probe.name]


@pytest.mark.long
@pytest.mark.parametrize(("plant", "name"), [(plant, name) for plant, names in CONTROLS.items() for name in names])
@pytest.mark.parametrize("target", _cases([(target,) for target in TARGETS]))
def test_a_plant_spoils_nothing_else(said: Answers, target: str, plant: str, name: str) -> None:
    assert said(target, plant)[name] == said(target, "emulated")[name]


@pytest.mark.parametrize(("target", "fewer"), _cases([("armhf", PCH_BY_ANOTHER), ("arm64", None)]))
def test_the_same_programs_are_recorded(
    asked: Callable[[str], Runs], target: str, fewer: str | None
) -> None:
    native, emulated = (asked(target)[run].record for run in ("phase", "emulated"))
    assert emulated.total(native=True).total() == 0
    assert native.total(native=True).total() > emulated.total(native=False).total() / 2
    ran = [record.total(native=True) + record.total(native=False) for record in (native, emulated)]
    differ = {path for path in ran[0].keys() | ran[1].keys() if ran[0][path] != ran[1][path]}
    assert {path for path in differ if not path.startswith("/tmp/")} == ({fewer} if fewer else set())


def test_each_probe_can_fail() -> None:
    """Something is planted for it, or it fails by a known difference; what only one target can answer wrong, for it."""
    assert [probe.name for probe in PROBES if not (probe.plant or probe.known)] == []


@pytest.mark.parametrize(("target", "machine", "triplet"), _cases(MACHINES))
def test_the_answers_are_an_arm_s(said: Answers, target: str, machine: str, triplet: str) -> None:
    found = said(target, "phase")
    assert found["uname"].split()[-3:] == [machine, machine, "unknown"]
    assert found["gcc's questions"].split()[:2] == [triplet, triplet]
    assert found["config.guess"].split("-")[0] == machine
    assert f" /usr/include/{triplet}\n" in found["headers of C"]
    assert found["bash's variables"].split()[0] in ("arm", "aarch64")


def test_both_modes_are_what_they_say(xbuild: Xbuild) -> None:
    """The comparison above is worth something only if the shell's own tools differ."""
    modes = ("substituted", "emulated")
    said = [xbuild("shell", "bare", "--mode", mode, "--", "readlink /proc/./self/exe").out for mode in modes]
    assert said == ["/.xbuild/amd64/usr/bin/readlink\n", "/.xbuild/qemu\n"]


_FIND = r"""
find / -xdev -type f -print0 2> /dev/null | perl -0ne '
    chomp; $all++; next unless open(F, "<", $_);
    next unless read(F, $head, 20) == 20 && substr($head, 0, 4) eq "\x7fELF";
    $elf++; $machine = unpack("v", substr($head, 18, 2));
    print "$_\n" if ($machine == 3 || $machine == 62) && !m{^/\.xbuild/};
    END { print "$all files, $elf ELF\n" }'
"""


def test_no_x86_file_can_be_found(xbuild: Xbuild) -> None:
    lines = xbuild("shell", "bare", "--target", "armhf", "--", _FIND).out.splitlines()
    assert len(lines) == 1, lines
    files, elf = (int(word) for word in lines[0].split() if word.isdigit())
    assert files > 3000
    assert elf > 300


def test_no_x86_file_is_in_the_layers(xbuild: Xbuild, user_cache: Path) -> None:
    """The same, seen from outside, where the files of all target roots and layers lie."""
    xbuild("shell", "bare", "--target", "armhf", "--", "true")
    foreign = [entry for kind in ("roots", "layers") for entry in (user_cache / kind).iterdir() if _is_arm(entry)]
    assert foreign != []
    for entry in foreign:
        found = _elf_files(next(entry / name for name in ("root", "upper") if (entry / name).is_dir()))
        assert found != [] or "base" in json.loads((entry / "key.json").read_text())["value"], entry
        assert [path for machine, path in found if machine in (3, 62)] == []


def _is_arm(entry: Path) -> bool:
    value = json.loads((entry / "key.json").read_text())["value"]
    root = value.get("base", value)
    return root["what"] == "target root" and root["architecture"] in TARGETS


def _elf_files(directory: Path) -> list[tuple[int, str]]:
    """ELF machine and path of every ELF file that can be read."""
    found = []
    for folder, _, names in os.walk(directory):
        for name in names:
            path = Path(folder, name)
            try:
                if path.is_symlink() or not path.is_file():
                    continue
                with path.open("rb") as stream:
                    head = stream.read(20)
            except OSError:
                continue
            if head[:4] == b"\x7fELF":
                found.append((int.from_bytes(head[18:20], "little"), str(path)))
    return found
