"""What programs are told: one object on stdout whatever happens, lines of events, a page for a CI."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

from tests.unit.commands import Run
from xbuild.base import log
from xbuild.base.errors import CheckError, MachineError, PhaseError, RecipeError, UsageError, XbuildError
from xbuild.base.events import conclusion, events_to
from xbuild.build.publish import Handed
from xbuild.build.result import Result
from xbuild.cli import shapes, summary
from xbuild.cli.guard import outcome
from xbuild.cli.namespace import namespace
from xbuild.graph.crew import Order
from xbuild.graph.outcome import as_json
from xbuild.graph.run import Ended
from xbuild.graph.scheduler import State, Task

SCHEMAS = Path(__file__).parents[2] / "docs" / "schema"


@pytest.fixture(autouse=True)
def _plain() -> Any:
    yield
    log.configure()


def validated(value: Any, schema: dict[str, Any]) -> Any:
    Draft202012Validator(schema).validate(value)
    return value


@pytest.mark.parametrize("name", sorted(shapes.files()))
def test_published_schemas_are_current(name: str) -> None:
    text = (SCHEMAS / name).read_text()
    assert text == shapes.files()[name], "write them again: invoke reference"
    Draft202012Validator.check_schema(json.loads(text))


def test_schemas_are_of_commands() -> None:
    assert set(shapes.COMMANDS) <= set(namespace.task_names)
    assert {file.stem for file in (SCHEMAS / "output").iterdir()} == set(shapes.COMMANDS)


# In a process that others share `Ended.value` is held against the schema each time.
GOOD = [
    ["list"], ["build", "zlib", "--plan"], ["why", "zlib"], ["forget", "zlib"], ["store.ls"], ["store.verify"],
    ["store.gc", "--older", "9"], ["root.list"], ["binfmt.list"], ["binfmt.explain", "/bin/sh"],
    ["binfmt.render", "armhf"],
]  # fmt: skip
BAD = [
    ["build", "zlb"], ["build", "zlib", "--from", "x", "--plan"], ["build", "zlib", "--nonsense"], ["why", "zlb"],
    ["check", "zlib"], ["compare", "zlb"], ["bisect", "zlb"], ["reproduce"], ["trace", "zlib"], ["lock", "none"],
    ["forget", "none"],
    ["bench", "--recipes", "none"], ["export"], ["store.ls", "--kind", "x"], ["store.gc"], ["store.unpack", "/nowhere"],
    ["store.push"], ["store.trust", "/nowhere"],
    ["root.import", "x", "/nowhere"], ["binfmt.explain", "x", "--root", "/nowhere"], ["binfmt.remove", "armhf"],
]  # fmt: skip


@pytest.mark.parametrize("words", GOOD, ids=" ".join)
def test_one_object_of_a_success(xbuild: Run, words: list[str]) -> None:
    ended = xbuild(*words, "--json")
    assert ended.code == 0
    value = validated(ended.value, shapes.output_of(words[0]))
    assert (value["schema"], value["error"], value["exit_code"]) == (1, None, 0)
    with pytest.raises(ValidationError):
        validated({**value, "surprise": 1}, shapes.output_of(words[0]))
    missing = next(shape["required"][0] for shape in shapes.COMMANDS[words[0]] if set(shape["required"]) <= set(value))
    with pytest.raises(ValidationError):
        validated({name: part for name, part in value.items() if name != missing}, shapes.output_of(words[0]))


@pytest.mark.parametrize("words", BAD, ids=" ".join)
def test_one_object_of_a_failure(xbuild: Run, words: list[str]) -> None:
    ended = xbuild(*words, "--json")
    value = validated(ended.value, shapes.output_of(words[0]))
    assert ended.code == value["exit_code"] == value["error"]["code"] == 2
    assert (value["status"], value["error"]["kind"]) == ("failed", "usage")
    assert f"error: {value['error']['message']}" in ended.err


def test_words_that_no_command_knows(xbuild: Run) -> None:
    value = xbuild("buidl", "--json").value
    assert value["error"]["message"] == "unknown command 'buidl'; did you mean 'build'?"
    # What comes after -- is a program's.
    assert xbuild("buidl", "--", "--json").out == ""


@pytest.mark.parametrize(
    ("raised", "wanted"),
    [
        (RecipeError("a.yml:3:7: wrong"), {"kind": "recipe", "where": {"file": "a.yml", "line": 3, "column": 7}}),
        (UsageError("x", hint="do y"), {"kind": "usage", "code": 2, "hint": "do y", "where": None}),
        (MachineError("x", details=["a", "b"]), {"kind": "machine", "code": 4, "details": ["a", "b"]}),
        (ValueError("odd"), {"kind": "bug", "code": 1, "message": "ValueError: odd"}),
        (FileNotFoundError(2, "gone", "/x"), {"kind": "machine", "code": 4, "message": "/x: gone"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_an_error_is_for_programs(
    capsys: pytest.CaptureFixture[str], raised: Exception, wanted: dict[str, Any]
) -> None:
    def work() -> None:
        log.warn("careful")
        log.result({"recipe": "half"})
        raise raised

    log.configure(json=True)
    code = outcome(work)
    value = json.loads(capsys.readouterr().out)
    assert wanted.items() <= value["error"].items()
    assert (value["exit_code"], value["status"], value["warnings"]) == (code, "failed", ["careful"])
    assert value["recipe"] == "half"


def test_the_log_of_a_phase_and_an_interruption(capsys: pytest.CaptureFixture[str]) -> None:
    fault = PhaseError("phase 'compile' failed")
    fault.log = Path("/x/02-compile.log")
    assert fault.as_json()["log"] == "/x/02-compile.log"

    def interrupted() -> None:
        raise KeyboardInterrupt

    log.configure(json=True)
    assert outcome(interrupted) == 130
    value = json.loads(capsys.readouterr().out)
    assert (value["status"], value["error"], value["exit_code"]) == ("interrupted", None, 130)


def test_a_word_of_a_command_for_what_it_found(capsys: pytest.CaptureFixture[str]) -> None:
    """bisect ends with 5 where it has found what was looked for: no error."""
    log.configure(json=True)
    log.result({"status": "found"})
    assert log.finish(5)["status"] == "found"
    assert json.loads(capsys.readouterr().out)["exit_code"] == 5


def lines(file: Path) -> list[dict[str, Any]]:
    return [validated(json.loads(line), shapes.event()) for line in file.read_text().splitlines()]


def test_events_of_a_command(xbuild: Run, tmp_path: Path) -> None:
    file = tmp_path / "events"
    for words in (["build", "zlib", "--plan"], ["build", "zlb"]):
        xbuild(*words, "--events", str(file))
    found = lines(file)
    assert [line["exit_code"] for line in found if line["event"] == "finished"] == [0, 2]
    assert [line["error"]["code"] for line in found if line["event"] == "error"] == [2]


def test_events_of_every_kind(tmp_path: Path) -> None:
    file = tmp_path / "events"
    with events_to(file, log.warn):
        log.info("a\nb")
        log.warn("careful")
        with log.step("outer", tmp_path / "log"), log.progress("file", 10) as transfer:
            transfer.advance(4)
            transfer.advance(6)
        with pytest.raises(XbuildError), log.step("bad"):
            raise XbuildError("x")
        log.finish(0)
    found = lines(file)
    assert [(line["event"], line.get("name"), line.get("depth")) for line in found if "name" in line] == [
        ("began", "outer", 0), ("began", "file", 1), ("progress", "file", None), ("ended", "file", 1),
        ("ended", "outer", 0), ("began", "bad", 0), ("failed", "bad", 0),
    ]  # fmt: skip
    assert found[2]["log"] == str(tmp_path / "log")
    assert [line["text"] for line in found if "text" in line] == ["a\nb", "careful"]


def test_events_that_cannot_be_written(
    xbuild: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = xbuild("build", "zlib", "--plan", "--events", str(tmp_path))
    assert (ended.code, ended.out) == (2, "")
    with events_to(Path("/dev/full"), log.warn):
        log.info("one")
        log.info("two")
    assert capsys.readouterr().err.count("--events: no more is written, for No space left on device") == 1


def test_a_page_of_a_failure(xbuild: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, other = tmp_path / "summary.md", tmp_path / "github.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(other))
    assert xbuild("build", "zlb", "--summary", str(file)).code == 2
    assert "**unknown recipe 'zlb'; did you mean 'zlib'?**" in file.read_text()
    assert not other.exists()
    xbuild("build", "zlb")
    assert other.read_text().startswith("### xbuild build")
    # Nothing is made.
    before = other.read_text()
    xbuild("build", "zlib", "--plan")
    assert other.read_text() == before
    assert xbuild("build", "zlb", "--summary", str(tmp_path)).code == 2


def test_builds_of_one_target_and_of_several(tmp_path: Path) -> None:
    files = Handed(tmp_path / "a", {"sha256": "0" * 64, "bytes": 1}, tmp_path / "m", tmp_path / "d", {})
    made = Result("tiny", "1", "armhf", "substituted", "built", files, files)
    begun = Ended(Order(Task("tiny"), "tiny for armhf", ()), State.DONE, 0.5, 2.0, value=made.as_json())
    fault = CheckError("bad").as_json()
    failed = replace(begun, state=State.FAILED, value={"status": "failed", "error": fault, "warnings": []})
    skipped = Ended(Order(Task("on"), "on for armhf", ()), State.SKIPPED, because="tiny for armhf")
    many = {"builds": [as_json(one) for one in (begun, failed, skipped)], "jobs": 2, "seconds": 3.0}
    for value in (made.as_json(), {**many, "junit": None, "page": "x.html"}):
        validated(conclusion(0, None, value, []), shapes.output_of("build"))
        with pytest.raises(ValidationError):
            validated(conclusion(0, None, {**value, "odd": 1}, []), shapes.output_of("build"))


def test_a_page_of_many_builds(tmp_path: Path) -> None:
    known = {"title": "tiny for arm|64", "status": "built", "seconds": 61.0, "reason": "it is new", "error": None}
    fault = CheckError("bad", details=["one"]).as_json()
    failed = {**known, "title": "on", "status": "failed", "error": fault, "because": None}
    value = {"status": "failed", "error": fault, "warnings": [], "builds": [known, failed], "seconds": 70.0}
    summary.write("build", value, tmp_path / "page")
    text = (tmp_path / "page").read_text()
    assert text.count("### ") == 1
    assert "### xbuild build: 2 builds: failed" in text
    assert "| tiny for arm\\|64 | built | 1m 01s | it is new |" in text
    assert text.count("**on: bad**") == 1


def test_a_page_of_a_build_that_nobody_can_forge() -> None:
    error = {**PhaseError("bad <b>*x*", details=["```", "# heading", "\x1b[2J"]).as_json()}
    built = {
        "status": "built", "recipe": "z|ib", "version": "1", "target": "armhf", "artifact": "/z.tar.zst", "bytes": 2048,
        "parts": [{"name": "compile", "seconds": 61.0}], "warnings": ["[a](b)"], "error": error,
    }  # fmt: skip
    text = summary.markdown("build", built)
    assert "| compile | 1m 01s |" in text
    assert "| size | 2.0 KiB |" in text
    assert "- warning: \\[a\\](b)" in text
    assert "bad \\<b\\>\\*x\\*" in text
    assert "\n````\n```\n# heading\n" in text
    assert "\x1b" not in text
