from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from invoke.program import Program

from xbuild import log, paths
from xbuild.cli.program import XbuildProgram, help_first, own_version
from xbuild.cli.tasks import namespace
from xbuild.errors import MachineError, UsageError, XbuildError, called

PROJECT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def value(self) -> Any:
        """The one JSON object on stdout."""
        return json.loads(self.out)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store; the recipes and targets are this project's."""
    monkeypatch.setenv("XBUILD_PROJECT", str(PROJECT))
    monkeypatch.setenv("XBUILD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever starts a process fails."""

    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError(f"a process was started: {arguments}")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setattr(os, "fork", refuse)


@pytest.fixture
def restored() -> Iterator[None]:
    """What a command changes in its process is as before afterwards."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    bytecode = sys.dont_write_bytecode
    yield
    sys.dont_write_bytecode = bytecode
    for number, handler in handlers.items():
        signal.signal(number, handler)


Run = Callable[..., Ended]


def run_with(program: Program, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str) -> Ended:
        code = 0
        try:
            program.run(["xbuild", *words])
        except SystemExit as end:
            code = int(end.code or 0)
        return Ended(code, *capsys.readouterr())

    return run


@pytest.fixture
def xbuild(cache: Path, capsys: pytest.CaptureFixture[str], restored: None) -> Run:
    """Runs the installed program's commands in this process."""
    return run_with(XbuildProgram(name="xbuild", namespace=namespace, version="0"), capsys)


@pytest.fixture
def invoke(cache: Path, capsys: pytest.CaptureFixture[str], restored: None) -> Run:
    """Runs the same as `invoke` does."""
    return run_with(Program(namespace=namespace, version="0"), capsys)


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
    assert "zlib     1.3.1    xbuild  " in text
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
    monkeypatch.setattr("xbuild.install.set_up", lambda *, assume_yes: done.append(assume_yes))
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
        assert ended.value["mask"] == "ffffffffffffff00fffffffffffffffffeffffff"
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
    lines = ended.out.splitlines()
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


def failing(monkeypatch: pytest.MonkeyPatch, fail: Callable[[], None]) -> None:
    """Let `list` end by `fail`."""
    monkeypatch.setattr("xbuild.cli.tasks.recipe_names", lambda _project: fail())


def raising(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def test_a_fault_of_the_machine(xbuild: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, raising(MachineError("no\x1b[2J disk", details=["a"], hint="buy one")))
    ended = xbuild("list", "--json")
    assert (ended.code, ended.out) == (4, "")
    assert ended.err.split("\n")[:3] == ["error: no\\x1b[2J disk", "  a", "  hint: buy one"]


def test_a_bug_shows_where(xbuild: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, raising(RuntimeError("what?")))
    ended = xbuild("list")
    assert ended.code == 1
    assert "Traceback" in ended.err
    assert "RuntimeError: what?" in ended.err
    assert "this is a bug in xbuild" in ended.err


class Loop:
    """What has no end."""

    def __repr__(self) -> str:
        return repr(self)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/store/x"), 4, "error: /store/x: Permission denied\n"),
        (OSError(errno.ENOSPC, "No space left on device"), 4, "hint: free some space"),
        (OSError(errno.EMFILE, "Too many open files"), 4, "(ulimit -n)"),
        (OSError(errno.EFBIG, "File too large"), 4, "(ulimit -f)"),
        (OSError(errno.EROFS, "Read-only file system", "/x"), 4, "XBUILD_CACHE"),
        (FileExistsError(errno.EEXIST, "File exists", "/a\ne: b", None, "/c"), 4, "error: /a\\ne: b -> /c: File"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", str(Path.cwd() / "list")), 2, "list: Is a directory"),
        (MemoryError(), 4, "not enough memory"),
        (RecursionError("maximum"), 2, "nested too deeply"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), 2, "not in the encoding"),
        (RuntimeError("Symlink loop from '/x'"), 2, "Symlink loop from '/x'"),
        (OSError(errno.EBADF, "Bad file descriptor"), 1, "this is a bug in xbuild"),
        (OSError("of no number"), 1, "this is a bug in xbuild"),
        (KeyError("x"), 1, "this is a bug in xbuild"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_whose_fault_it_is(
    xbuild: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, said: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["xbuild", "list"])
    failing(monkeypatch, raising(error))
    ended = xbuild("list")
    assert ended.code == code
    assert said in ended.err
    assert ("Traceback" in ended.err) == (code == 1)


def test_real_faults(xbuild: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, lambda: repr(Loop()))  # type: ignore[arg-type, return-value]
    assert xbuild("list").code == 2
    failing(monkeypatch, lambda: "x" * sys.maxsize)  # type: ignore[arg-type, return-value]
    assert xbuild("list").code == 4
    failing(monkeypatch, lambda: os.open("/nowhere", os.O_RDONLY))  # type: ignore[arg-type, return-value]
    ended = xbuild("list")
    assert ended.code == 4
    assert "xbuild met it in cli/tasks.py:" in ended.err


def test_interrupted(xbuild: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, raising(KeyboardInterrupt()))
    ended = xbuild("list")
    assert ended.code == 130
    assert "interrupted" in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_terminated(xbuild: Run, monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    failing(monkeypatch, lambda: os.kill(os.getpid(), number))
    ended = xbuild("list")
    assert ended.code == 130
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_at_the_end_takes_neither_code_nor_words(
    xbuild: Run, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    failing(monkeypatch, raising(MachineError("no room")))
    tell = log.error

    def late(fault: XbuildError) -> None:
        os.kill(os.getpid(), number)
        tell(fault)

    monkeypatch.setattr(log, "error", late)
    ended = xbuild("list")
    assert (ended.code, ended.err) == (4, "error: no room\n")


def test_a_reader_that_has_seen_enough(cache: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    code = "from xbuild.cli.program import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "list"], stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")
