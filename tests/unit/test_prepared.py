"""What a build is made from."""

from __future__ import annotations

from dataclasses import replace

from xbuild.build.prepared import rules_digest
from xbuild.dispatcher.table import Entry
from xbuild.model.rules import Rules

GCC = Entry("/usr/bin/gcc", "/.xbuild/gcc", Rules(emulate_args=("-v",), set_env={"A": "b"}))
SED = Entry("/usr/bin/sed", "/.xbuild/sed", size=3)


def test_other_rules_of_the_policy_are_other_inputs() -> None:
    known = rules_digest([GCC, SED])
    for changed in (
        Rules(emulate_args=("-v", "-lm"), set_env={"A": "b"}),
        Rules(emulate_args=("-v",), set_env={"A": "c"}),
        Rules(emulate_args=("-v",), set_env={"A": "b"}, emulate_without=("-c",)),
    ):
        assert rules_digest([replace(GCC, rules=changed), SED]) != known


def test_what_decides_nothing_is_no_input() -> None:
    """The order of entries, and when the root was made."""
    assert rules_digest([replace(SED, ctime=(1, 2)), GCC]) == rules_digest([GCC, SED])
