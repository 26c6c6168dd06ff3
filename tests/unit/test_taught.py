"""What builds have taught: kept, heeded, forgotten; and a build that begins anew, as often as it takes."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from xbuild.base.errors import LateError, UsageError
from xbuild.build import phases, taught
from xbuild.build.executor import Event
from xbuild.build.ground import Ground
from xbuild.build.plan import Step
from xbuild.build.prepared import prepared
from xbuild.build.request import Here, Request
from xbuild.build.subject import Subject, _as_asked, read
from xbuild.build.work import Timed, Work
from xbuild.dispatcher.table import Entry
from xbuild.formats.debian import Tree
from xbuild.model.load import load_policy, load_toolchain
from xbuild.model.recipe import Twins
from xbuild.store.carry import STAYING
from xbuild.store.local import KINDS, Store
from xbuild.store.usage import described
from xbuild.twins.pairing import Pairs, Refusal, Twin, require_names

PROJECT = Path(__file__).resolve().parents[2]
PROGRAMS = ("/usr/bin/gawk", "/usr/bin/perl", "/usr/bin/python3.13")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("XBUILD_PROJECT", str(PROJECT))
    return Store(tmp_path / "store")


@pytest.fixture
def subject(store: Store) -> Subject:
    return read(Request("zlib", "armhf"), store)


def tree(place: Path, version: str = "5.40.1-6") -> Tree:
    """A root with perl of this version."""
    info = place / "var/lib/dpkg/info"
    info.mkdir(parents=True, exist_ok=True)
    text = f"Package: perl-base\nStatus: install ok installed\nVersion: {version}\nArchitecture: armhf\n"
    (place / "var/lib/dpkg/status").write_text(text)
    (info / "perl-base.list").write_text("/usr/bin/perl\n")
    return Tree([place])


def late(*programs: str, phase: str = "compile") -> LateError:
    error = LateError("too late")
    error.programs, error.phase = frozenset(programs), phase
    return error


def test_it_is_kept_for_the_recipe_the_target_and_the_version(store: Store, subject: Subject, tmp_path: Path) -> None:
    root = tree(tmp_path / "root")
    assert taught.heeded(subject, root) == frozenset()
    for _ in range(2):
        taught.remember(subject, root, late("/usr/bin/perl", "/build/own"))
    (own, perl) = taught.of(subject)
    assert (perl.program, perl.package, perl.phase) == ("/usr/bin/perl", "perl-base 5.40.1-6", "compile")
    assert (own.program, own.package) == ("/build/own", "")
    assert taught.heeded(subject, root) == {"/usr/bin/perl", "/build/own"}
    assert "/usr/bin/perl (perl-base 5.40.1-6) runs emulated: in phase 'compile' of" in perl.line()
    for other in (Request("zlib", "arm64"), Request("lua", "armhf"), Request("zlib", "armhf", suite="bookworm")):
        assert taught.heeded(read(other, store), root) == frozenset()
    # Another mode is no other recipe; another version is tried again.
    assert taught.heeded(read(Request("zlib", "armhf", "distcc"), store), root) == {"/usr/bin/perl", "/build/own"}
    assert taught.heeded(subject, tree(tmp_path / "newer", "5.40.1-7")) == {"/build/own"}
    assert taught.forget(store, "zlib", "arm64") == []
    assert taught.forget(store, "zlib") == [own, perl]
    assert taught.of(subject) == []


def test_it_is_no_input_of_anything(subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(subject.roots), "inputs", lambda *_: {"packages": "these"})
    before = prepared(subject)
    taught.remember(subject, tree(tmp_path / "root"), late("/usr/bin/perl"))
    assert prepared(subject) == before


def test_what_is_damaged_is_told_and_goes(
    store: Store, subject: Subject, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tree(tmp_path / "root")
    for name in ("key.json", "about.json"):
        taught.remember(subject, root, late("/usr/bin/perl"))
        (one,) = taught.of(subject)
        file = store.entry(taught.KIND, one.key) / name
        file.write_text(file.read_text()[:-9])
        assert taught.heeded(subject, root) == frozenset()
        assert "is damaged and was ignored" in capsys.readouterr().err
        assert not file.parent.exists()
    (store.root / taught.KIND / "stray").write_text("")
    assert taught.of(subject) == []
    assert taught.of(subject) == []
    assert capsys.readouterr().err.count("stray is damaged") == 1


def test_a_store_that_takes_nothing_costs_time_only(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write = Path.write_text

    def full(path: Path, *words: Any, **more: Any) -> int:
        if path.name == "about.json":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return write(path, *words, **more)

    root = tree(tmp_path / "root")
    monkeypatch.setattr(Path, "write_text", full)
    taught.remember(subject, root, late("/usr/bin/perl"))
    assert "cannot remember that /usr/bin/perl must run emulated (disk full" in capsys.readouterr().err
    monkeypatch.undo()
    assert list((subject.store.root / "tmp").iterdir()) == []


def test_it_can_go_and_stays_here(store: Store, subject: Subject, tmp_path: Path) -> None:
    assert taught.KIND in KINDS
    assert taught.KIND in STAYING
    taught.remember(subject, tree(tmp_path / "root"), late("/usr/bin/perl"))
    ((_, _, value),) = store.finished(taught.KIND)
    assert described(value) == "zlib taught armhf trixie /usr/bin/perl"


class Tried(Work):
    """A build whose steps end as `ends` says, try by try: without an error, or with one."""

    def __init__(self, subject: Subject, ground: Any, timed: Timed, ends: Sequence[LateError | None]) -> None:
        super().__init__(subject, ground, timed)
        self.ends = list(ends)
        self.begun: list[tuple[int, tuple[str, ...]]] = []

    def run_steps(self, _wanted: Sequence[Step], first: int, _stop: int) -> phases.Progress:
        self.begun.append((first, tuple(entry.path for entry in self.ground.pairs.entries)))
        if error := self.ends.pop(0):
            raise error
        return phases.Progress(self.subject.place)


@pytest.fixture
def tries(subject: Subject, tmp_path: Path) -> Any:
    twins = tuple(Twin("t", path, "amd64", "p", "1", path) for path in PROGRAMS)
    pairs = Pairs(tuple(Entry(path, "") for path in PROGRAMS), twins, ())
    root = tree(tmp_path / "root")

    def made(*ends: LateError | None, start: str | None = None) -> tuple[Tried, list[Event]]:
        told: list[Event] = []
        asked = replace(subject, request=replace(subject.request, here=Here(start=start)))
        ground = Ground(SimpleNamespace(), root, None, pairs)  # type: ignore[arg-type]
        return Tried(asked, ground, Timed(told.append), ends), told

    return made


def test_each_try_has_fewer_twins_and_begins_with_the_unpacking(tries: Any, subject: Subject) -> None:
    gawk, perl, python = PROGRAMS
    work, told = tries(late(perl), late(gawk, phase="check"), None)
    work.run_through([], 2, 3)
    assert work.begun == [(2, PROGRAMS), (0, (gawk, python)), (0, (python,))]
    assert work.timed.begun_anew == [("compile", (perl,)), ("check", (gawk,))]
    assert [(event.kind, event.part, event.programs) for event in told] == [
        ("anew", "compile", (perl,)), ("anew", "check", (gawk,)),
    ]  # fmt: skip
    assert {one.program for one in taught.of(subject)} == {gawk, perl}
    assert {one.path for one in work.ground.pairs.refused if one.kind is Refusal.LATE} == {gawk, perl}


def test_marks_without_end_are_not_followed(tries: Any) -> None:
    """As a build that writes them into its record itself."""
    lies = [late(path, "/bin/other") for path in PROGRAMS] + [late("/bin/other")] * 9
    work, _ = tries(*lies)
    with pytest.raises(LateError):
        work.run_through([], 0, 3)
    assert len(work.begun) == len(PROGRAMS) + 1


def test_a_tree_that_the_user_goes_on_with_is_not_thrown_away(tries: Any, subject: Subject) -> None:
    work, told = tries(late(PROGRAMS[1]), None, start="compile")
    with pytest.raises(LateError) as caught:
        work.run_through([], 1, 3)
    assert caught.value.hint is not None
    assert "build zlib --target armhf " in caught.value.hint
    assert (len(work.begun), told) == (1, [])
    # The next one begins with it emulated.
    assert [one.program for one in taught.of(subject)] == [PROGRAMS[1]]
    work, _ = tries(late(PROGRAMS[1]), None, start="unpack")
    work.run_through([], 0, 3)
    assert [first for first, _ in work.begun] == [0, 0]


def test_what_the_user_wants_emulated_is_as_if_the_recipe_said_so(store: Store) -> None:
    asked = read(Request("zlib", "armhf", emulate=frozenset({"perl"})), store)
    assert asked.recipe.twins.remove == ("perl",)
    assert asked.command_line().endswith("--emulate perl")
    own = asked.recipe.model_copy(update={"twins": Twins(add=("perl", "gawk"), remove=("sed",))})
    request = Request("zlib", "armhf", emulate=frozenset({"perl"}))
    assert _as_asked(own, request).twins == Twins(add=("gawk",), remove=("perl", "sed"))


def test_a_name_that_takes_nothing_away_is_no_name() -> None:
    policy = load_policy(load_toolchain("armhf", PROJECT))
    assert policy is not None
    twins = [Twin("gcc", "/usr/bin/arm-linux-gnueabihf-gcc-14", "amd64", "gcc", "14", "/usr/bin/gcc")]
    require_names({"gcc", policy.group_of("gcc"), "arm-linux-gnueabihf-gcc-14"}, twins, policy)
    with pytest.raises(UsageError, match="no native tool is called 'gccc'; did you mean 'gcc'"):
        require_names({"gccc", "gcc"}, twins, policy)
