"""Delta debugging: what it finds is bad, nothing of it can be left out, and it asks little."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from xbuild.proof.bisect.ddmin import ddmin, parts, remembering, smallest

Set = frozenset[str]

NAMES = [f"t{number:02d}" for number in range(31)]


class Fault:
    """A fault that shows when all of one of `causes` are there; counts how often it was asked, and for what."""

    def __init__(self, *causes: Collection[str]) -> None:
        self.causes = [frozenset(cause) for cause in causes]
        self.asked: list[Set] = []

    def __call__(self, things: Set) -> bool:
        self.asked.append(things)
        return any(cause <= things for cause in self.causes)


def is_minimal(found: Set, bad: Callable[[Set], bool]) -> bool:
    return bad(found) and not any(bad(found - {one}) for one in found)


@pytest.mark.parametrize("culprit", NAMES)
def test_a_single_culprit_takes_as_many_tests_as_halving_does(culprit: str) -> None:
    fault = Fault({culprit})
    assert smallest(NAMES, fault) == {culprit}
    assert len(fault.asked) <= math.ceil(math.log2(len(NAMES))) + 1
    # The last answer is the proof: it alone is bad. If it was among the first, that was seen on the way.
    assert frozenset({culprit}) in fault.asked


def test_what_is_first_is_taken_out_first() -> None:
    fault = Fault({NAMES[-1]})
    smallest(NAMES, fault)
    # What was not needed stays away, so the answer needs no further test.
    assert fault.asked == [set(NAMES[15:]), set(NAMES[23:]), set(NAMES[27:]), set(NAMES[29:]), set(NAMES[30:])]


def test_most_tests_of_a_cheap_culprit_keep_most_things() -> None:
    fault = Fault({NAMES[0]})
    smallest(NAMES, fault)
    assert [len(things) for things in fault.asked] == [16, 24, 28, 30, 1]


def test_two_culprits_that_only_together_are_bad() -> None:
    fault = Fault({"t03", "t27"})
    assert smallest(NAMES, fault) == {"t03", "t27"}
    assert len(fault.asked) < 20


def test_two_culprits_of_which_each_is_bad_give_one() -> None:
    assert smallest(NAMES, Fault({"t03"}, {"t27"})) in ({"t03"}, {"t27"})


def test_all_can_be_needed() -> None:
    assert smallest(NAMES[:5], Fault(NAMES[:5])) == set(NAMES[:5])


def test_a_single_thing_is_the_answer_without_a_question() -> None:
    fault = Fault({"t00"})
    assert smallest(["t00"], fault) == {"t00"}
    assert fault.asked == []


def test_nothing_is_asked_twice_nor_of_all_nor_of_none() -> None:
    fault = Fault({"t01", "t30"}, {"t04", "t05", "t06"})
    smallest(NAMES, fault)
    assert len(fault.asked) == len(set(fault.asked))
    assert frozenset(NAMES) not in fault.asked
    assert frozenset() not in fault.asked


_causes = st.lists(st.sets(st.sampled_from(NAMES), min_size=1, max_size=5), min_size=1, max_size=4)


@given(_causes, st.permutations(NAMES))
def test_the_result_is_minimal(causes: list[set[str]], names: list[str]) -> None:
    fault = Fault(*causes)
    assert is_minimal(smallest(names, fault), fault)
    assert is_minimal(frozenset(ddmin(names, fault)), fault)


@given(st.sets(st.integers(1, 2**6 - 2)))
@example({0b001000, 0b110000})
def test_also_where_more_can_be_better(good: set[int]) -> None:
    """Any function of the sets of six things, only that all are bad and none are good.

    In the example, what halving finds to be needed is not all needed in the end.
    """
    names = NAMES[:6]

    def bad(things: Set) -> bool:
        number = sum(1 << names.index(thing) for thing in things)
        return number != 0 and number not in good

    found = smallest(names, bad)
    assert is_minimal(found, bad)


@given(st.lists(st.integers().map(str), min_size=1, unique=True), st.data())
def test_parts_are_all_and_even(things: list[str], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(things)))
    found = parts(things, count)
    assert [thing for part in found for thing in part] == things
    assert len(found) == count
    assert max(map(len, found)) - min(map(len, found)) <= 1


def test_remembering() -> None:
    fault = Fault({"a"})
    ask = remembering(fault)
    assert [ask(frozenset("ab")), ask(frozenset("b")), ask(frozenset("ba"))] == [True, False, True]
    assert len(fault.asked) == 2
