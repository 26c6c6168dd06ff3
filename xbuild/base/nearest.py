"""The nearest known name for a mistyped one."""

from __future__ import annotations

from collections.abc import Iterable

CLOSE = 0.6
"""Similarity from which a name is suggested, 0 to 1: the default of `difflib.get_close_matches`."""


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` with the nearest of `known`, or "" when none is near."""
    # Only here: most commands have no mistake in them.
    import difflib

    close = difflib.get_close_matches(str(word), list(known), n=1, cutoff=CLOSE)
    return f"; did you mean {close[0]!r}?" if close else ""
