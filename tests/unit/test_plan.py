from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xbuild.base.errors import UsageError
from xbuild.build.environment import phase_variables
from xbuild.build.plan import (
    Action,
    Done,
    Facts,
    artifact_value,
    directory_of,
    first_step,
    plan,
    steps,
    work_name,
)
from xbuild.model.load import load_presets, load_recipe, load_toolchain
from xbuild.model.phases import UNPACK, Phase, resolve_phases
from xbuild.model.recipe import Recipe

PROJECT = Path(__file__).parents[2]
ARMHF = load_toolchain("armhf", PROJECT)
RECIPE = load_recipe("zlib", ARMHF, PROJECT)
PHASES = resolve_phases(RECIPE, load_presets())
CONTENTS = {"root": {"libc6": "2.41-12"}, "native": {"cc1:/usr/libexec/cc1": "gcc-14 14.2.0-19 amd64"}}
MAKERS = {"layout": {"a.py": "0" * 64}, "packing": {"b.py": "0" * 64}}
NAMES = ["unpack", "configure", "compile", "install", "check"]


def value(**changes: Any) -> dict[str, Any]:
    """The inputs of a build of zlib, as `artifact_value` gives them; changes: its arguments."""
    arguments: dict[str, Any] = {"mode": "substituted", "patches": {"a.patch": "0" * 64}}
    arguments |= {"contents": CONTENTS, "makers": MAKERS}
    recipe, phases, toolchain = changes.pop("recipe", RECIPE), changes.pop("phases", PHASES), ARMHF
    return artifact_value(recipe, phases, toolchain, **{**arguments, **changes})


def keys(inputs: dict[str, Any], recipe: Recipe = RECIPE, phases: tuple[Phase, ...] = PHASES) -> list[str]:
    return [step.key for step in steps(recipe, phases, inputs)]


WANTED = steps(RECIPE, PHASES, value())


def done(*statuses: str) -> list[Done]:
    """The record of a work place whose first steps ended so."""
    return [Done(step.name, step.key, status) for step, status in zip(WANTED, statuses, strict=False)]


def verdicts(actions: list[Action]) -> list[tuple[str, str]]:
    return [(action.name, action.verdict) for action in actions]


def test_a_step_for_every_phase_and_the_unpacking() -> None:
    assert [step.name for step in WANTED] == NAMES
    assert [step.phase for step in WANTED] == [None, *PHASES]
    assert len({step.key for step in WANTED}) == len(WANTED)
    assert keys(value()) == [step.key for step in WANTED]


@pytest.mark.parametrize(
    "changed",
    [
        {"mode": "emulated"},
        {"patches": {"a.patch": "1" * 64}},
        {"patches": {}},
        {"contents": {**CONTENTS, "root": {"libc6": "2.41-13"}}},
        {"contents": {**CONTENTS, "native": {}}},
        {"makers": {**MAKERS, "layout": {}}},
        {"recipe": RECIPE.model_copy(update={"env": {"CFLAGS": "-O1"}})},
        {"recipe": RECIPE.model_copy(update={"version": "0"})},
    ],
    ids=str,
)
def test_shared_inputs_are_in_every_key(changed: dict[str, Any]) -> None:
    recipe = changed.get("recipe", RECIPE)
    assert set(keys(value(**changed), recipe)).isdisjoint(keys(value()))


def test_sources_are_in_every_key_and_their_addresses_in_none() -> None:
    (source,) = RECIPE.sources
    other = RECIPE.model_copy(update={"sources": (source.model_copy(update={"sha256": "0" * 64}),)})
    assert set(keys(value(), other)).isdisjoint(keys(value()))
    moved = RECIPE.model_copy(update={"sources": (source.model_copy(update={"mirrors": ("https://x.test/",)}),)})
    assert keys(value(), moved) == keys(value())


SCRIPTS = st.sampled_from([(number, what) for number in range(len(PHASES)) for what in ("script", "network")])


@settings(max_examples=30)
@given(SCRIPTS, st.text(min_size=1))
def test_a_phase_is_in_its_own_key_and_in_later_ones(change: tuple[int, str], text: str) -> None:
    number, what = change
    old = PHASES[number]
    new = Phase(old.name, old.script + text) if what == "script" else Phase(old.name, old.script, not old.network)
    phases = (*PHASES[:number], new, *PHASES[number + 1 :])
    before, after = keys(value()), keys(value(phases=phases), phases=phases)
    # The unpacking comes first, so phase 0 is step 1.
    assert after[: number + 1] == before[: number + 1]
    assert all(one != other for one, other in zip(after[number + 1 :], before[number + 1 :], strict=True))


def test_who_runs_a_phase_is_an_input() -> None:
    recipe = RECIPE.model_copy(update={"build": RECIPE.build.model_copy(update={"as_root": (PHASES[-1].name,)})})
    phases = (*PHASES[:-1], replace(PHASES[-1], root=True))
    before, after = keys(value()), keys(value(recipe=recipe, phases=phases), recipe, phases)
    assert after[:-1] == before[:-1]
    assert after[-1] != before[-1]
    assert value(recipe=recipe, phases=phases)["recipe"]["build"]["as-root"] == [PHASES[-1].name]
    # Who does not use it has the keys of an xbuild that could not.
    assert "as-root" not in value()["recipe"]["build"]


def test_jobs_and_the_epoch_are_no_inputs() -> None:
    few, many = (phase_variables(RECIPE, ARMHF, jobs) for jobs in (1, 64))
    assert {name for name in few if few[name] != many[name]} == {"JOBS"}
    known = value()
    assert (known["variables"]["JOBS"], known["environment"]["SOURCE_DATE_EPOCH"]) == ("0", "0")


def test_what_says_nothing_about_the_result_is_no_input() -> None:
    told = RECIPE.model_copy(update={"summary": "Other words", "homepage": "https://x.test/", "idle_limit": 1})
    assert value(recipe=told) == value()


def test_value_is_not_changed_by_planning() -> None:
    inputs = value()
    before = copy.deepcopy(inputs)
    steps(RECIPE, PHASES, inputs)
    assert inputs == before


CUT = "was cut short, and what it left half written might count as finished"


@pytest.mark.parametrize(
    ("statuses", "first", "reason"),
    [
        ((), 0, "nothing has been done yet"),
        (("failed",), 0, "'unpack' failed before"),
        (("done",), 1, "it was interrupted here"),
        (("done", "failed"), 1, "'configure' failed before"),
        (("done", "done"), 2, "it was interrupted here"),
        (("done", "done", "failed"), 2, "'compile' failed before"),
        (("done", "done", "stopped"), 2, "it was interrupted here"),
        (("done", "done", "begun"), 0, f"'compile' {CUT}"),
        (("done",) * 5, 5, "all phases were done; only checking and packing is left"),
    ],
)
def test_first_step(statuses: tuple[str, ...], first: int, reason: str) -> None:
    assert first_step(WANTED, done(*statuses), None) == (first, reason)


@pytest.mark.parametrize("changed", [0, 1, 2])
def test_a_changed_step_starts_anew(changed: int) -> None:
    records = done("done", "done", "done")
    records[changed] = Done(records[changed].name, "another key", "done")
    first, reason = first_step(WANTED, records, None)
    assert first == 0
    assert reason == f"inputs of {NAMES[changed]!r} changed, so all starts anew"


def test_a_failed_step_whose_inputs_changed_runs_in_the_tree_that_is_there() -> None:
    # That is what the user does: mends the phase and builds again.
    records = [*done("done", "done"), Done("compile", "another key", "failed")]
    assert first_step(WANTED, records, None)[0] == 2


@pytest.mark.parametrize("start", NAMES[:3])
def test_from_a_phase_that_can_be_reached(start: str) -> None:
    for status in ("failed", "begun"):
        assert first_step(WANTED, done("done", "done", status), start) == (NAMES.index(start), f"--from {start}")


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ("cmpile", "no phase 'cmpile' in this recipe; did you mean 'compile'?"),
        ("install", "cannot start from 'install': 'compile' has not been done yet, or its inputs changed"),
        ("check", "cannot start from 'check': 'compile' has not been done yet, or its inputs changed"),
    ],
)
def test_from_a_phase_that_cannot_be_reached(start: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        first_step(WANTED, done("done", "done", "failed"), start)
    assert caught.value.message == message
    assert caught.value.hint


def test_from_after_a_change() -> None:
    records = [*done("done"), Done("configure", "another key", "done"), *done("done", "done", "done")[2:]]
    with pytest.raises(UsageError, match="'configure' has not been done yet, or its inputs changed"):
        first_step(WANTED, records, "install")


def test_plan_of_nothing_done() -> None:
    facts = Facts({"target root armhf": True, "twins": False}, {"source 0123": False})
    actions = plan(WANTED, facts)
    assert verdicts(actions) == [
        ("target root armhf", "skip"),
        ("twins", "run"),
        ("source 0123", "run"),
        *((name, "run") for name in NAMES),
        ("check outputs", "run"),
        ("pack", "run"),
    ]
    assert [action.reason for action in actions[3:5]] == ["nothing has been done yet", "'unpack' runs"]


def test_plan_resumes() -> None:
    actions = plan(WANTED, Facts(done=tuple(done("done", "done", "failed"))))
    assert [action.verdict for action in actions] == ["skip", "skip", "resume", "run", "run", "run", "run"]
    assert actions[2].reason == "'compile' failed before"


def test_plan_of_a_finished_build_does_nothing() -> None:
    actions = plan(WANTED, Facts({"twins": True}, artifact=True))
    assert {action.verdict for action in actions} == {"skip"}
    assert [action.name for action in actions] == ["twins", *NAMES]


def test_plan_of_a_finished_build_with_from() -> None:
    facts = Facts(done=tuple(done(*["done"] * 5)), artifact=True)
    actions = plan(WANTED, facts, start="install")
    assert verdicts(actions)[2:4] == [("compile", "skip"), ("install", "resume")]
    assert actions[3].reason == "--from install"


def test_plan_tells_the_first_change() -> None:
    actions = plan(WANTED, Facts(changes=("recipe.version: '1' -> '2'", "more")))
    assert actions[0].reason == "nothing has been done yet; recipe.version: '1' -> '2'"


@given(st.lists(st.sampled_from(["done", "failed"]), max_size=5))
def test_every_step_is_planned_once(statuses: list[str]) -> None:
    actions = plan(WANTED, Facts(done=tuple(done(*statuses))))
    assert [action.name for action in actions] == [*NAMES, "check outputs", "pack"]
    assert [action.verdict for action in actions] == sorted(
        (action.verdict for action in actions), key=["skip", "resume", "run"].index
    )


def test_work_places_do_not_meet() -> None:
    suites = [ARMHF, ARMHF.with_suite("bookworm")]
    found = {work_name(RECIPE, one, mode) for one in suites for mode in ("substituted", "emulated")}
    assert len(found) == 4
    assert work_name(RECIPE, ARMHF, "emulated") == "zlib-armhf-trixie-emulated"


@pytest.mark.parametrize(
    ("recipe", "phase", "directory"),
    [
        ("zlib", "prepare", "/build/src"),
        ("zlib", "compile", "/build/src"),
        ("brotli", "fetch", "/build/src"),
        ("brotli", "compile", "/build/obj"),
        ("brotli", "check", "/build/obj"),
    ],
)
def test_directory_of(recipe: str, phase: str, directory: str) -> None:
    assert directory_of(load_recipe(recipe, ARMHF, PROJECT), phase) == directory


def test_unpack_is_no_name_of_a_phase() -> None:
    assert UNPACK not in {phase.name for phase in PHASES}
