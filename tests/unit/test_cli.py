from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.unit.commands import Run
from xbuild.base import paths
from xbuild.base.errors import UsageError, called
from xbuild.cli import screens, table
from xbuild.cli.namespace import namespace
from xbuild.cli.program import own_version

PROJECT = Path(__file__).parents[2]


def test_the_commands() -> None:
    wanted = {"build", "run", "shell", "why", "log", "list", "clean", "doctor", "test", "lint", "reference"}
    assert wanted <= set(namespace.task_names)


OPTIONS = """
from xbuild.cli.namespace import namespace
for command in namespace.to_contexts():
    for option in command.args.values():
        # Of what is on by default, the text tells what its opposite does, and says so.
        whose = f"--no-{option.name}: " if option.default is True else ""
        print(command.name, option.name, len(option.help or "") > len(whose) and option.help.startswith(whose))
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
        (["build", "zlib", "--without", "sed", "--plan"], "--without wants real paths of programs, not 'sed'"),
        (["build", "zlib", "--also", "lz4", "--at-once", "0", "--plan"], "--at-once must be a number from 1 on"),
        (["deb", "less", "--also", "gzip", "--at-once", "0", "--plan"], "--at-once must be a number from 1 on"),
        (["build", "zlib", "--jobs=-1"], "--jobs must be a number from 1 on, not '-1'"),
        (["shell", "--mode", "system"], "mode system is for a shell with a recipe"),
        (["why", "zlb"], "did you mean 'zlib'?"),
        (["log", "zlib"], "no log of zlib 1.3.1 for armhf"),
        (["log", "zlib", "--phase", "compile"], "no log of zlib 1.3.1 for armhf, phase 'compile'"),
        (["shell", "zlb"], "did you mean 'zlib'?"),
        (["binfmt.render", "armhv"], "unknown architecture 'armhv'; did you mean 'armhf'?"),
        (["binfmt.render", "x", "--extension", "x", "--magic", "41"], "either a --magic or an --extension"),
        (["binfmt.render", "x", "--magic", "4", "--interpreter", "/x"], "--magic: "),
        (["binfmt.render", "arm", "--flags", "FX"], "binfmt_misc flags are letters of POCF, not 'FX'"),
        (["binfmt.explain", "x", "--root", "/nowhere"], "--root /nowhere: no such directory"),
        (["binfmt.parse", "/nowhere"], "/nowhere: cannot be read"),
        (["binfmt.install", "armhf"], "binfmt.install changes the whole machine: say --system"),
        (["binfmt.remove", "armhf"], "binfmt.remove changes the whole machine: say --system"),
        (["root.import", "board", ""], "a name and a source are needed"),
        (["store.ls", "--kind", "root"], "unknown kind 'root'; did you mean 'roots'?"),
        (["store.gc"], "nothing says what to remove"),
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
    assert ended.out == "" or "--json" in words


def test_no_certificates_are_made_for_wrong_words(xbuild: Run, tmp_path: Path) -> None:
    for words in (("--workers", "x"), ("--port", "x"), ("--slots", "x"), ("--jobs", "0"), ("--memory", "2G")):
        ended = xbuild("cluster.start", "--certificates", str(tmp_path / "c"), *words)
        assert (ended.code, f"{words[0]} must be a number" in ended.err) == (2, True)
    ended = xbuild("cluster.start", "--certificates", str(tmp_path / "c"), "--port", "65536")
    assert (ended.code, "ports end at 65535" in ended.err) == (2, True)
    assert not (tmp_path / "c").exists()


def test_a_number_that_no_program_can_have(xbuild: Run) -> None:
    ended = xbuild("build", "zlib", "--plan", "--jobs", "9" * 20)
    assert (ended.code, f"--jobs {'9' * 20} is too large" in ended.err) == (2, True)


def test_an_empty_word_is_no_program(xbuild: Run) -> None:
    ended = xbuild("run", "--", "")
    assert (ended.code, ended.out) == (2, "")
    assert "there is no program to run" in ended.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["check", "zlib"], "there is no artifact of zlib 1.3.1 for armhf"),
        (["shell", "zlib", "--artifact"], "there is no artifact of zlib 1.3.1 for armhf"),
        (["compare", "zlb"], "did you mean 'zlib'?"),
        (["bisect", "zlb"], "did you mean 'zlib'?"),
        (["build", "zlib", "xz", "--from", "compile"], "--from is for one build"),
        (["build", "zlib", "--all"], "--all is all recipes, and so is 'zlib'"),
        (["build", "zlib", "zlb", "--keep-going"], "did you mean 'zlib'?"),
        (["root.import", "board", "/nowhere"], "/nowhere: there is no such file or directory"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_nothing_is_installed_for_what_cannot_be_done(
    xbuild: Run, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr("xbuild.doctor.install.set_up", lambda *, assume_yes: asked.append(assume_yes))
    ended = xbuild(*words)
    assert (ended.code, asked) == (2, [])
    assert said in ended.err
    assert "hint: " in ended.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["buidl", "zlib"], "unknown command 'buidl'; did you mean 'build'?"),
        (["list", "--jsn"], "unknown option '--jsn'; did you mean '--json'?"),
        (["build", "zlib", "--tagret=armhf"], "unknown option '--tagret'; did you mean '--target'?"),
        (["build", "--hlp"], "unknown option '--hlp'; did you mean '--help'?"),
        (["list", "-x"], "unknown option '-x'\n"),
        (["why", "zlib", "xz"], "why takes no further word 'xz'"),
        (["why"], "why: RECIPE is missing"),
        (["build", "zlib", "--target"], "--target wants a value"),
        (["build", "zlib", "--plan=yes"], "--plan takes no value"),
        (["test", "--repeat", "x"], "--repeat must be a number, not 'x'"),
        (["list", "--", "x"], "list takes no words after --"),
        (["--dry", "build", "zlib"], "'--dry' stands before the command"),
        (["--dry"], "unknown option '--dry'"),
        (["--hlp"], "unknown option '--hlp'; did you mean '--help'?"),
        (["help", "buidl"], "unknown command 'buidl'; did you mean 'build'?"),
        (["zzz"], "unknown command 'zzz'\n"),
        ([""], "the name of the command is empty"),
        (["", "build"], "the name of the command is empty"),
        (["build", "zlib", "--repo", ""], "--repo wants a directory"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_words_that_the_parser_does_not_know(xbuild: Run, words: list[str], said: str) -> None:
    ended = xbuild(*words)
    assert ended.code == 2
    assert said in ended.err
    assert "hint: `invoke " in ended.err
    assert ended.out == ""


@pytest.mark.parametrize(
    "words",
    [["build", "--help"], ["build", "zlib", "-h"], ["--help", "build"], ["help", "build"], ["build", "-tx", "--help"]],
    ids=" ".join,
)
def test_help_of_a_command(xbuild: Run, words: list[str]) -> None:
    ended = xbuild(*words)
    assert (ended.code, ended.err) == (0, "")
    assert "  -t, --target TARGET " in ended.out
    assert all(len(line) < 80 for line in ended.out.splitlines())


def test_help_names_what_an_option_takes_and_what_no_option_does(xbuild: Run) -> None:
    said = " ".join(xbuild("build", "--help").out.split())
    assert "--no-publish put no copy of the artifact into dist/" in said
    assert "... one more recipe" in said
    assert "--also" not in said
    assert "--output FILE " in xbuild("store.pack", "--help").out
    assert "--output DIR " in xbuild("deb", "--help").out


@pytest.mark.parametrize("command", table.load().commands.values(), ids=lambda command: command.name)
def test_each_option_has_a_word_for_its_value_and_a_text(command: table.Command) -> None:
    for option in command.options:
        assert option.help, option.name
        assert option.kind == "flag" or option.positional or option.further or screens.value_word(command, option)


def test_the_first_screen(xbuild: Run) -> None:
    seen = [xbuild(*words) for words in ([], ["--help"], ["-h"], ["help"], ["--list"])]
    assert {(ended.code, ended.err) for ended in seen} == {(0, "")}
    assert len({ended.out for ended in seen}) == 1
    lines = seen[0].out.splitlines()
    shown = [line.split()[0] for line in lines if re.match(r"  (?!invoke)[a-z]", line)]
    (own,) = [line for line in lines if line.startswith("For work on xbuild itself: ")]
    maintainers = own.partition(": ")[2].split(", ")
    assert sorted([*shown, *maintainers]) == sorted(namespace.task_names)
    assert set(maintainers) == {"test", "lint", "reference"}
    # None of invoke's, which would say nothing to us.
    assert "--dry" not in seen[0].out
    # One line each.
    assert all(len(line) < 80 for line in lines)


@pytest.mark.parametrize("option", ["--dry", "--warn-only", "-e", "--command-timeout=5"])
def test_what_invoke_takes_and_we_ignore_is_refused(
    invoke: Run, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    monkeypatch.setattr("sys.argv", ["invoke", option, "list"])
    ended = invoke(option, "list")
    assert (ended.code, ended.out) == (2, "")
    assert f"{option} is an option of invoke; xbuild's commands do not have it" in ended.err


def test_list(xbuild: Run, invoke: Run, no_process: None, cache: Path) -> None:
    for program in (xbuild, invoke):
        ended = program("list", "--json")
        assert (ended.code, ended.err) == (0, "")
        file = str(paths.checkout() / "recipes" / "zlib.yml")
        (zlib,) = [recipe for recipe in ended.value["recipes"] if recipe["name"] == "zlib"]
        assert (zlib["version"], zlib["file"], zlib["origin"], zlib["license"]) == ("1.3.1", file, "xbuild", "Zlib")
        assert zlib["phases"] == ["unpack", "configure", "compile", "install", "check"]
        assert {"armhf", "arm64", "amd64"} <= {target["name"] for target in ended.value["targets"]}
        assert [mode["name"] for mode in ended.value["modes"] if mode["default"]] == ["substituted"]
    text = xbuild("list").out
    assert re.search(r"^zlib +1\.3\.1 +xbuild  ", text, re.MULTILINE)
    assert not cache.exists()


HINT = "`invoke clean --roots`, or invoke build zlib; invokes"


def hinted(program: str) -> str:
    return f"`{program} clean --roots`, or {program} build zlib; invokes"


def test_commands_in_hints_are_what_was_called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "a b"
    folder.mkdir()
    for name in ("xbuild", "invoke", "python3"):
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    monkeypatch.chdir(tmp_path)
    for program in ("xbuild", "invoke"):
        # Pasted where it was given, whether the shell finds it or not.
        for path, place in (("", f"{folder}/{program}"), ("", f"a b/{program}")):
            monkeypatch.setenv("PATH", path)
            monkeypatch.setattr("sys.argv", [place, "list"])
            assert called(HINT) == UsageError("x", hint=HINT).hint == hinted(f"'{place}'")
        monkeypatch.setenv("PATH", str(folder))
        monkeypatch.setattr("sys.argv", [f"{folder}/{program}", "list"])
        assert called(HINT) == hinted(program)
    monkeypatch.setattr("sys.argv", ["/x/site-packages/xbuild/__main__.py", "list"])
    for executable, shown in ((f"{folder}/python3", "python3"), ("/x/python3", "/x/python3")):
        monkeypatch.setattr("sys.orig_argv", [executable, "-m", "xbuild"])
        monkeypatch.setattr("sys.executable", executable)
        assert called(HINT) == hinted(f"{shown} -m xbuild")
    monkeypatch.setattr("sys.argv", ["/x/invoke", "-r", "/there", "--search-root=/else", "list", "-r", "no"])
    assert called(HINT) == hinted("/x/invoke -r /there --search-root=/else")


def test_a_recipe_that_is_a_file_is_named_so_in_hints(xbuild: Run, tmp_path: Path) -> None:
    file = tmp_path / "own" / "tiny one.yml"
    file.parent.mkdir()
    # It works from anywhere, with the patches that lie beside it.
    file.write_text((PROJECT / "recipes" / "zlib.yml").read_text() + "patches: [own.patch]\n")
    (file.parent / "own.patch").touch()
    ended = xbuild("check", str(file))
    assert ended.code == 2
    assert f"hint: invoke build '{file}' --target armhf" in ended.err


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
