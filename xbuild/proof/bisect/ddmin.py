"""The smallest set of things that makes a test fail: delta debugging; pure.

After "Simplifying and Isolating Failure-Inducing Input" (Zeller, Hildebrandt: IEEE Transactions on Software Engineering
28/2, 2002), with two changes. First each needed thing is looked for by halves, which finds a single one by some log2(n)
tests. And only complements are tested, never a small part alone ("Practical improvements to the minimizing delta
debugging algorithm", Hodovan, Kiss: ICSOFT-EA 2016): the result is 1-minimal all the same, and here a test of many
things is a cheap one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

Test = Callable[[frozenset[str]], bool]
"""Whether a set is bad: whether the fault that is looked for shows with it."""


def remembering(bad: Test) -> Test:
    """`bad`, asked only once for each set."""
    known: dict[frozenset[str], bool] = {}

    def ask(things: frozenset[str]) -> bool:
        if things not in known:
            known[things] = bad(things)
        return known[things]

    return ask


def smallest(things: Sequence[str], bad: Test) -> frozenset[str]:
    """A set of `things` that is bad, and of which no single member can be left out (1-minimal).

    All `things` together must be bad, none of them good; neither is tested. The first half of what is left is what is
    taken out first: put the things that cost little to do without at the beginning. If badness is monotonic (more is
    never better), the result of one member is found by at most log2(n) + 1 tests, rounded up.
    """
    ask = remembering(bad)
    kept, needed = list(things), list[str]()
    while len(needed) < len(kept) and not (needed and ask(frozenset(needed))):
        kept, found = _needed(kept, needed, ask)
        needed.append(found)
    return frozenset(needed if len(needed) < 2 else ddmin(needed, ask))


def _needed(kept: list[str], known: Sequence[str], bad: Test) -> tuple[list[str], str]:
    """Some of `kept`, which is bad, that still is; and a member, not in `known`, without which that is good.

    `known` must be good. Both hold all the time: `kept` is bad, and `kept` without `suspects` is good.
    """
    suspects = [thing for thing in kept if thing not in known]
    while len(suspects) > 1:
        half = suspects[: len(suspects) // 2]
        rest = _without(kept, half)
        if bad(frozenset(rest)):
            kept, suspects = rest, _without(suspects, half)
        else:
            suspects = half
    return kept, suspects[0]


def ddmin(things: Sequence[str], bad: Test) -> list[str]:
    """A 1-minimal bad part of `things`, which must be bad; by taking out ever smaller parts."""
    kept, count = list(things), 2
    while len(kept) > 1:
        for part in parts(kept, min(count, len(kept))):
            rest = _without(kept, part)
            if bad(frozenset(rest)):
                kept, count = rest, max(count - 1, 2)
                break
        else:
            if count >= len(kept):
                break
            count = 2 * count
    return kept


def parts(things: Sequence[str], count: int) -> list[Sequence[str]]:
    """`things` in `count` parts (at most as many as there are things) of the same size, give or take one."""
    marks = [len(things) * number // count for number in range(count + 1)]
    return [things[first:last] for first, last in pairwise(marks)]


def _without(things: Sequence[str], others: Sequence[str]) -> list[str]:
    unwanted = frozenset(others)
    return [thing for thing in things if thing not in unwanted]
