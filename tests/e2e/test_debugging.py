"""`invoke debug`: gdb on programs of targets, compiled there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.e2e.command_line import CHECKOUT, INVOKE, Xbuild
from tests.e2e.foreign import Terminal

pytestmark = pytest.mark.e2e

SOURCE = """\
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static int sum(int one, int other)
{
    return one + other;
}

static void *work(void *given)
{
    printf("thread %d\\n", *(int *)given);
    return given;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    int seven = 7;
    pthread_create(&thread, NULL, work, &seven);
    pthread_join(thread, NULL);
    printf("sum %d, %s\\n", sum(argc, 40), argc > 1 ? argv[1] : "none");
    return argc > 1 ? atoi(argv[1]) : 0;
}
"""

ENDLESS = """\
#include <stdio.h>

volatile int goes = 1;

int main(void)
{
    for (unsigned turns = 0; goes; turns++)
        if (turns % 0x4000000 == 0) {
            puts("goes on");
            fflush(stdout);
        }
    return 0;
}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the source."""
    path = tmp_path_factory.mktemp("debug")
    (path / "two words.c").write_text(SOURCE)
    return path


def program(xbuild: Xbuild, place: Path, target: str) -> Path:
    made = place / f"it's {target}"
    if not made.exists():
        words = ["gcc", "-g", "-O0", "-pthread", "-o", str(made), str(place / "two words.c")]
        xbuild("run", "--target", target, "--", *words)
    return made


def told(xbuild: Xbuild, made: Path, *commands: str, arguments: tuple[str, ...] = (), code: int = 0) -> str:
    """What gdb says in a batch."""
    words = [word for command in commands for word in ("-ex", command)]
    said = xbuild("debug", "--", "--batch", "--return-child-result", *words, str(made), *arguments, code=code)
    return said.out + said.err


@pytest.mark.parametrize("target", ["armhf", "arm64"])
def test_break_run_backtrace_print(xbuild: Xbuild, place: Path, target: str) -> None:
    made = program(xbuild, place, target)
    commands = ("break sum", "run", "backtrace", "print one + other", "list", "info sharedlibrary", "continue")
    said = told(xbuild, made, *commands, arguments=("5", "a b"), code=5)
    assert f'Breakpoint 1, sum (one=3, other=40) at {place}/two words.c:7' in said
    assert re.search(r"#1 .* in main \(argc=3, argv=0x[0-9a-f]+\) at .*two words.c:22", said)
    assert "$1 = 43" in said
    assert "return one + other;" in said
    assert re.search(r"Yes .*/libc\.so\.6$", said, re.MULTILINE)
    assert "thread 7\nsum 43, 5\n" in said.replace("\r", "")
    assert "exited with code 05" in said


@pytest.mark.parametrize("target", ["armhf", "arm64"])
def test_threads_and_again(xbuild: Xbuild, place: Path, target: str) -> None:
    commands = ("break work", "run", "info threads", "print *(int *)given", "delete", "run 9 >/dev/null")
    said = told(xbuild, program(xbuild, place, target), *commands, code=9)
    assert len(re.findall(r"^[ *] [0-9]+ +Thread ", said, re.MULTILINE)) == 2
    assert "$1 = 7" in said
    assert "exited with code 011" in said
    assert "sum" not in said


def test_start_and_variables(xbuild: Xbuild, place: Path) -> None:
    """Of the environment, and of gdb's own."""
    made = program(xbuild, place, "armhf")
    # Without debug information of libc.
    asked = "((char *(*)(const char *))getenv)"
    commands = ("set environment COLOUR blue", "unset environment HOME", "start", "print argc", "print seven = 8",
                f'print {asked}("COLOUR")', f'print {asked}("HOME")', "watch seven", "kill")  # fmt: skip
    said = told(xbuild, made, *commands, code=255)
    assert "Temporary breakpoint 1, main (argc=1" in said
    assert "$1 = 1" in said
    assert "$2 = 8" in said
    assert re.search(r'\$3 = 0x[0-9a-f]+ "blue"', said)
    assert "$4 = 0x0" in said
    assert "watchpoint 2: seven" in said


@pytest.mark.parametrize("target", ["armhf", "arm64"])
def test_a_key_stops_the_program_and_not_gdb(xbuild: Xbuild, place: Path, target: str) -> None:
    (place / "endless.c").write_text(ENDLESS)
    made = place / f"endless-{target}"
    xbuild("run", "--target", target, "--", "gcc", "-g", "-O0", "-o", str(made), str(place / "endless.c"))
    terminal = Terminal(xbuild, ["debug", "--target", target, "--", "-q", "-nx", str(made)])
    # gdb's own root may have to be made.
    terminal.wait_for("(gdb) ", 600)
    terminal.type("run\n")
    for _ in range(2):
        # gdb says that it continues before it does so, and what is pressed between the two is for gdb.
        terminal.wait_for("goes on")
        terminal.type("\3")
        terminal.wait_for("received signal SIGTRAP")
        terminal.wait_for("(gdb) ")
        # What is pressed while it stands is not heard later.
        terminal.type("\3")
        terminal.wait_for("Quit")
        terminal.type("print goes\n")
        terminal.wait_for(" = 1\r\n")
        terminal.type("continue\n")
        terminal.wait_for("Continuing.")
    terminal.wait_for("goes on")
    terminal.type("\3")
    terminal.wait_for("(gdb) ")
    terminal.type("kill\ny\nquit\n")
    assert terminal.ended() == 0


def test_what_cannot_be_debugged(xbuild: Xbuild, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    assert "is no ELF file" in xbuild("debug", "--", str(script), code=2).err
    assert "has no program 'nosuch'" in xbuild("debug", "--", "nosuch", code=2).err
    assert "programs for amd64 are not emulated here" in xbuild("debug", "--target", "amd64", "--", "ls", code=2).err


def test_a_development_environment(xbuild: Xbuild, place: Path) -> None:
    """What VS Code's extension says to gdb, by gdb's machine interface."""
    made = program(xbuild, place, "armhf")
    process = subprocess.Popen(
        [*INVOKE, "debug", "--target", "armhf", "--", "--interpreter=mi"],
        cwd=CHECKOUT, env=xbuild.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    talk = (
        "1-gdb-set target-async on\n2-enable-pretty-printing\n"
        f'3-file-exec-and-symbols "{made}"\n4-exec-arguments 6\n5-break-insert -f sum\n6-exec-run\n'
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(talk)
    process.stdin.flush()
    said = ""
    for line in process.stdout:
        said += line
        # It also says where it is before the program's first instruction.
        if line.startswith("*stopped,reason="):
            break
    assert 'reason="breakpoint-hit"' in said
    process.stdin.write("7-stack-list-frames\n8-data-evaluate-expression one+other\n9-exec-continue\n")
    process.stdin.flush()
    for line in process.stdout:
        said += line
        if "exited" in line and line.startswith("*stopped"):
            break
    process.stdin.write("-gdb-exit\n")
    process.stdin.close()
    said += process.stdout.read()
    process.stdout.close()
    assert process.wait(60) == 0
    assert '7^done,stack=[frame={level="0"' in said
    assert '8^done,value="42"' in said
    assert 'exit-code="06"' in said
