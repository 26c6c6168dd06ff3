"""What a record tells: made-up records and CPU samples, and what is made of them."""

from __future__ import annotations

import json
import random
import signal
import struct
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from invoke.program import Program

from xbuild.base.digest import sealed
from xbuild.base.errors import UsageError
from xbuild.build.request import Request
from xbuild.build.subject import Subject, read
from xbuild.cli.namespace import collection
from xbuild.cli.trace import trace as trace_task
from xbuild.formats.record import Choice, Exec, Record
from xbuild.proof.compare.modes import cpu_of
from xbuild.proof.trace import RecordsOf, Trace, tables, trace
from xbuild.proof.trace.account import CpuUse, Phase, Use, account, is_made, merge, read_cpu, shown_name, sum_up, unseen
from xbuild.proof.trace.advice import advise, reasons
from xbuild.proof.trace.brief import emulated_line
from xbuild.proof.trace.explain import Explanation, Why
from xbuild.store.local import Store

PROJECT = Path(__file__).parents[2]
SED, PERL, CC = "/usr/bin/sed", "/usr/bin/perl", "/usr/bin/arm-linux-gnueabihf-gcc-14"
MADE = "/build/obj/conftest"


def execs(*kinds: tuple[str, Choice, int]) -> list[Exec]:
    """Paths with the verdict, and how often."""
    return [Exec(0, number, verdict, path) for path, verdict, count in kinds for number in range(count)]


def counted(execs: Sequence[Exec]) -> Counter[tuple[str, Choice]]:
    """As a record has them."""
    return Counter((known.path, known.verdict) for known in execs)


EXECS = execs(
    (SED, Choice.TWIN, 7), (PERL, Choice.NO_ENTRY, 3), (CC, Choice.TWIN, 5), (CC, Choice.ARGUMENT, 2),
    (MADE, Choice.NO_ENTRY, 4), ("/tmp/x/conftest (deleted)", Choice.NO_ENTRY, 1),
)  # fmt: skip


def by_name(uses: Sequence[Use]) -> dict[tuple[str, bool], Use]:
    found = {(use.name, use.native): use for use in uses}
    assert len(found) == len(uses)
    return found


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (SED, SED),
        ("/build/obj/a/python", "made by the build: python"),
        ("/tmp/a.out (deleted)", "made by the build: a.out"),
        ("/memfd:x (deleted)", "made by the build: memfd:x"),
        ("/var/tmp/t", "made by the build: t"),
        ("/builder/sed", "/builder/sed"),
        ("/usr/tmp/sed", "/usr/tmp/sed"),
    ],
)
def test_what_the_build_made_goes_by_its_name(path: str, shown: str) -> None:
    assert shown_name(path) == shown
    assert is_made(path) == (shown != path)


def test_execs_are_counted_exactly() -> None:
    found = by_name(account(counted(EXECS), None))
    assert {key: use.execs for key, use in found.items()} == {
        (SED, True): 7, (PERL, False): 3, (CC, True): 5, (CC, False): 2, ("made by the build: conftest", False): 5,
    }  # fmt: skip
    assert {use.seconds for use in found.values()} == {0.0}


NAMES = st.sampled_from([SED, PERL, CC, MADE, "/usr/bin/dash"])
SECONDS = st.floats(0, 100).map(lambda value: round(value, 2))
RECORDS = st.dictionaries(st.tuples(NAMES, st.sampled_from(Choice)), st.integers(1, 9), max_size=20)


@st.composite
def cpus(draw: st.DrawFn) -> CpuUse:
    """Samples as they may be, also without an exec to them."""
    seconds = draw(st.dictionaries(st.tuples(NAMES, st.booleans()), SECONDS, max_size=6))
    caught = {key: draw(st.integers(0, 50)) for key in seconds}
    before = {key: min(draw(SECONDS), known) for key, known in seconds.items()}
    return CpuUse(0.05, sum(seconds.values()) + draw(SECONDS), seconds, 0.0, caught, before)


@settings(max_examples=40)
@given(RECORDS, cpus(), st.randoms())
def test_what_is_shared_out(counts: dict[tuple[str, Choice], int], cpu: CpuUse, chance: random.Random) -> None:
    uses = account(counts, cpu)
    # The total is exact, and what was seen is kept.
    if counts or any(cpu.programs.values()):
        assert sum(use.seconds for use in uses) == pytest.approx(cpu.total)
    assert sum(use.sampled for use in uses) == pytest.approx(sum(cpu.programs.values()))
    assert sum(use.execs for use in uses) == sum(counts.values())
    assert all(0 <= use.shared <= unseen(cpu) + 1e-9 and use.error >= 0 for use in uses)
    # No split is off by more than what was not seen.
    known = sum_up(uses, [cpu])
    seen = sum(seconds for (_, native), seconds in cpu.programs.items() if not native)
    assert seen - 1e-9 <= known.emulated <= seen + known.hidden + 1e-9
    # The order of execs is nothing.
    mixed = list(counts.items())
    chance.shuffle(mixed)
    again = by_name(account(dict(mixed), cpu))
    assert all(again[use.name, use.native].seconds == pytest.approx(use.seconds) for use in uses)
    # Advice adds up to what was emulated.
    emulated = [use for use in uses if not use.native and use.execs]
    found = advise(uses, lambda path, verdict: Explanation(Why.MADE, f"{path} {verdict}"), {"": ""}.get)
    assert sum(advice.seconds for advice in found) == pytest.approx(sum(use.seconds for use in emulated))
    assert sum(advice.programs.total() for advice in found) == sum(use.execs for use in emulated)


def test_an_emulated_program_that_was_never_met_weighs_more() -> None:
    known = counted(execs((SED, Choice.TWIN, 100), (PERL, Choice.NO_ENTRY, 100)))
    found = by_name(account(known, CpuUse(0.05, 1.57, {})))
    assert found[SED, True].seconds == pytest.approx(0.07)
    assert found[PERL, False].seconds == pytest.approx(1.5)


def simulated(lives: Mapping[tuple[str, bool], Sequence[float]], interval: float, chance: random.Random) -> CpuUse:
    """What the sampler sees of processes that use one core one after another, for as many seconds as each lives."""
    seconds: dict[tuple[str, bool], float] = defaultdict(float)
    before: dict[tuple[str, bool], float] = defaultdict(float)
    caught = Counter[tuple[str, bool]]()
    todo = [(program, life) for program, known in lives.items() for life in known]
    chance.shuffle(todo)
    now, look = 0.0, chance.random() * interval
    for program, life in todo:
        # The clock that processes are charged by has ticks of 10 ms.
        looks = []
        while look < now + life:
            looks.append(int((look - now) * 100) / 100)
            look += interval
        if looks:
            caught[program] += 1
            before[program] += looks[0]
            seconds[program] += looks[-1]
        now += life
    return CpuUse(interval, now, dict(seconds), 0.0, dict(caught), dict(before))


@pytest.mark.parametrize("seed", range(8))
def test_the_estimate_is_as_good_as_it_says(seed: int) -> None:
    """A configure run: short native programs, some compilers, a few emulated ones; most of it is hidden from looks."""
    chance = random.Random(seed)
    lives = {
        (SED, True): [chance.uniform(0.001, 0.006) for _ in range(2000)],
        (CC, True): [chance.uniform(0.02, 0.4) for _ in range(60)],
        (PERL, False): [chance.uniform(0.01, 0.06) for _ in range(40)],
    }
    verdicts = {True: Choice.TWIN, False: Choice.NO_ENTRY}
    counts = [(path, verdicts[native], len(known)) for (path, native), known in lives.items()]
    cpu = simulated(lives, 0.05, chance)
    assert unseen(cpu) > 0.3 * cpu.total
    found = by_name(account(counted(execs(*counts)), cpu))
    for key, known in lives.items():
        assert abs(found[key].seconds - sum(known)) < 4 * found[key].error
        assert found[key].error < 0.4 * sum(known)


def test_steps_add_up() -> None:
    cpu = CpuUse(0.05, 4.0, {(SED, True): 1.0})
    once = account(counted(EXECS), cpu)
    twice = by_name(merge([*once, *account(counted(EXECS), cpu)]))
    for use in once:
        both = twice[use.name, use.native]
        assert both.execs == 2 * use.execs
        assert both.seconds == pytest.approx(2 * use.seconds)
        assert both.error == pytest.approx(use.error * 2**0.5)


def cpu_json(**changes: Any) -> str:
    programs = [
        {"path": SED, "native": True, "seconds": 0.5, "caught": 3, "before": 0.04},
        {"path": "?", "native": False, "seconds": 9.0, "caught": 5, "before": 0.1},
    ]
    return json.dumps({"interval": 0.05, "samples": 40, "total": 2.0, "programs": programs, "unseen": 0, **changes})


def test_what_the_sampler_wrote(tmp_path: Path) -> None:
    file = tmp_path / "cpu.json"
    file.write_text(cpu_json())
    found = read_cpu(file)
    assert found is not None
    assert (found.total, dict(found.programs), found.unrecorded) == (2.0, {(SED, True): 0.5}, 9.0)
    assert (dict(found.caught), unseen(found)) == ({(SED, True): 3}, 1.5)
    # What ran on when the step ended was seen, but never waited for.
    file.write_text(cpu_json(total=0.2))
    found = read_cpu(file)
    assert found is not None
    assert (found.total, unseen(found)) == (0.5, 0)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"interval": 1}', cpu_json(programs=[{}]), cpu_json(total="x"), "0"])
def test_what_the_sampler_did_not_finish(tmp_path: Path, text: str) -> None:
    (tmp_path / "cpu.json").write_text(text)
    assert read_cpu(tmp_path / "cpu.json") is None
    assert read_cpu(tmp_path / "none") is None


WHYS = {
    PERL: Explanation(Why.NEVER, "never"),
    "/usr/bin/bc": Explanation(Why.NO_ENTRY, "no tool", "add one"),
    "/usr/bin/dc": Explanation(Why.NO_ENTRY, "no tool", "add one"),
    MADE: Explanation(Why.MADE, "made"),
}


def why(path: str, verdict: Choice) -> Explanation:
    return Explanation(Why.ARGUMENT, "asked") if verdict is Choice.ARGUMENT else WHYS[path]


def test_advice() -> None:
    kinds = [("/usr/bin/bc", Choice.NO_ENTRY, 3), ("/usr/bin/dc", Choice.NO_ENTRY, 1), (PERL, Choice.NO_ENTRY, 1),
             (PERL, Choice.ARGUMENT, 3), (MADE, Choice.NO_ENTRY, 1), (SED, Choice.TWIN, 9)]  # fmt: skip
    seconds = {("/usr/bin/bc", False): 2.0, ("/usr/bin/dc", False): 1.0, (PERL, False): 4.0, (MADE, False): 0.5}
    uses = account(counted(execs(*kinds)), CpuUse(0.05, 107.5, {**seconds, (SED, True): 100.0}))
    found = {advice.explanation.why: advice for advice in advise(uses, why, {"/usr/bin/bc": "bc"}.get)}
    # Each reason has its part of a program's seconds.
    assert {known: round(advice.seconds, 3) for known, advice in found.items()} == {
        Why.NO_ENTRY: 3.0, Why.ARGUMENT: 3.0, Why.NEVER: 1.0, Why.MADE: 0.5,
    }  # fmt: skip
    assert [*found][-1] is Why.MADE
    best = found[Why.NO_ENTRY]
    assert (best.possible, best.packages, best.programs.most_common()) == (
        True, {"bc"}, [("/usr/bin/bc", 3), ("/usr/bin/dc", 1)],
    )  # fmt: skip
    assert best.gain == pytest.approx(3.0 * 0.9)
    assert not any(found[known].possible for known in (Why.NEVER, Why.ARGUMENT, Why.MADE))
    perl = by_name(uses)[PERL, False]
    assert reasons(perl, why) == {Why.NEVER: 1, Why.ARGUMENT: 3}


def made_up(cpu: CpuUse | None = None, *, whole: bool = True) -> Trace:
    phases = [Phase("compile", "done", Record(counted(EXECS), whole), cpu)]
    return Trace("tiny 1 for armhf", RecordsOf("the artifact", Path("/records")), phases, None)


@pytest.mark.parametrize("top", [1, 2, 100])
def test_tables_lose_nothing(top: int) -> None:
    cpu = CpuUse(0.05, 8.0, {(CC, True): 5.0, (PERL, False): 2.0})
    found = made_up(cpu)
    rows = tables.program_rows(found, top)
    assert len(rows) == min(top + 1, 4)
    assert sum(int(row[1]) for row in rows) == 12
    assert sum(int(row[2]) for row in rows) == 10
    assert sum(float(row[4]) + float(row[5]) for row in rows) == pytest.approx(8.0, abs=0.05)
    assert {len(row) for row in rows} == {len(tables.PROGRAMS)}
    [phase] = tables.phase_rows(found)
    assert len(phase) == len(tables.PHASES)
    assert phase[:5] == ("compile", "", "12", "10", "8.00")
    assert "estimated" in tables.notes(found)[1]


def test_a_trace_without_seconds_and_whole_records() -> None:
    found = made_up(whole=False)
    assert [warning.partition(":")[0] for warning in found.warnings()] == [
        "the record of compile was cut short", "CPU seconds of compile are not known",
        "the roots of this build are no longer in the store, so there are neither reasons nor advice",
    ]  # fmt: skip
    assert [row[4:] for row in tables.phase_rows(found)] == [("?", "?", "?", "?", "?")]
    assert {row[4:] for row in tables.program_rows(found, 9)} == {("?", "?", "?")}
    value = json.loads(json.dumps(found.as_json()))
    assert value["totals"]["execs"] == {"native": 12, "emulated": 10}
    assert (value["totals"]["seconds"], value["totals"]["share_emulated"]) == (None, None)
    assert tables.notes(found) == []


@pytest.fixture
def subject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Subject]:
    """The recipe zlib with an empty store. Signal handlers that a command sets are as before afterwards."""
    monkeypatch.setenv("XBUILD_PROJECT", str(PROJECT))
    monkeypatch.setenv("XBUILD_CACHE", str(tmp_path))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield read(Request("zlib", "armhf"), Store(tmp_path))
    for number, handler in handlers.items():
        signal.signal(number, handler)


def record(folder: Path, name: str, execs: Sequence[Exec], cpu: str = "") -> None:
    """Write the record of a step."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = [(known, known.path.encode()) for known in execs]
    data = [struct.pack("<HBBIQ", 16 + len(path), known.verdict, 0, known.pid, 0) + path for known, path in entries]
    (folder / name).write_bytes(b"".join(data))
    (folder / f"{name}.cpu.json").write_text(cpu)


def states(subject: Subject, **known: str) -> None:
    records = [{"name": name, "key": "", "status": status, "seconds": 1.0} for name, status in known.items()]
    subject.place.state.write_text(sealed({"records": records, "epoch": 0, "resumed": False}))


def test_a_work_place(subject: Subject) -> None:
    folder = subject.place.records
    record(folder, "01-configure", EXECS, cpu_json())
    record(folder, "02-compile", EXECS[:3])
    record(folder, "03-install", EXECS)
    states(subject, unpack="done", configure="done")
    # The install phase is what an earlier run has left.
    assert [(phase.name, phase.status) for phase in trace(subject).phases] == [
        ("configure", "done"), ("compile", "unfinished"),
    ]  # fmt: skip
    states(subject, unpack="done", configure="failed")
    found = trace(subject)
    assert [(phase.name, phase.status) for phase in found.phases] == [("configure", "failed")]
    assert found.total.total == 2.0
    with pytest.raises(UsageError, match="no record of a phase 'confgure'; did you mean 'configure'"):
        trace(subject, "confgure")


def test_a_build_tells_what_ran_emulated(subject: Subject) -> None:
    folder = subject.place.records
    record(folder, "01-configure", EXECS, cpu_json())
    line = emulated_line(folder)
    assert line.startswith("emulated: 10 of 22 programs, ")
    assert " most of it " in line
    record(folder, "01-configure", EXECS[:7], json.dumps({"interval": 0.05, "total": 2.0, "programs": [
        {"path": SED, "native": True, "seconds": 2.0, "caught": 1, "before": 0.0}]}))  # fmt: skip
    assert emulated_line(folder) == ""
    assert emulated_line(folder / "none") == ""


def test_reports_tell_the_same_shares(subject: Subject) -> None:
    """Of a short phase, whose processes no look has met, and beside which something else ran."""
    folder = subject.place.records
    record(folder, "01-configure", EXECS, cpu_json())
    states(subject, unpack="done", configure="done")
    told = trace(subject).as_json()["phases"][0]
    known = cpu_of(folder)["configure"]
    assert 0 < told["share_emulated"] < 0.75
    assert round(known.share, 4) == told["share_emulated"]
    assert (round(known.emulated, 3), round(known.native, 3)) == (told["emulated"], told["native"])


def test_an_artifact_of_other_inputs(subject: Subject) -> None:
    target = {"name": "armhf", "distribution": {"suite": "trixie"}}
    value = {"recipe": {"name": "zlib"}, "mode": "substituted", "target": target, "number": 1}

    def make(place: Path) -> None:
        record(place / "records", "01-configure", EXECS, cpu_json())

    subject.store.ensure("artifacts", {**value, "mode": "emulated"}, "another", make)
    with pytest.raises(UsageError, match=r"no build of zlib .* has left a record"):
        trace(subject)
    subject.store.ensure("artifacts", value, "it", make)
    found = trace(subject)
    assert "older artifact" in found.source.what
    assert [(phase.name, phase.status) for phase in found.phases] == [("configure", "done")]


def test_a_native_target_has_no_record(subject: Subject) -> None:
    with pytest.raises(UsageError, match="nothing is emulated"):
        trace(read(Request("zlib", "amd64"), subject.store))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--top", "0"], "--top must be a number from 1 on, not '0'"),
        (["--top", "many"], "--top must be a number from 1 on, not 'many'"),
        (["--mode", "emulate"], "unknown mode 'emulate'; did you mean 'emulated'?"),
        ([], "no build of zlib 1.3.1 for armhf has left a record"),
    ],
)
def test_usage(subject: Subject, capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    with pytest.raises(SystemExit) as end:
        Program(namespace=collection("xbuild", [trace_task])).run(["xbuild", "trace", "zlib", *words])
    assert end.value.code == 2
    assert said in capsys.readouterr().err


def test_the_command(subject: Subject, capsys: pytest.CaptureFixture[str]) -> None:
    record(subject.place.records, "01-configure", EXECS, cpu_json())
    states(subject, configure="done")
    program = Program(namespace=collection("xbuild", [trace_task]))
    program.run(["xbuild", "trace", "zlib", "--json"])
    value = json.loads(capsys.readouterr().out)
    assert value["totals"]["execs"] == {"native": 12, "emulated": 10}
    assert {known["program"] for known in value["programs"]} == {SED, PERL, CC, "made by the build: conftest"}


