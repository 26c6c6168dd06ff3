"""Each command with each fault of the machine: never exit code 1, which says that xbuild is wrong, and no traceback."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from xbuild.cli.namespace import namespace

PROJECT = Path(__file__).parents[2]

COMMANDS: dict[str, list[list[str]]] = {
    "list": [["list"], ["list", "--json"]],
    "init": [["init", "{odd}/none"], ["init", "{odd}/directory"]],
    "build": [["build", "zlib", "--plan"], ["build", "zlib", "--plan", "--json"], ["build", "none"],
              ["build", "zlib", "lua", "--plan"], ["build", "zlib", "--cluster", "x"]],
    "deploy": [["deploy", "board", "zlib"], ["deploy", "-x", "none"], ["deploy", "board", "zlib", "--json"]],
    "deb": [["deb", "{odd}/none.dsc"], ["deb", "{odd}/entry.dsc", "--json"], ["deb", "--all"], ["deb", "a b"]],
    "wheel": [["wheel"], ["wheel", "a b"], ["wheel", "{odd}/none.tar.gz", "--json"], ["wheel", "x", "--require", "y"]],
    "repo": [["repo", "{odd}/r"], ["repo", "{odd}/r", "--add", "{odd}/none"]],
    "why": [["why", "zlib"], ["why", "zlib", "--json"]],
    "log": [["log", "zlib"], ["log", "none"]],
    "lock": [["lock", "none"], ["lock", "none", "--json"]],
    "forget": [["forget", "zlib"], ["forget", "zlib", "--json"], ["forget", "none"]],
    "trace": [["trace", "zlib"], ["trace", "zlib", "--json"]],
    "check": [["check", "none"]],
    "compare": [["compare", "none", "--json"]],
    "bisect": [["bisect", "none", "--json"]],
    "reproduce": [["reproduce"], ["reproduce", "--file", "{odd}/none"], ["reproduce", "x", "--target", "none"]],
    "bench": [["bench", "--recipes", "none", "--json"]],
    "debug": [["debug"], ["debug", "-ex"], ["debug", "--nonsense", "x"], ["debug", "{odd}/entry"]],
    "run": [["run"], ["run", "--native", "maybe", "--", "x"]],
    "shell": [["shell", "none"], ["shell", "--mode", "distcc"]],
    "export": [["export"], ["export", "--tar", "{odd}/none/x.tar"]],
    "clean": [["clean"]],
    "completion": [["completion", "bash"], ["completion", "none"]],
    "doctor": [["doctor", "--nonsense"]],
    "test": [["test", "--suite", "none"]],
    "lint": [["lint", "--nonsense"]],
    "reference": [["reference", "--nonsense"]],
    "binfmt.list": [["binfmt.list"], ["binfmt.list", "--json"]],
    "binfmt.explain": [["binfmt.explain", "/bin/sh"], ["binfmt.explain", "/bin/sh", "--json"]],
    "binfmt.render": [["binfmt.render", "armhf"], ["binfmt.render", "armhf", "--json"]],
    "binfmt.parse": [["binfmt.parse", "{odd}/entry"], ["binfmt.parse", "{odd}/entry", "--json"]],
    "binfmt.install": [["binfmt.install", "armhf"]],
    "binfmt.remove": [["binfmt.remove", "armhf"]],
    "root.list": [["root.list"], ["root.list", "--json"]],
    "root.import": [["root.import", "NAME", "x"], ["root.import", "name"]],
    "root.remove": [["root.remove", "none"]],
    "cluster.certificates": [["cluster.certificates", "{odd}/c"], ["cluster.certificates", "{odd}/entry", "--json"]],
    "cluster.compilers": [["cluster.compilers", "--listen", "0.0.0.0"], ["cluster.compilers", "--allow", "x"],
                          ["cluster.compilers", "--target", "amd64"], ["cluster.compilers", "--port", "x"]],
    "cluster.start": [["cluster.start", "--listen", "0.0.0.0", "--no-tls"], ["cluster.start", "--workers", "x"]],
    "cluster.status": [["cluster.status", "tcp://192.0.2.1"], ["cluster.status", "x", "--certificates", "{odd}/none"]],
    "cluster.ssh": [["cluster.ssh", "x", "-m"], ["cluster.ssh", "x", "y", "--certificates", "{odd}/none"]],
    "cluster.worker": [["cluster.worker", "http://x"], ["cluster.worker", "x", "--certificates", "{odd}/none"]],
    "store.ls": [["store.ls"], ["store.ls", "--json"]],
    "store.verify": [["store.verify"], ["store.verify", "--json"]],
    "store.gc": [["store.gc"], ["store.gc", "--older", "9", "--json"]],
    "store.push": [["store.push"], ["store.push", "--store", "{odd}/none"]],
    "store.pull": [["store.pull", "none"], ["store.pull", "roots", "--store", "{odd}/none", "--json"]],
    "store.keys": [["store.keys"], ["store.keys", "--json"]],
    "store.trust": [["store.trust", "{odd}/none"], ["store.trust", "none", "--revoke", "--json"]],
    "store.pack": [["store.pack", "none", "--output", "{odd}/none/x"], ["store.pack", "none"]],
    "store.unpack": [["store.unpack", "{odd}/entry"], ["store.unpack", "{odd}/none"]],
    "": [["--list"], ["--help"], ["--version"], ["--help", "build"], ["--nonsense"], ["nonsense"],
         ["help"], ["help", "run"], ["--complete", "bash", "xbuild build "], ["--complete"]],
}
"""What each command does without a root: work, or refuse. `{odd}`: the directory of the fixture."""

LOOK = ("list", "build", "why", "log", "clean", "binfmt.parse", "root.list", "")
"""These look at what faults of the surroundings change."""

# One process, which has loaded xbuild, for all; each case in a fork of it, with its descriptors as Python finds them.
# A line on stdin has cases and the directory of what they say; for each case there is a line on stdout.
RUNNER = r"""
import contextlib, gc, importlib, json, os, resource, sys, traceback
import xbuild.cli.program
import xbuild.cli.namespace
from xbuild.base import log
from xbuild.base.streams import open_streams
from xbuild.roots.resolve import Resolver
# As in conftest.py: nobody asks the network what roots would hold.
Resolver.packages = lambda self, question: {
    **(self.packages(question.base) if question.base else {}),
    **{name: f"{self.archive.suite} {question.architecture} {'0' * 64}" for name in question.packages},
}
Resolver.status = lambda self, question: ""
# What some commands load late would be loaded in each fork.
for name in ("rich.console", "xbuild.cluster.front", "xbuild.cluster.serving", "distributed"):
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
gc.freeze()
full = "/dev/full"

def stream(number, fault):
    name = ("stdin", "stdout", "stderr")[number]
    if fault == "closed":
        os.close(number)
        setattr(sys, name, None); setattr(sys, "__" + name + "__", None)
    elif fault == "full":
        os.dup2(os.open(full, os.O_WRONLY), number)
    elif fault == "broken":
        reading, writing = os.pipe()
        os.close(reading)
        os.dup2(writing, number)

def case(words, fault, talk):
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.closerange(3, 64)
    out = os.open(talk, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(out, number)
    os.close(out)
    for number, of in fault["streams"].items():
        stream(int(number), of)
    os.environ.update(fault.get("environment", {}))
    for name in fault.get("unset", ()):
        os.environ.pop(name, None)
    if fault.get("directory") == "removed":
        os.mkdir(talk + ".gone"); os.chdir(talk + ".gone"); os.rmdir(talk + ".gone")
    if fault.get("files"):
        resource.setrlimit(resource.RLIMIT_NOFILE, (fault["files"],) * 2)
    if fault.get("size") is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (fault["size"],) * 2)
    open_streams()
    log.configure()
    sys.argv = ["xbuild", *words]
    xbuild.cli.program.main()

def outcome(words, fault, folder, number):
    talk = f"{folder}/{number}"
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        os.environ.update(XBUILD_PROJECT=f"{folder}/project", XBUILD_CACHE=f"{folder}/cache")
        # As Python ends: what cannot be flushed has an exit code too.
        code = "import sys"
        try:
            case(words, fault, talk)
            code = 0
        except SystemExit as end:
            code = end.code or 0
        except BaseException:
            os.write(2, traceback.format_exc().encode())
            code = 1
        try:
            sys.stdout.flush()
        except BaseException:
            code = 120
        os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with open(talk, errors="replace") as file:
        return [code, file.read()]

while line := sys.stdin.readline():
    cases, folder = json.loads(line)
    for number, (words, fault) in enumerate(cases):
        print(json.dumps(outcome(words, fault, folder, number)), flush=True)
"""

FAULTS: dict[str, dict[str, object]] = {
    "stdout full": {"streams": {1: "full"}},
    "stdout closed": {"streams": {1: "closed"}},
    "stdout broken": {"streams": {1: "broken"}},
    "stderr full": {"streams": {2: "full"}},
    "stderr closed": {"streams": {2: "closed"}},
    "stderr broken": {"streams": {2: "broken"}},
    "all closed": {"streams": {0: "closed", 1: "closed", 2: "closed"}},
    "all full": {"streams": {1: "full", 2: "full"}},
    "no directory": {"streams": {}, "directory": "removed", "unset": ["XBUILD_PROJECT"]},
    "few files": {"streams": {}, "files": 5},
    "no file may grow": {"streams": {}, "size": 0},
    "HOME unreadable": {"streams": {}, "environment": {"HOME": "{odd}/closed/x"}, "unset": ["XBUILD_CACHE"]},
    "HOME a file": {"streams": {}, "environment": {"HOME": "/dev/null"}, "unset": ["XBUILD_CACHE"]},
    "HOME unset": {"streams": {}, "unset": ["HOME", "XBUILD_CACHE"]},
    "TMPDIR missing": {"streams": {}, "environment": {"TMPDIR": "{odd}/none"}},
    "store a file": {"streams": {}, "environment": {"XBUILD_CACHE": "{odd}/entry"}},
    "store closed": {"streams": {}, "environment": {"XBUILD_CACHE": "{odd}/closed/x"}},
    "project closed": {"streams": {}, "environment": {"XBUILD_PROJECT": "{odd}/closed/x"}},
    "odd locale": {"streams": {}, "environment": {"LC_ALL": "xx_YY.KOI8-Z", "LANG": "", "TERM": "none"}},
}  # fmt: skip


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory of what should not be read."""
    folder = tmp_path_factory.mktemp("odd")
    os.mkfifo(folder / "fifo")
    (folder / "directory").mkdir()
    (folder / "entry").write_text(":a:M::AB::/bin/a:F\n")
    (folder / "secret").write_text("x")
    (folder / "secret").chmod(0)
    (folder / "loop").symlink_to("loop")
    (folder / "two\nerror: forged").write_text("#!/nowhere\nerror: forged\n")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "socket"))
    (folder / "closed").mkdir()
    (folder / "closed").chmod(0)
    yield folder
    (folder / "closed").chmod(0o700)


Runner = subprocess.Popen[str]


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    """The process of `RUNNER`."""
    with subprocess.Popen(
        [sys.executable, "-c", RUNNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        assert process.stdin
        process.stdin.close()
    assert process.returncode == 0


def outcomes(runner: Runner, folder: Path, cases: Any) -> list[tuple[int, str]]:
    """Exit code and talk of each case."""
    # Of the project only what the cases name: `list` reads every recipe.
    for part, names in (("recipes", ("zlib.yml",)), ("toolchains", ("amd64.yml", "armhf.yml"))):
        (folder / "project" / part).mkdir(parents=True)
        for name in names:
            shutil.copy(PROJECT / part / name, folder / "project" / part)
    assert runner.stdin
    assert runner.stdout
    print(json.dumps([cases, str(folder)]), file=runner.stdin, flush=True)
    told = (json.loads(runner.stdout.readline()) for _ in cases)
    return [(code, talk) for code, talk in told]


def filled(value: object, odd: Path) -> Any:
    """`value` with the fixture's directory in it."""
    return json.loads(json.dumps(value).replace("{odd}", str(odd)))


def wrong(code: int, talk: str) -> bool:
    """Whether it ended as only a faulty xbuild ends."""
    return code in (1, 120) or code < 0 or "Traceback" in talk or "Exception ignored" in talk


def test_no_command_is_left_out() -> None:
    assert set(COMMANDS) - {""} == set(namespace.task_names)


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(runner: Runner, tmp_path: Path, odd: Path, fault: str) -> None:
    known = FAULTS[fault]
    every = [words for name, some in COMMANDS.items() for words in some if known["streams"] or name in LOOK]
    if "XBUILD_CACHE" in known.get("unset", ()):  # type: ignore[operator]
        # The store is that of whoever runs the tests: nothing of it may go, and to read all of it takes long.
        every = [words for words in every if words[0] not in ("clean", "store.gc", "store.verify")]
    cases = [(words, known) for words in every]
    found = outcomes(runner, tmp_path, filled(cases, odd))
    bad = [(words, code, talk) for (words, _), (code, talk) in zip(cases, found, strict=True) if wrong(code, talk)]
    assert bad == []
    codes = {" ".join(words): code for (words, _), (code, _) in zip(cases, found, strict=True)}
    if fault in ("stdout full", "stdout closed"):
        assert {codes[words] for words in ("list", "list --json", "build zlib --plan", "--list", "--help build")} == {4}
    if fault in ("stderr full", "stderr closed", "stderr broken", "odd locale", "TMPDIR missing"):
        # Talk may be lost; the work is not.
        assert (codes["list"], codes["build none"], codes["clean"], codes["nonsense"]) == (0, 2, 0, 2)


FILES = ["fifo", "directory", "secret", "loop", "two\nerror: forged", "socket", "closed/x", "none", "x" * 300]
OTHERS = ["/dev/null", "/dev/full", "/dev/zero", "/proc/self/mem", "", "/\udcff\udcfe", "/tmp/\x1b[2J\u202e"]
WITH_FILES = [["binfmt.explain"], ["binfmt.explain", "/x", "--root"], ["binfmt.parse"]]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read all")
def test_files_that_are_none(runner: Runner, tmp_path: Path, odd: Path) -> None:
    names = [str(odd / name) for name in FILES] + OTHERS
    # Who reads entries from a pipe waits for them, as `cat` would.
    pairs = [(words, name) for words in WITH_FILES for name in names if words != ["binfmt.parse"] or "fifo" not in name]
    cases: list[tuple[list[str], dict[str, Any]]] = [([*words, name], {"streams": {}}) for words, name in pairs]
    found = outcomes(runner, tmp_path, cases)
    assert [(case, said) for case, said in zip(cases, found, strict=True) if wrong(*said)] == []
    for _, talk in found:
        assert not any(line.startswith("error: forged") for line in talk.splitlines())
        assert "\x1b" not in talk
        assert "\u202e" not in talk
