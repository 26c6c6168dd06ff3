"""Rules of a policy, put together for one program."""

from __future__ import annotations

from typing import Any

import pytest

from xbuild.model.rules import Rules, together


def values(start: str) -> dict[str, Any]:
    """For each rule."""
    return {**{name: (f"{start}{name}", "{x}") for name in Rules.model_fields}, "set_env": {start: "{x}y", "Z": start}}


def test_rules_of_several_places_come_one_behind_the_other() -> None:
    found = together([Rules(**values("A")), Rules(), Rules(**values("B"))], lambda text: text.replace("{x}", "filled"))
    for name, words in found.lists():
        if name == "set_env":
            assert words == ("A=filledy", "B=filledy", "Z=B")
        else:
            assert words == (f"A{name}", "filled", f"B{name}", "filled")


def test_words_that_are_filled_with_nothing_are_left_out() -> None:
    assert together([Rules(add_args=("{x}", "-{x}"))], lambda text: text.replace("{x}", "")).add_args == ("-",)


@pytest.mark.parametrize("name", Rules.model_fields)
def test_each_rule_is_told(name: str) -> None:
    """The last one together with the program that it leads to."""
    rules = Rules(**{name: values("A")[name]})
    words = dict(rules.lists())[name]
    assert [line.endswith(f" {' '.join(words)}") for line in rules.told()] == [True] * (name != "target_width_args")
