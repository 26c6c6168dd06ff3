"""What crosses between who wants a build and what runs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xbuild.base.errors import CheckError, LateError, MachineError, PhaseError, RecipeError, UsageError, XbuildError
from xbuild.build.build import result_of
from xbuild.build.executor import Event, Executor, Failure, Order, Outcome, failure_of, unheard
from xbuild.build.executors import MachineExecutor, SandboxExecutor, executor_of
from xbuild.build.modes.table import MODES
from xbuild.build.request import Here, Request
from xbuild.build.subject import read
from xbuild.build.wire import as_json, from_json
from xbuild.store.local import Store

PROJECT = Path(__file__).resolve().parents[2]
T = TypeVar("T")

# Seconds and counts as they are measured: JSON has no infinity, and says nothing of how exact a number is.
SECONDS = st.floats(min_value=0, max_value=1e9, allow_nan=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
HERE = st.builds(Here, st.integers(0, 999), st.none() | TEXT, st.booleans(), st.booleans())
REQUESTS = st.builds(
    Request,
    recipe=TEXT,
    target=TEXT,
    mode=TEXT,
    suite=st.none() | TEXT,
    root=st.none() | TEXT,
    without=st.frozensets(TEXT),
    emulate=st.frozensets(TEXT),
    grouped=st.booleans(),
    servers=st.lists(TEXT, max_size=3).map(tuple),
    here=HERE,
)
FAILURES = st.builds(Failure, TEXT, st.integers(1, 130), TEXT, st.lists(TEXT).map(tuple), st.none() | TEXT)
KINDS = st.sampled_from(["began", "ended", "failed", "warning", "anew"])
TEXTS = st.lists(TEXT, max_size=3).map(tuple)
JSON = st.recursive(st.none() | st.booleans() | st.integers() | TEXT, lambda inner: st.dictionaries(TEXT, inner))
CROSSING = (
    REQUESTS
    | st.builds(Order, REQUESTS, st.none() | TEXT)
    | st.builds(Event, KINDS, TEXT, st.none() | SECONDS, st.none() | TEXT, TEXT, TEXTS)
    | FAILURES
    | st.builds(
        Outcome,
        st.sampled_from(["built", "up-to-date", "failed"]),
        st.none() | TEXT,
        st.dictionaries(TEXT, JSON),
        st.lists(st.tuples(TEXT, SECONDS), max_size=3).map(tuple),
        st.none() | FAILURES,
        st.lists(st.tuples(TEXT, TEXTS), max_size=3).map(tuple),
    )
)


def crossed(value: T) -> T:
    """`value` as it arrives on another machine."""
    return from_json(type(value), json.loads(json.dumps(as_json(value))))


@given(CROSSING)
def test_what_crosses_arrives_as_it_was(value: Any) -> None:
    assert crossed(value) == value


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"recipe": "a"}, "target: Field required"),
        ({"recipe": "a", "target": 5}, "target: Input should be a valid string"),
        ({"recipe": "a", "target": "b", "here": {"jobs": "2"}}, "here.jobs: Input should be a valid integer"),
        ([], "Input should be"),
    ],
)
def test_what_is_no_request_is_an_error_that_says_why(value: Any, said: str) -> None:
    with pytest.raises(UsageError, match="this is no request of a build") as caught:
        from_json(Request, value)
    assert any(said in line for line in caught.value.details)


@pytest.mark.parametrize("kind", [PhaseError, CheckError, MachineError, RecipeError, LateError])
def test_an_error_is_the_same_on_the_other_side(kind: type[XbuildError]) -> None:
    error = kind("what", details=["a", "b"], hint="do this")
    again = crossed(failure_of(error)).error()
    assert type(again) is kind
    assert (again.message, again.details, again.hint, again.exit_code) == (
        "what", ("a", "b"), "do this", kind.exit_code,
    )  # fmt: skip


def test_the_log_of_a_failed_phase_crosses_and_stays_with_further_lines() -> None:
    error = PhaseError("what", details=["a"])
    error.log = Path("/logs/02-compile.log")
    again = crossed(failure_of(error)).error().with_details("b")
    assert isinstance(again, PhaseError)
    assert (again.log, again.details, error.details) == (error.log, ("a", "b"), ("a",))
    assert crossed(failure_of(PhaseError("what"))).log is None


def test_an_error_that_is_not_known_here_keeps_its_exit_code() -> None:
    for kind in ("ElfError", "called", "Path"):
        again = Failure(kind, 5, "what").error()
        assert (type(again), again.exit_code) == (XbuildError, 5)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("XBUILD_PROJECT", str(PROJECT))
    return Store(tmp_path)


@pytest.mark.parametrize("mode", MODES)
def test_each_mode_has_an_executor_and_no_other_takes_its_orders(store: Store, mode: str) -> None:
    executor = executor_of(MODES[mode], store)
    others = [kind for kind in (SandboxExecutor, MachineExecutor) if not isinstance(executor, kind)]
    assert len(others) == 1
    for kind in others:
        other: Executor = kind(store)
        outcome = other.perform(crossed(Order(Request("zlib", "armhf", mode))), unheard)
        assert outcome.status == "failed"
        assert outcome.failure is not None
        assert f"mode {mode} is not for an executor that works in" in outcome.failure.message


def test_what_is_wrong_with_an_order_comes_back_as_its_outcome(store: Store) -> None:
    for request, message in (
        (Request("zlib", "armhf", here=Here(start="compil")), "no phase 'compil' in this recipe; did you mean 'comp"),
        (Request("zlib", "armhf", "slow"), "unknown mode 'slow'"),
        (Request("zlip", "armhf"), "zlip"),
    ):
        outcome = crossed(SandboxExecutor(store).perform(Order(request), unheard))
        assert outcome.failure is not None
        assert message in outcome.failure.message
        with pytest.raises(UsageError):
            result_of(read(Request("zlib", "armhf"), store), outcome)
