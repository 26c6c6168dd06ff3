"""An order that crosses to another process as JSON, with what comes back."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.command_line import CHECKOUT, Xbuild
from xbuild.base.digest import file_sha256
from xbuild.base.errors import PhaseError
from xbuild.build.build import result_of
from xbuild.build.executor import Event, Order, Outcome
from xbuild.build.prepared import prepare
from xbuild.build.request import Request
from xbuild.build.subject import read
from xbuild.build.wire import as_json, from_json
from xbuild.store.own import open_store

pytestmark = pytest.mark.e2e

ORDERED = Path(__file__).with_name("ordered.py")


def carried_out(xbuild: Xbuild, order: Order) -> tuple[list[Event], Outcome]:
    """What another process says that is given `order` as JSON."""
    done = subprocess.run(
        [sys.executable, str(ORDERED)],
        cwd=CHECKOUT,
        env=xbuild.environment({"PYTHONPATH": str(CHECKOUT)}),
        input=json.dumps(as_json(order)).encode(),
        stdout=subprocess.PIPE,
        check=True,
    )
    *events, last = [json.loads(line) for line in done.stdout.splitlines()]
    return [from_json(Event, line["event"]) for line in events], from_json(Outcome, last["outcome"])


@pytest.fixture
def here(xbuild: Xbuild, monkeypatch: pytest.MonkeyPatch) -> Xbuild:
    """The test's own project and cache, in this process too."""
    monkeypatch.setenv("XBUILD_PROJECT", str(xbuild.project))
    monkeypatch.setenv("XBUILD_CACHE", str(xbuild.cache))
    return xbuild


@pytest.mark.parametrize("mode", ["substituted", pytest.param("system", marks=pytest.mark.long)])
def test_an_order_crosses_as_json_and_gives_the_artifact(here: Xbuild, mode: str) -> None:
    here.recipe()
    request = Request("tiny", "armhf", mode)
    build = prepare(request, open_store())
    events, outcome = carried_out(here, Order(request, build.key))
    assert (outcome.status, outcome.key, outcome.failure) == ("built", build.key, None)
    phases = [event for event in events if event.part == "compile"]
    assert [(event.kind, event.log) for event in phases] == [("began", "01-compile.log"), ("ended", "01-compile.log")]
    assert [name for name, _ in outcome.parts] == [event.part for event in events if event.kind == "ended"]
    result = result_of(build.subject, outcome)
    assert file_sha256(result.stored.artifact) == outcome.manifest["artifact"]["sha256"]
    assert (result.records.with_name("logs") / "01-compile.log").is_file()
    events, outcome = carried_out(here, Order(request))
    assert (outcome.status, outcome.key) == ("up-to-date", build.key)


def test_an_order_with_another_key_is_refused(here: Xbuild) -> None:
    here.recipe()
    key = prepare(Request("tiny", "armhf"), open_store()).key
    here.recipe(build={"compile": "echo 43 > answer"})
    events, outcome = carried_out(here, Order(Request("tiny", "armhf"), key))
    assert outcome.failure is not None
    assert outcome.failure.code == 2
    assert "has another key here" in outcome.failure.message
    assert not [event for event in events if event.part == "unpack"]
    assert not here.place().exists()


def test_a_failure_crosses_with_all_that_helps(here: Xbuild) -> None:
    here.recipe(build={"compile": "echo oh no; false"})
    request = Request("tiny", "armhf")
    events, outcome = carried_out(here, Order(request))
    assert [event.part for event in events if event.kind == "failed"] == ["compile"]
    with pytest.raises(PhaseError, match="phase 'compile' failed") as caught:
        result_of(read(request), outcome)
    assert "oh no" in caught.value.details
