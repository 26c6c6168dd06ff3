"""Completion as one has it who types: real shells on a terminal, those of bash, zsh and fish that are there."""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from xbuild.base import paths

CHECKOUT = paths.PACKAGE.parent
_PATIENCE = 120
"""Seconds; each TAB starts a program, and the machine may be busy."""
PROMPT = "READY> "
# It says what words it got, but for completion, which is ours.
PROGRAM = """#!/bin/sh
if [ "$1" = --complete ]; then exec {python} -m xbuild "$@"; fi
printf '<%s>' "$@"
echo '<END>'
"""
_ZSH = "PROMPT='READY> '\nautoload -Uz compinit\ncompinit -u\n"
_FISH = "function fish_prompt; echo -n 'READY> '; end\nfunction fish_right_prompt; end\n"


@dataclass(frozen=True)
class Shell:
    """How an interactive one is started. rc: the file that it reads first; start: what is in that.

    completion: the file that completion is in; "": it is in rc too.
    """

    command: tuple[str, ...]
    rc: str
    start: str
    completion: str = ""


SHELLS = {
    "bash": Shell(("bash", "--noprofile", "--rcfile", "rc", "-i"), "rc", "PS1='READY> '\n"),
    "zsh": Shell(("zsh", "-d", "-i"), ".zshrc", _ZSH),
    "zsh-file": Shell(("zsh", "-d", "-i"), ".zshrc", f"fpath=(~/functions $fpath)\n{_ZSH}", "functions/_xbuild"),
    "fish": Shell(("fish", "-i"), "config/fish/config.fish", _FISH),
    "fish-file": Shell(("fish", "-i"), "config/fish/config.fish", _FISH, "config/fish/completions/xbuild.fish"),
}


@dataclass
class Terminal:
    """A shell on a terminal of 200 columns."""

    shell: str
    process: subprocess.Popen[bytes]
    master: int
    said: str = field(default="")

    def wait(self, found: Callable[[str], object]) -> str:
        """What the shell has said since the last time, as soon as that is what is looked for."""
        end = time.monotonic() + _PATIENCE
        while not found(self.said):
            ready, _, _ = select.select([self.master], [], [], max(0, end - time.monotonic()))
            assert ready, f"the shell said only: {self.said!r}"
            try:
                self.said += os.read(self.master, 1 << 16).decode(errors="replace")
            except OSError as error:
                raise AssertionError(f"the shell ended: {self.said!r}") from error
        said, self.said = self.said, ""
        return said

    def type(self, text: str) -> None:
        """As keys."""
        os.write(self.master, text.encode())

    def words(self, keys: str) -> list[str]:
        """The words that our program gets when these keys and Enter are pressed."""
        self.type(f"{keys}\r")
        said = self.wait(lambda text: re.search(r"(?<!')<END>[\s\S]*READY> ", text))
        return re.findall(r"<([^<>]*)>", re.split(r"[\r\n]", said[: said.rindex("<END>")])[-1])


@pytest.fixture(params=SHELLS)
def terminal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Terminal]:
    """The shell in a directory of its own, with our completion as the how-to has it."""
    shell = SHELLS[request.param]
    if shutil.which(shell.command[0]) is None:
        pytest.skip(f"there is no {shell.command[0]}")
    ask = [sys.executable, "-m", "xbuild", "completion", shell.command[0]]
    ours = subprocess.run(ask, stdout=subprocess.PIPE, check=True, text=True, cwd=CHECKOUT).stdout
    completion = {shell.completion: ours, shell.rc: shell.start} if shell.completion else {shell.rc: shell.start + ours}
    for name, text in (completion | {"bin/xbuild": PROGRAM.format(python=sys.executable)}).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "bin/xbuild").chmod(0o755)
    # Without it fish reads all manual pages of the machine, in the background.
    (tmp_path / ".local/share/fish/generated_completions").mkdir(parents=True)
    for name in ("own/tiny one.yml", "own/other.txt", "prog.sh"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    master, slave = os.openpty()
    places = {"HOME": str(tmp_path), "ZDOTDIR": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    places |= {"XBUILD_PROJECT": str(CHECKOUT), "XBUILD_CACHE": str(tmp_path / "cache")}
    env = {**os.environ, **places, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "TERM": "xterm", "COLUMNS": "200"}
    # With a terminal of its own, as its controlling one.
    process = subprocess.Popen(
        ["setsid", "--ctty", *shell.command], stdin=slave, stdout=slave, stderr=slave, env=env, cwd=tmp_path
    )
    os.close(slave)
    made = Terminal(shell.command[0], process, master)
    made.wait(lambda text: PROMPT in text)
    yield made
    os.close(master)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(5)
    process.kill()
    process.wait()


def test_commands_recipes_targets_modes_and_phases(terminal: Terminal) -> None:
    assert terminal.words("xbuild bui\tzl\t--targ\tarmh\t") == ["build", "zlib", "--target", "armhf"]
    words = ["build", "-t", "arm64", "zlib", "--from", "compile"]
    assert terminal.words("xbuild build -t arm6\tzli\t--fro\tcomp\t") == words
    assert terminal.words("xbuild build zlib --mode=emu\t") == ["build", "zlib", "--mode=emulated"]
    assert terminal.words("xbuild compare zlib --modes substituted,emu\t")[-1] == "substituted,emulated"
    assert terminal.words("xbuild store.g\t--olde\t5") == ["store.gc", "--older", "5"]
    assert terminal.words("xbuild help compl\t") == ["help", "completion"]


def test_files(terminal: Terminal) -> None:
    assert terminal.words("xbuild build ./own/ti\t-v") == ["build", "./own/tiny one.yml", "-v"]
    assert terminal.words("xbuild run ./pro\tx") == ["run", "./prog.sh", "x"]
    assert terminal.words("xbuild run -- cat own/ot\tx") == ["run", "--", "cat", "own/other.txt", "x"]


def test_around_the_command(terminal: Terminal) -> None:
    assert terminal.words("true; xbuild buil\tx") == ["build", "x"]
    assert terminal.words("A=1 xbuild build 'zli\t x") in (["build", "zlib", "x"], ["build", "zlib x"])
    assert terminal.words("./bin/xbuild bui\tlu\t") == ["build", "lua"]
    assert terminal.words("~/bin/xbuild bui\tlu\t") == ["build", "lua"]


def test_what_there_is_to_choose_from(terminal: Terminal) -> None:
    terminal.type("xbuild build zlib --target \t\t")
    said = terminal.wait(lambda text: all(name in text for name in ("amd64", "arm64", "armhf", "riscv64")))
    # zsh would describe a name by itself.
    assert "-- amd64" not in said


def test_descriptions(terminal: Terminal) -> None:
    terminal.type("xbuild re\t\t")
    said = terminal.wait(lambda text: all(name in text for name in ("ference", "pro", "duce")))
    assert ("Write docs/schema" in said) == (terminal.shell != "bash")
