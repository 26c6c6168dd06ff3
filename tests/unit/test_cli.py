from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from commands import Run

from xbuild.base import paths
from xbuild.base.errors import UsageError, called
from xbuild.cli.program import help_first, own_version
from xbuild.cli.tasks import namespace

PROJECT = Path(__file__).parents[2]


def test_the_commands() -> None:
    wanted = {"build", "run", "shell", "why", "log", "list", "clean", "doctor", "test", "lint", "reference"}
    assert wanted <= set(namespace.task_names)


OPTIONS = """
from xbuild.cli.tasks import namespace
for command in namespace.to_contexts():
    for option in command.args.values():
        print(command.name, option.name, bool(option.help))
"""


def test_every_command_and_option_is_described() -> None:
    assert [name for name in namespace.task_names if not namespace[name].__doc__] == []
    # In a process of its own: invoke gives the texts away only once.
    done = subprocess.run([sys.executable, "-c", OPTIONS], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert "build from_ True" in lines
    assert [line for line in lines if line.endswith("False")] == []


@pytest.mark.parametrize("program", ["xbuild", "invoke"])
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["build", "zlb"], "unknown recipe 'zlb'; did you mean 'zlib'?"),
        (["build", "zlib", "--target", "armfh"], "unknown target 'armfh'; did you mean 'armhf'?"),
        (["build", "zlib", "--mode", "emulate"], "unknown mode 'emulate'; did you mean 'emulated'?"),
        (["build", "zlib", "--from", "cmpile", "--plan"], "no phase 'cmpile' in this recipe; did you mean 'compile'?"),
        (["build", "zlib", "--from", "install", "--plan"], "'unpack' has not been done yet"),
        (["build", "zlib", "--jobs", "many"], "--jobs must be a number from 1 on, not 'many'"),
        (["build", "zlib", "--jobs=-1"], "--jobs must be a number from 1 on, not '-1'"),
        (["shell", "--mode", "system"], "mode system is for a shell with a recipe"),
        (["build", "--hlp"], "there is no recipe before '--hlp'"),
        (["why", "zlb"], "did you mean 'zlib'?"),
        (["log", "zlib"], "no log of zlib 1.3.1 for armhf"),
        (["log", "zlib", "--phase", "compile"], "no log of zlib 1.3.1 for armhf, phase 'compile'"),
        (["shell", "zlb"], "did you mean 'zlib'?"),
        (["binfmt.render", "armhv"], "unknown architecture 'armhv'; did you mean 'armhf'?"),
        (["binfmt.render", "x", "--extension", "x", "--magic", "41"], "either a --magic or an --extension"),
        (["binfmt.render", "x", "--magic", "4", "--interpreter", "/x"], "--magic: "),
        (["binfmt.render", "arm", "--flags", "FX"], "binfmt_misc flags are letters of POCF, not 'FX'"),
        (["binfmt.explain", "--jsn"], "there is no file before '--jsn'"),
        (["binfmt.explain", "x", "--root", "/nowhere"], "--root /nowhere: no such directory"),
        (["binfmt.parse", "/nowhere"], "/nowhere: cannot be read"),
        (["binfmt.install", "armhf"], "binfmt.install changes the whole machine: say --system"),
        (["binfmt.remove", "armhf"], "binfmt.remove changes the whole machine: say --system"),
        (["root.import", "board", ""], "a name and a source are needed"),
        (["store.ls", "--kind", "root"], "unknown kind 'root'; did you mean 'roots'?"),
        (["store.gc"], "what is to go?"),
        (["store.gc", "--size", "20X"], "--size must be an amount such as 20G, not '20X'"),
        (["store.gc", "--older", "soon"], "--older must be a number from 1 on, not 'soon'"),
        (["store.pack", "roots"], "an entry and a file are needed"),
        (["store.pack", "none", "--output", "x"], "'none' is no entry of the store"),
        (["store.unpack", "/nowhere"], "/nowhere: there is no such file"),
        (["export"], "export wants either --oci DIRECTORY or --tar FILE"),
        (["export", "--oci", "a", "--tar", "b"], "export wants either --oci DIRECTORY or --tar FILE"),
        (["export", "--tar", "a", "--compression", "zst"], "unknown compression 'zst'; did you mean 'zstd'?"),
        (["export", "--tar", "a", "--target", "armfh"], "did you mean 'armhf'?"),
        (["export", "--tar", "a.zip", "--layer"], "a layer is no 'a.zip'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_words(
    request: pytest.FixtureRequest, no_process: None, program: str, words: list[str], said: str
) -> None:
    ended = request.getfixturevalue(program)(*words)
    assert ended.code == 2
    assert said in ended.err
    assert "hint: " in ended.err or words[0].startswith("binfmt") or "--jobs" in said
    assert "Traceback" not in ended.err
    assert ended.out == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["buidl", "zlib"], "unknown command 'buidl'; did you mean 'build'?"),
        (["list", "--jsn"], "unknown option '--jsn'; did you mean '--json'?"),
        (["build", "zlib", "--tagret=armhf"], "unknown option '--tagret'; did you mean '--target'?"),
        (["build", "zlib", "xz"], "unknown command 'xz'"),
        (["build"], "'build' did not receive required positional arguments: 'recipe'"),
        (["zzz"], "unknown command 'zzz'\n"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_words_that_the_parser_does_not_know(xbuild: Run, words: list[str], said: str) -> None:
    ended = xbuild(*words)
    assert ended.code == 2
    assert said in ended.err
    assert "hint: `xbuild --" in ended.err
    assert ended.out == ""


@pytest.mark.parametrize(
    ("words", "better"),
    [
        (["x", "build", "--help"], ["x", "--help", "build"]),
        (["x", "build", "zlib", "-h"], ["x", "--help", "build"]),
        (["x", "--help", "build"], ["x", "--help", "build"]),
        (["x", "--help"], ["x", "--help"]),
        (["x", "build", "zlib"], ["x", "build", "zlib"]),
        (["x", "shell", "zlib", "--", "ls", "--help"], ["x", "shell", "zlib", "--", "ls", "--help"]),
    ],
)
def test_help_first(words: list[str], better: list[str]) -> None:
    assert help_first(words) == better


def test_help_after_a_command(xbuild: Run) -> None:
    ended = xbuild("build", "--help")
    assert ended.code == 0
    assert "--target=STRING" in ended.out


def test_list(xbuild: Run, invoke: Run, no_process: None, cache: Path) -> None:
    for program in (xbuild, invoke):
        ended = program("list", "--json")
        assert (ended.code, ended.err) == (0, "")
        file = str(paths.checkout() / "recipes" / "zlib.yml")
        assert {"name": "zlib", "version": "1.3.1", "file": file} in ended.value["recipes"]
        assert {"armhf", "arm64", "amd64"} <= set(ended.value["targets"])
    text = xbuild("list").out
    assert re.search(r"^zlib +1\.3\.1 +xbuild  ", text, re.MULTILINE)
    assert not cache.exists()


def test_commands_in_hints_are_what_was_called(monkeypatch: pytest.MonkeyPatch) -> None:
    hint = "`invoke clean --roots`, or invoke build zlib"
    for program, shown in (("/x/xbuild", "`xbuild clean --roots`, or xbuild build zlib"), ("invoke", hint)):
        monkeypatch.setattr("sys.argv", [program, "list"])
        assert (called(hint), UsageError("x", hint=hint).hint) == (shown, shown)


@pytest.mark.parametrize(
    ("words", "wanted"), [([], [False]), (["--yes"], [True]), (["--suite", "unit", "--yes"], [])]
)
def test_tests_set_the_machine_up(
    xbuild: Run, monkeypatch: pytest.MonkeyPatch, words: list[str], wanted: list[bool]
) -> None:
    """Before the first suite; the unit tests need nothing."""
    done: list[object] = []
    monkeypatch.setattr("xbuild.doctor.install.set_up", lambda *, assume_yes: done.append(assume_yes))
    monkeypatch.setattr("xbuild.cli.development._run", lambda *_command: done.append("suite") or 0)
    assert xbuild("test", *words).code == 0
    assert done == [*wanted, *["suite"] * (1 if "unit" in words else 3)]


def test_version(xbuild: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    number = version("xbuild")
    # The commit, where this is a checkout that git knows.
    assert re.fullmatch(rf"xbuild {re.escape(number)}( \([\w.-]+\))?\n", xbuild("--version").out)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    monkeypatch.setattr(paths, "PACKAGE", tmp_path / "venv" / "xbuild")
    assert own_version() == number


def test_binfmt_render(xbuild: Run, invoke: Run, no_process: None) -> None:
    for program in (xbuild, invoke):
        ended = program("binfmt.render", "armhf", "--interpreter", "/bin/sh", "--json")
        assert (ended.code, ended.err) == (0, "")
        assert ended.value["magic"] == "7f454c4601010100000000000000000002002800"
        assert ended.value["mask"] == "ffffffffffffff000000000000000000feffffff"
        assert ended.value["register"].startswith(":qemu-arm:M::")
    assert "no C: setuid programs" in xbuild("binfmt.render", "armhf").out


def test_binfmt_parse(xbuild: Run, no_process: None, tmp_path: Path) -> None:
    (tmp_path / "a.conf").write_text("# two\n:a:M::AB::/bin/a:F\n:b:E::bb::/bin/b:\n")
    ended = xbuild("binfmt.parse", str(tmp_path / "a.conf"), "--json")
    assert (ended.code, ended.err) == (0, "")
    assert ended.value["format"] == "binfmt.d"
    assert [(entry["name"], entry["type"]) for entry in ended.value["entries"]] == [("a", "M"), ("b", "E")]


def test_binfmt_explain(xbuild: Run, tmp_path: Path) -> None:
    (tmp_path / "script").write_text("#!/nowhere/sh\n")
    (tmp_path / "script").chmod(0o755)
    ended = xbuild("binfmt.explain", str(tmp_path / "script"), "--json")
    assert (ended.code, ended.err) == (0, "")
    value = ended.value
    assert (value["verdict"], value["errno"], value["cause"]) == ("refused", "ENOENT", "script-interpreter-missing")
    inside = xbuild("binfmt.explain", "/script", "--root", str(tmp_path), "--json").value
    assert (inside["root"], inside["cause"]) == (str(tmp_path), "script-interpreter-missing")
    assert "'No such file or directory'" in xbuild("binfmt.explain", str(tmp_path / "script")).out


def test_binfmt_list(xbuild: Run) -> None:
    ended = xbuild("binfmt.list", "--json")
    assert (ended.code, ended.err) == (0, "")
    assert {"effective", "others", "supported"} <= set(ended.value)


def test_plan_with_an_empty_store_makes_nothing(xbuild: Run, no_process: None, cache: Path) -> None:
    ended = xbuild("build", "zlib", "--plan")
    assert (ended.code, ended.err) == (0, "")
    *lines, key = ended.out.splitlines()
    assert re.fullmatch("key: [0-9a-f]{64}", key)
    # Plain text, in columns.
    assert all(line == line.rstrip() and line.isascii() for line in lines)
    column = lines[0].index("reason")
    assert [line[: column - 5].rstrip() for line in lines[1:5]] == [
        "native root amd64",
        "native root i386",
        "twins",
        "target root armhf",
    ]
    assert {line[column - 5 : column].strip() for line in lines[1:]} == {"run"}
    assert not cache.exists()


@pytest.mark.parametrize("words", [["build", "zlib", "--plan"], ["why", "zlib"]])
@pytest.mark.parametrize("target", ["armhf", "amd64"])
def test_plan_as_json(xbuild: Run, no_process: None, words: list[str], target: str) -> None:
    ended = xbuild(*words, "--target", target, "--json")
    assert (ended.code, ended.err) == (0, "")
    assert {action["verdict"] for action in ended.value["plan"]} == {"run"}
    assert [action["name"] for action in ended.value["plan"]][-6:] == [
        "configure", "compile", "install", "check", "check outputs", "pack",
    ]  # fmt: skip
    assert ended.value.get("changes", []) == []
