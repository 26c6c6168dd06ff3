from __future__ import annotations

import json
import signal
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest

from tests.unit.bench_figures import MACHINE, MODES, RUNGS, TARGETS, assert_inside, figure, made, run_of
from xbuild.base import paths
from xbuild.base.errors import CheckError, MachineError, PhaseError, RecipeError, XbuildError
from xbuild.base.yamlfile import load_model
from xbuild.build.request import Request
from xbuild.cli.program import XbuildProgram
from xbuild.dispatcher.table import Entry
from xbuild.model.policy import Policy
from xbuild.proof.bench import ladder, machine, measure, series, show
from xbuild.proof.bench.series import NATIVE, TOTAL, Run, Series, Variant
from xbuild.twins.pairing import Pairs, Refusal, Refused, Twin

PROJECT = Path(__file__).parents[2]
@pytest.fixture(scope="module")
def default() -> Policy:
    return load_model(paths.POLICIES / "default.yml", Policy)


def test_a_round_has_the_native_target_once_and_first() -> None:
    found = series.variants(["bash", "xz"], TARGETS, MODES)
    assert [str(variant) for variant in found] == [
        "bash for amd64", "bash for armhf, substituted", "bash for armhf, emulated",
        "xz for amd64", "xz for armhf, substituted", "xz for armhf, emulated",
    ]  # fmt: skip
    assert [variant.native for variant in found[:3]] == [True, False, False]


def test_nothing_is_built_twice_in_a_round() -> None:
    modes: tuple[str, ...] = ("substituted", "substituted")
    assert len(series.variants(["bash", "bash"], [*TARGETS, *TARGETS], modes)) == 2


def test_rounds_are_interleaved() -> None:
    known = series.variants(["bash", "xz"], TARGETS, MODES, ["compiler"])
    order = list(series.schedule(known, 3))
    assert len(order) == 3 * len(known) == len(set(order))
    for turn in (1, 2, 3):
        part = order[(turn - 1) * len(known) : turn * len(known)]
        assert part == [(turn, variant) for variant in known]


def test_what_is_no_part_of_the_total() -> None:
    phases = [("unpack", 1.0), ("fetch", 2.0), ("prepare", 4.0), ("compile", 8.0), ("check", 16.0), ("install", 32.0)]
    assert series.timed(phases) == {"prepare": 4.0, "compile": 8.0, "install": 32.0, TOTAL: 44.0}


def test_medians_and_ranges() -> None:
    variant = Variant("bash", "amd64", NATIVE)
    found = Series((variant,), 4, "", MACHINE)
    for turn, seconds in enumerate((5.0, 1.0, 9.0, 2.0), 1):
        assert not found.complete
        found.runs.append(run_of(variant, turn, {"compile": seconds}))
        assert figure(found, NATIVE, "compile").count == turn
    known = figure(found, NATIVE, "compile")
    assert (known.median, known.least, known.most) == (3.5, 1.0, 9.0)
    assert found.complete


def test_ratios_are_of_medians_phase_by_phase() -> None:
    found = made()
    assert figure(found, "substituted", "compile").ratio == 1.25
    assert figure(found, "substituted", "configure").ratio == 1.25
    assert figure(found, "emulated").ratio == 40
    assert figure(found, NATIVE).ratio == 1
    # The native target of another recipe is none to be held against.
    found.runs = [run for run in found.runs if not (run.variant.native and run.variant.recipe == "xz")]
    assert figure(found, "substituted", recipe="xz").ratio is None
    assert figure(found, "substituted").ratio == 1.25


def test_no_ratio_to_nothing() -> None:
    native, other = Variant("a", "amd64", NATIVE), Variant("a", "armhf", "substituted")
    found = Series((native, other), 1, "", MACHINE)
    found.runs = [run_of(native, 1, {"compile": 0.0}), run_of(other, 1, {"compile": 1.0, "install": 1.0})]
    assert [known.ratio for known in series.figures(found) if known.variant == other] == [None, None, None]


def test_different_results_are_told() -> None:
    found = made(rounds=1)
    assert series.differing(found) == []
    found.runs.append(run_of(found.variants[1], 2, {"compile": 1.0}, "b"))
    # The native target's artifact is another one anyway.
    found.runs.append(run_of(Variant("bash", "arm64", "substituted"), 1, {"compile": 1.0}, "c"))
    assert series.differing(found) == [("bash", "armhf")]
    assert "The builds of bash for armhf did not all give the same artifact." in show.remarks(found)


def test_the_ladder_climbs_from_the_compiler_to_all_tools(default: Policy) -> None:
    known = ladder.load(default)
    tools = [known.tools(number, default) for number in range(len(known.rungs))]
    assert all(lower < higher <= set(default.tools) for lower, higher in pairwise(tools))
    assert tools[-1] == set(default.tools)
    assert {"gcc", "cc1", "binutils"} <= tools[0]
    assert not {"ld", "dash", "make", "coreutils", "tar"} & tools[0]
    # From the second rung on the compilers are whole again, as they are in every ordinary build.
    compilers = {name for name in default.tools if default.group_of(name) == "compilers"}
    assert compilers <= tools[1]
    order = [("ld", 1), ("dash", 2), ("bash", 2), ("coreutils", 3), ("sed", 3), ("make", 4), ("tar", 5)]
    order += [("perl", 6), ("m4", 7)]
    for tool, rung in order:
        assert next(number for number, kept in enumerate(tools) if tool in kept) == rung, tool


@pytest.mark.parametrize(
    ("rungs", "said"),
    [
        ("[{name: a, adds: [gcc]}]", "the last rung, and no other, adds all"),
        ("[{name: a, adds: all}, {name: b, adds: [gcc]}]", "the last rung, and no other, adds all"),
        ("[{name: a, adds: [gcc]}, {name: b, adds: [gcc]}, {name: c, adds: all}]", "named twice: gcc"),
        ("[{name: a, adds: []}, {name: c, adds: all}]", "at least one"),
        ("[{name: a, adds: [gcc, sedd]}, {name: c, adds: all}]", "'sedd'; did you mean 'sed'?"),
    ],
)
def test_wrong_ladders(default: Policy, tmp_path: Path, rungs: str, said: str) -> None:
    file = tmp_path / "ladder.yml"
    file.write_text(f"schema: 1\nrungs: {rungs}\n")
    with pytest.raises(RecipeError) as caught:
        ladder.load(default, file)
    assert said in " ".join(caught.value.details)


def test_what_a_rung_switches_off() -> None:
    known = [Twin(tool, f"/usr/bin/{tool}", "amd64", tool, "1", f"/usr/bin/{tool}") for tool in ("gcc", "ld", "sed")]
    entries = tuple(Entry(twin.target_path, twin.program) for twin in known)
    pairs = Pairs(entries, tuple(known), (Refused("/usr/bin/as", Refusal.VERSION, "another version"),))
    assert ladder.switched_off(pairs, frozenset({"gcc"})) == {"/usr/bin/ld", "/usr/bin/sed", "/usr/bin/as"}
    assert ladder.switched_off(pairs, frozenset({"gcc", "ld", "sed"})) == {"/usr/bin/as"}


def test_the_steps_of_a_ladder_are_told_by_name() -> None:
    found = made(rungs=RUNGS)
    assert series.ladders(found) == [("bash", "armhf"), ("xz", "armhf")]
    assert list(series.climb(found, "xz", "armhf").values()) == [
        "nothing native", "compiler", "+ sh", "+ rest", "target amd64",
    ]  # fmt: skip
    assert series.ladders(made()) == []


def test_what_the_machine_is_called() -> None:
    assert machine.processor("processor\t: 0\nmodel name\t: Some CPU @ 2GHz\nx: y\n") == "Some CPU @ 2GHz"
    assert machine.processor("") == "unknown processor"
    assert machine.memory("MemTotal:       16384 kB\nMemFree: 1 kB\n") == 16 << 20
    known = machine.describe(5)
    assert set(known) == set(MACHINE)
    assert known["jobs"] == 5
    assert machine.describe(0)["jobs"] == known["cores"] > 0
    assert known["memory"] > 0


def exec_record(path: str, verdict: int) -> bytes:
    return struct.pack("<HBBIQ", 16 + len(path), verdict, 0, 1, 1) + path.encode()


def test_programs_are_counted_where_time_is(tmp_path: Path) -> None:
    twin, width, none = (exec_record(f"/usr/bin/{name}", verdict) for name, verdict in (("a", 1), ("b", 2), ("c", 3)))
    (tmp_path / "01-configure").write_bytes(twin + none + none)
    (tmp_path / "02-compile").write_bytes(twin + width + none)
    (tmp_path / "04-check").write_bytes(none * 9)
    (tmp_path / "02-compile.cpu.json").write_text("{}")
    assert measure.programs(tmp_path) == (3, 3)


@dataclass
class Stand:
    """Stands in for builds. faults: by the name of the variant, and the round from 1 in which it is met."""

    monkeypatch: pytest.MonkeyPatch
    faults: dict[tuple[str, int], BaseException] = field(default_factory=dict)
    built: list[str] = field(default_factory=list)
    discarded: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        store = SimpleNamespace(discard=self.discarded.append)
        subject = SimpleNamespace(store=store, place=SimpleNamespace(path="place"))
        self.monkeypatch.setattr(measure, "prepare", lambda *_: None)
        self.monkeypatch.setattr(measure, "_subject", lambda *_: subject)
        self.monkeypatch.setattr(measure, "_build", lambda _, variant, turn: self.build(variant, turn))
        self.monkeypatch.setattr(measure, "_keep_log", lambda *_: "/kept.log")

    def build(self, variant: Variant, turn: int) -> Run:
        self.built.append(f"{turn} {variant.name}")
        if fault := self.faults.get((variant.name, turn)):
            raise fault
        return run_of(variant, turn, {"compile": 1.0})


def empty(rounds: int = 2) -> Series:
    return Series(series.variants(["bash"], TARGETS, MODES), rounds, "", MACHINE)


def test_what_fails_does_not_lose_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    stand = Stand(monkeypatch, {("emulated", 1): PhaseError("p", details=["d"]), ("substituted", 2): CheckError("c")})
    found, told = empty(3), []
    measure.measure(found, measure.Conditions(), lambda: told.append(len(found.runs) + len(found.failures)))
    assert stand.built == ["1 native", "1 substituted", "1 emulated", "2 native", "2 substituted", "3 native"]
    assert told == [1, 2, 3, 4, 5, 6]
    assert [(known.variant.name, known.round, known.message, known.details, known.log) for known in found.failures] == [
        ("emulated", 1, "p", ("d",), "/kept.log"),
        ("substituted", 2, "c", (), None),
    ]
    assert stand.discarded == []
    assert not found.complete
    # What was measured before still counts.
    assert figure(found, "substituted").count == 1


@pytest.mark.parametrize("fault", [MachineError("no network"), PhaseError("not there")])
def test_what_cannot_be_prepared_is_not_built(monkeypatch: pytest.MonkeyPatch, fault: XbuildError) -> None:
    asked = []

    def preparing(request: Request) -> None:
        asked.append(request.mode if request.target == "armhf" else "native")
        if asked[-1] == "emulated":
            raise fault

    monkeypatch.setattr(measure, "make_ready", preparing)
    found = empty()
    measure.prepare(found, measure.Conditions())
    assert asked == ["native", "substituted", "emulated"]
    stand = Stand(monkeypatch)
    measure.measure(found, measure.Conditions(), lambda: None)
    assert [known.round for known in found.failures] == [0]
    assert len(stand.built) == 4


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


Command = Callable[..., Ended]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """Runs `xbuild bench` in this process, with an empty store."""
    monkeypatch.setenv("XBUILD_PROJECT", str(PROJECT))
    monkeypatch.setenv("XBUILD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("xbuild.cli.measure.require", lambda **_: None)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    bytecode = sys.dont_write_bytecode

    def run(*words: str) -> Ended:
        code = 0
        try:
            XbuildProgram().run(["xbuild", "bench", *words])
        except SystemExit as end:
            code = int(end.code or 0)
        return Ended(code, *capsys.readouterr())

    yield run
    sys.dont_write_bytecode = bytecode
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--modes", "substituted,emulatd"], "unknown mode 'emulatd'; did you mean 'emulated'?"),
        (["--repeat", "0"], "--repeat must be a number from 1 on, not '0'"),
        (["--jobs", "x"], "--jobs must be a number from 1 on, not 'x'"),
        (["--recipes", "zlib,"], "--recipes wants names, separated by commas, not 'zlib,'"),
        (["--recipes", "zlb"], "unknown recipe 'zlb'; did you mean 'zlib'?"),
        (["--targets", "amd64,armfh"], "unknown target 'armfh'; did you mean 'armhf'?"),
        (["--svg", "/dev/null/x.svg"], "cannot write /dev/null/x.svg"),
        (["--markdown", "/"], "cannot write /"),
        (["--exec", "--targets", "amd64"], "there is no dispatcher for a native target"),
        (["--ablation", "--targets", "amd64"], "an ablation takes twins away, and no target has any"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_words(bench: Command, words: list[str], said: str) -> None:
    ended = bench(*words)
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err
    assert "hint: " in ended.err
    assert "Traceback" not in ended.err


def test_a_benchmark_from_the_command_line(
    bench: Command, default: Policy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stand = Stand(monkeypatch, {(ladder.load(default).rungs[0].name, 1): PhaseError("no")})
    files = [tmp_path / "x.md", tmp_path / "x.svg"]
    ended = bench("--recipes", "zlib", "--ablation", "--json", "--markdown", str(files[0]), "--svg", str(files[1]))
    assert ended.code == 3
    value = json.loads(ended.out)
    # One round by default, the native target, eight rungs of which the last is the mode.
    assert value["rounds"] == 1
    assert len(stand.built) == 9
    # What a rung leaves is of no use to any ordinary build.
    assert stand.discarded == ["place"] * 7
    assert [len(value[name]) for name in ("variants", "runs", "failures")] == [9, 8, 1]
    assert value["command"] == (
        "invoke bench --recipes zlib --targets amd64,armhf --modes substituted --repeat 1 --ablation"
    )
    assert value["command"] in files[0].read_text()
    assert_inside(ElementTree.fromstring(files[1].read_text()))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.md", "x.svg"]
    assert "zlib for armhf, substituted: 1.0 s (compile 1.0)" in ended.err


def test_an_interrupted_benchmark_keeps_what_it_has(
    bench: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Stand(monkeypatch, {(NATIVE, 2): KeyboardInterrupt()})
    file = tmp_path / "x.md"
    ended = bench("--recipes", "zlib", "--json", "--markdown", str(file))
    assert ended.code == 130
    value = json.loads(ended.out)
    assert (value["complete"], value["rounds"], len(value["runs"])) == (False, 3, 2)
    assert "2 of 6 builds have been measured." in file.read_text()


def test_files_that_cannot_be_written_in_the_end_lose_nothing(
    bench: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stand = Stand(monkeypatch)
    folder = tmp_path / "gone"
    folder.mkdir()
    real = stand.build

    def build(variant: Variant, turn: int) -> Run:
        if folder.is_dir():
            folder.rmdir()
            folder.touch()
        return real(variant, turn)

    monkeypatch.setattr(stand, "build", build)
    ended = bench("--recipes", "zlib", "--repeat", "1", "--svg", str(folder / "x.svg"))
    assert ended.code == 0
    assert "warning: cannot write" in ended.err
    assert any(line.split()[:4] == ["zlib", "armhf", "substituted", "total"] for line in ended.out.splitlines())
