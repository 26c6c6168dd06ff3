"""The order of a bisection, played through in a model of builds; what it says; and what it compares."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection
from types import SimpleNamespace
from typing import Any, cast

import pytest

from xbuild.base import paths
from xbuild.base.errors import CheckError, PhaseError
from xbuild.base.yamlfile import load_model
from xbuild.build.plan import Step
from xbuild.dispatcher.table import Entry
from xbuild.model.load import load_recipe, load_toolchain
from xbuild.model.policy import Policy
from xbuild.proof.bisect.runs import Outcome, Run, Runner
from xbuild.proof.bisect.search import Bisection
from xbuild.proof.bisect.trees import Change, Item, Noise, changes, printable
from xbuild.proof.bisect.verdict import Bisected, Culprit, Finding
from xbuild.proof.compare.verdict import Found, Verdict
from xbuild.twins.pairing import Pairs, Twin

TOOLS = ["awk", "cat", "grep", "make", "sed", "tar", "touch"]
POLICY = load_model(paths.POLICIES / "default.yml", Policy)

State = dict[str, str]
Phase = Callable[[State, frozenset[str]], object]
"""Changes the state, with these twins running natively; fails by raising Failed. Names with a dot are in no digest."""


class Failed(Exception):
    """A phase fails."""


class Model:
    """What a Runner does, for phases that are Python functions."""

    def __init__(self, *phases: Phase) -> None:
        self.phases = phases
        self.steps = [Step(name, "") for name in ("unpack", "configure", "compile", "install")[: len(phases)]]
        self.title = "thing 1 for armhf"
        self.state: State = {}
        self.saved: dict[int, State] = {0: {}}
        self.stage = SimpleNamespace(save=self._save)
        self.subject = SimpleNamespace(roots=SimpleNamespace(policy=POLICY))
        known = tuple(Twin("sed", f"/usr/bin/{name}", "amd64", name, "1", f"/usr/bin/{name}") for name in TOOLS)
        self.every = Pairs(tuple(Entry(twin.target_path, "") for twin in known), known, ())
        self.tries: list[tuple[int, Collection[str]]] = []
        self.kept: dict[str, Any] = {}
        self.taken: dict[str, dict[str, str | None]] = {}

    def _save(self, number: int, *, also: int | None) -> None:
        self.saved = {key: value for key, value in self.saved.items() if key in (0, also)}
        if number:
            self.saved[number] = dict(self.state)

    def run(self, twins: Collection[str], first: int, last: int) -> Outcome:
        for number in range(first, last + 1):
            self.state = {} if number == 0 else self.state
            try:
                self.phases[number](self.state, frozenset(path.rpartition("/")[2] for path in twins))
            except Failed as failed:
                return Outcome(None, f"{self.steps[number].name} failed", (str(failed),))
        tree = {path: Item("f", "644", text) for path, text in self.state.items() if not path.startswith(".")}
        return Outcome(tree)

    def substituted(self) -> Run:
        outcomes: list[Outcome] = []
        while len(outcomes) < len(self.phases) and (not outcomes or outcomes[-1].tree is not None):
            outcomes.append(self.run(TOOLS, len(outcomes), len(outcomes)))
        costs = {f"/usr/bin/{name}": float(len(name)) for name in TOOLS}
        return Run(tuple(outcomes), ({}, *[costs] * (len(outcomes) - 1)))

    def emulated(self, number: int) -> Outcome:
        return self.run((), number, number)

    def with_only(self, wanted: Collection[str], _of: int, first: int, last: int) -> Outcome:
        self.tries.append((first, wanted))
        self.state = dict(self.saved[first])
        return self.run(wanted, first, last)

    def put_by(self, name: str) -> None:
        self.kept[name] = dict(self.state)

    def take(self, name: str, paths: Collection[str]) -> None:
        self.taken[name] = {path: self.state.get(path) for path in paths}

    def inside(self, paths: Collection[str]) -> dict[str, Found]:
        both = {path: (self.taken["right"].get(path), self.taken["wrong"].get(path)) for path in paths}
        return {path: Found(Verdict.DIFFERENT, pair) for path, pair in both.items()}  # type: ignore[arg-type]

    def forget(self) -> None:
        self.kept.clear()

    def find(self, *, objects: bool = True) -> tuple[Finding | None, list[str]]:
        """What a bisection finds, and what it takes for noise."""
        search = Bisection(cast("Runner", self), objects=objects)
        return search.find(), search.noise


def culprits(found: Finding | None) -> list[str]:
    assert found is not None
    return [culprit.name for culprit in found.culprits]


def nothing(_state: State, _twins: frozenset[str]) -> None:
    """A phase that does nothing."""


def writes(path: str, text: str, *faulty: str, wrong: str = "wrong") -> Phase:
    """A phase that writes a file, with `wrong` in it if all of `faulty` run natively."""

    def phase(state: State, twins: frozenset[str]) -> None:
        state[path] = wrong if faulty and twins >= set(faulty) else text

    return phase


def both(*phases: Phase) -> Phase:
    """A phase that does what all of these do."""
    return lambda state, twins: [phase(state, twins) for phase in phases]


def fails_if(condition: Callable[[State, frozenset[str]], object]) -> Phase:
    """A phase that fails under a condition."""

    def phase(state: State, twins: frozenset[str]) -> None:
        if condition(state, twins):
            raise Failed("oh")

    return phase


def test_nothing_differs() -> None:
    assert Model(nothing, writes("a", "1"), writes("b", "2")).find() == (None, [])


@pytest.mark.parametrize("name", TOOLS)
def test_one_culprit_in_one_phase(name: str) -> None:
    model = Model(nothing, writes("a", "1"), writes("b", "2", name), writes("c", "3", "make", "cat"))
    found, noise = model.find()
    assert culprits(found) == [name]
    assert found is not None
    assert (found.phase, found.start, found.files, found.others) == (
        "compile", "compile", {"b": "other contents"}, False,
    )  # fmt: skip
    assert {start for start, _ in model.tries} == {2}
    # The emulated build has not gone further than it had to.
    assert "c" not in model.state
    assert noise == []
    assert (model.kept["right"]["b"], model.kept["wrong"]["b"]) == ("2", "wrong")


def test_twins_that_cost_little_to_do_without_go_first() -> None:
    model = Model(nothing, writes("a", "1", "awk"))
    model.find()
    assert [sorted(twins) for _, twins in model.tries[:2]] == [
        [f"/usr/bin/{name}" for name in names] for names in (TOOLS, ["grep", "make", "tar", "touch"])
    ]


def test_two_that_only_together_are_bad() -> None:
    assert culprits(Model(nothing, writes("a", "1", "awk", "touch")).find()[0]) == ["awk", "touch"]


def test_two_of_which_each_is_bad() -> None:
    model = Model(nothing, both(writes("a", "1", "awk"), writes("b", "1", "touch")))
    found, _ = model.find()
    assert culprits(found) in (["awk"], ["touch"])
    assert found is not None
    assert found.others is True
    # What is kept shows the answer, though later tries went wrong too.
    wrong = [name for name, path in (("awk", "a"), ("touch", "b")) if model.kept["wrong"][path] == "wrong"]
    assert wrong == culprits(found)


def test_a_failure_counts_more_than_an_earlier_difference() -> None:
    fails = fails_if(lambda _, twins: "sed" in twins)
    found, _ = Model(nothing, writes("log", "1", "cat"), both(writes("b", "2"), fails)).find()
    assert culprits(found) == ["sed"]
    assert found is not None
    assert (found.phase, found.start, found.files, found.lines) == ("compile", "compile", {}, ("oh",))


def test_a_failure_that_an_earlier_difference_makes() -> None:
    fails = fails_if(lambda state, _: state["header"] == "wrong")
    found, _ = Model(nothing, writes("header", "1", "cat"), fails).find()
    assert culprits(found) == ["cat"]
    assert found is not None
    assert (found.phase, found.start) == ("compile", "configure")


def test_what_is_in_no_digest_is_repeated_from_the_beginning() -> None:
    def compiles(state: State, _twins: frozenset[str]) -> None:
        state["out"] = "made" if state[".time"] == "wrong" else "kept"

    model = Model(nothing, writes(".time", "old", "touch"), compiles)
    found, _ = model.find()
    assert culprits(found) == ["touch"]
    assert found is not None
    assert (found.phase, found.start) == ("compile", "unpack")
    # One try from the emulated state showed that it is none to start from.
    assert [start for start, _ in model.tries].count(2) == 1


def test_only_what_is_installed() -> None:
    def installs(state: State, _twins: frozenset[str]) -> None:
        state["dest/b"] = state["b"]

    phases = nothing, writes("a", "1", "cat"), writes("b", "1", "sed"), installs
    found, _ = Model(*phases).find(objects=False)
    assert culprits(found) == ["sed"]
    assert found is not None
    # From where trees begin to differ: of that one is no part, but it might have been.
    assert (found.phase, found.start, found.files) == ("install", "configure", {"dest/b": "other contents"})
    assert Model(*phases[:3], nothing).find(objects=False)[0] is None


def test_noise_is_left_out() -> None:
    count = itertools.count()

    def noisy(state: State, _twins: frozenset[str]) -> None:
        state["stamp"] = str(next(count))
        state[f"tmp/x{next(count)}.tmp"] = ""

    found, noise = Model(nothing, both(noisy, writes("a", "1")), both(noisy, writes("b", "1", "sed"))).find()
    assert culprits(found) == ["sed"]
    assert "stamp" in noise
    model = Model(nothing, noisy)
    assert model.find()[0] is None
    assert model.tries == []


def test_noise_of_emulation_alone_is_found_on_the_way() -> None:
    count = itertools.count()

    def noisy(state: State, twins: frozenset[str]) -> None:
        state["odd"] = "fast" if len(twins) == len(TOOLS) else str(next(count))

    model = Model(nothing, noisy, writes("a", "1"))
    assert model.find() == (None, ["odd"])
    assert model.kept == {}
    # It has gone on in the emulated state.
    assert model.state["odd"] != "fast"
    model = Model(nothing, both(noisy, writes("a", "1", "tar")), writes("b", "1"))
    found, noise = model.find()
    assert culprits(found) == ["tar"]
    assert noise == ["odd"]
    assert found is not None
    assert found.files == {"a": "other contents"}


def test_a_recipe_that_fails_emulated() -> None:
    with pytest.raises(PhaseError, match="'configure' fails emulated too, so no twin is to blame"):
        Model(nothing, fails_if(lambda *_: True)).find()
    with pytest.raises(PhaseError, match="'configure' fails in the emulated build only"):
        Model(nothing, fails_if(lambda _, twins: not twins)).find()


def test_what_happens_by_chance_is_nobodys_fault() -> None:
    count = itertools.count()
    with pytest.raises(CheckError, match="'configure' failed in one of two builds of the same"):
        Model(nothing, fails_if(lambda *_: next(count) == 0)).find()

    # Both substituted builds are alike, all that comes later is not.
    def later(state: State, _twins: frozenset[str]) -> None:
        state["a"] = "1" if next(count) < 2 else "2"

    count = itertools.count()
    with pytest.raises(CheckError, match="'configure' differs from the emulated build, but not each time") as caught:
        Model(nothing, later).find()
    assert caught.value.details == ("a",)


def test_emulation_that_fails_only_sometimes() -> None:
    runs: list[frozenset[str]] = []

    def phase(_state: State, twins: frozenset[str]) -> None:
        runs.append(twins)
        if twins or runs.count(frozenset()) > 1:
            raise Failed("oh")

    with pytest.raises(CheckError, match="'configure' fails, but not each time"):
        Model(nothing, phase).find()


ITEM = Item("f", "644", "aa")


@pytest.mark.parametrize(
    ("right", "wrong", "words"),
    [
        (ITEM, None, "is missing"),
        (None, ITEM, "should not be there"),
        (ITEM, Item("f", "600", "aa"), "mode 600, not 644"),
        (ITEM, Item("f", "600", "bb"), "mode 600, not 644; other contents"),
        (ITEM, Item("d", "644", ""), "is a directory, not a file"),
        (Item("l", "777", "a"), Item("l", "777", "b"), "leads to b, not a"),
        (ITEM, Item("p", "644", ""), "is something else, not a file"),
    ],
)
def test_a_change_in_words(right: Item | None, wrong: Item | None, words: str) -> None:
    assert str(Change(right, wrong)) == words


def test_noise_covers_what_it_has_seen_and_names_of_the_same_family() -> None:
    noise = Noise()
    noise.learn(changes({"a": ITEM, "t/x1.o": ITEM}, {"a": Item("f", "644", "bb"), "t/x2.o": ITEM}))
    one = {"a": ITEM, "t/x3.o": ITEM, "t/y.c": ITEM, "b/x4.o": ITEM, "t/same.o": ITEM}
    other = {"t/same.o": Item("f", "600", "aa")}
    assert set(noise.without(changes(one, other))) == {"t/y.c", "b/x4.o", "t/same.o"}


def test_any_name_can_be_printed() -> None:
    assert printable(b"a\xff\xc3\xa4".decode(errors="surrogateescape")) == "a\ufffd\xe4"


def verdict(*paths_: str, **more: Any) -> Bisected:
    """A verdict about zlib with these culprits."""
    toolchain = load_toolchain("armhf", paths.PACKAGE.parent)
    recipe = load_recipe("zlib", toolchain, paths.PACKAGE.parent)
    found = tuple(Culprit(path, "tool", more.pop("group", None), "pack", "1-2", "amd64") for path in paths_)
    values: dict[str, Any] = {
        "phase": "compile", "start": "compile", "culprits": found, "suspects": 9, "files": {"src/a": "other contents"},
        "message": "", "lines": (), "others": False, "kept": {}, **more,
    }  # fmt: skip
    finding = Finding(**values) if paths_ else None
    return Bisected("zlib 1 for armhf", "zlib --target armhf", recipe, "armhf", finding, [], 5, 2.0)


def test_what_a_verdict_says() -> None:
    assert verdict("/usr/bin/sed").lines() == [
        "zlib 1 for armhf: phase 'compile' differs from the emulated build; "
        "of the 9 twins in use, this one is to blame:",
        "  /usr/bin/sed  (pack 1-2, amd64)",
        "(5 tries, 2.0 s)",
        "1 file of the build's tree is wrong:",
        "  src/a: other contents",
        "To build without it:",
        "  once:           invoke build zlib --target armhf --without /usr/bin/sed",
        "  in the recipe:  twins: {remove: [sed]}",
    ]


def test_what_a_verdict_about_two_says() -> None:
    more = {"start": "unpack", "others": True, "files": {f"f{number:02d}": "is missing" for number in range(12)}}
    lines = verdict("/usr/bin/as", "/usr/bin/ld", group="compilers", **more).lines()
    assert "these 2 together are to blame:" in lines[0]
    assert "(5 tries, repeated from 'unpack', since that has a part in it, 2.0 s)" in lines
    assert "12 files of the build's tree are wrong:" in lines
    assert "  ... and 2 more" in lines
    assert "Without them the phase goes wrong too: there are other culprits. Bisect again without them." in lines
    assert lines[-2:] == [
        "  once:           invoke build zlib --target armhf --without /usr/bin/as,/usr/bin/ld",
        "  in the recipe:  twins: {remove: [as, ld]}    # takes all of the compilers away",
    ]


def test_what_a_verdict_about_a_failure_says() -> None:
    lines = verdict("/usr/bin/sed", files={}, message="it failed", lines=("oh", "no")).lines()
    assert "phase 'compile' fails; of the 9" in lines[0]
    assert lines[3:6] == ["it failed", "  oh", "  no"]


def test_what_a_verdict_says_of_the_inside_of_packages() -> None:
    deb = Found(Verdict.DIFFERENT, ("Depends",), (("DEBIAN/control", Found(Verdict.DIFFERENT, ("Depends",))),))
    known = verdict("/usr/bin/sed", files={"dest/a.deb": "other contents"}, inside={"dest/a.deb": deb})
    lines = known.lines()
    place = lines.index("  dest/a.deb: other contents")
    assert lines[place + 1 : place + 3] == ["  in dest/a.deb:", "    DEBIAN/control: different (Depends)"]
    assert known.as_json()["files"][0]["inside"]["members"][0]["name"] == "DEBIAN/control"


def test_the_inside_is_of_the_smallest_set() -> None:
    model = Model(nothing, writes("a.deb", "right", "sed"))
    found, _ = model.find()
    assert found is not None
    assert found.inside == {"a.deb": Found(Verdict.DIFFERENT, ("right", "wrong"))}


def test_what_a_verdict_about_nothing_says() -> None:
    known = verdict()
    known.noise = ["src/log"]
    assert known.lines() == [
        "zlib 1 for armhf: no difference between the substituted and the emulated build, "
        "so no twin is to blame (2.0 s)",
        "Left out of the comparison, since two runs of the same differ there (not reproducible):",
        "  src/log",
    ]
    assert known.as_json() == {
        "recipe": "zlib", "version": known.recipe.version, "target": "armhf", "status": "same", "culprits": [],
        "noise": ["src/log"], "tries": 5, "seconds": 2.0,
    }  # fmt: skip
