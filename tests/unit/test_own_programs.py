"""Programs of the machine's own beside a target's: which are refused, and how an emulated process gets its name."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from xbuild.base import paths
from xbuild.binfmt.formats import parse
from xbuild.binfmt.refusal import refusal
from xbuild.dispatcher import preamble
from xbuild.dispatcher.own import MARK, MARK_AT, REFUSAL, marked

DATA = Path(__file__).parent / "data"
SHOWS = r"""
#include <stdio.h>
#include <stdlib.h>
static void show(const char *path)
{
    FILE *file = fopen(path, "r");
    for (int c; (c = getc(file)) != EOF;)
        putchar(c ? c : '|');
}
int main(int argc, char **argv, char **envp)
{
    for (int i = 0; i < argc; i++)
        printf("%s\n", argv[i]);
    printf("%s\n%s\n", envp[0], getenv("LAST"));
    show("/proc/self/comm"), show("/proc/self/cmdline"), putchar('\n'), show("/proc/self/environ");
    void *memory = malloc(1 << 20); /* by brk */
    return !memory;
}
"""


def taken(architecture: str, start: bytes) -> bool:
    _, (entry,) = parse(refusal(architecture, "/x/refusal").encode("latin-1"), "", "")
    return entry.takes(start, "/any")


def test_the_machine_s_own_programs_are_refused() -> None:
    amd64 = (DATA / "amd64-static").read_bytes()[:64]
    assert taken("amd64", amd64)
    assert taken("amd64", amd64[:8] + b"AI\2" + amd64[11:])
    assert not taken("i386", amd64)
    assert taken("i386", b"\x7fELF\1\1\1" + bytes(9) + b"\2\0\3\0")
    assert not taken("amd64", (DATA / "armhf-pie").read_bytes()[:64])


def test_what_is_marked_runs() -> None:
    amd64 = (DATA / "amd64-static").read_bytes()
    program = marked(amd64)
    assert not taken("amd64", program[:64])
    assert program[MARK_AT : MARK_AT + len(MARK)] == MARK
    assert (program[:MARK_AT], program[MARK_AT + len(MARK) :]) == (amd64[:MARK_AT], amd64[16:])


def test_the_kernel_looks_for_no_module() -> None:
    assert REFUSAL[:4].decode().isprintable()
    assert REFUSAL[:2] != b"#!"


@pytest.fixture(scope="module")
def shows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A static program that shows what it was given, behind named.c."""
    if platform.machine() not in ("x86_64", "aarch64") or shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    folder = tmp_path_factory.mktemp("named")
    for source in paths.DISPATCHER.glob("*.[ch]"):
        shutil.copy(source, folder)
    (folder / "shows.c").write_text(SHOWS)
    script = f"{preamble.COMPILE.format('named')}\ngcc -static -o shows shows.c\n"
    subprocess.run(["sh", "-euc", script], cwd=folder, check=True, capture_output=True)
    program = folder / "qemu"
    program.write_bytes(marked(preamble.prefixed((folder / "shows").read_bytes(), (folder / "named").read_bytes())))
    program.chmod(0o755)
    return program


def ran(program: Path, *words: str) -> list[str]:
    env = {"FIRST": "1", "PATH": os.environ["PATH"], "LAST": "9"}
    done = subprocess.run(words, executable=program, env=env, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.mark.parametrize("more", [(), ("one",), ("one", "", "two words")])
def test_a_process_is_called_as_its_program(shows: Path, more: tuple[str, ...]) -> None:
    first = "a-name-of-16-ch/x/qemu"
    said = ran(shows, first, "-0", "called", "/path/to/a-name-of-16-chars", *more)
    assert said[: 4 + len(more)] == [first, "-0", "called", "/path/to/a-name-of-16-chars", *more]
    variables, comm, arguments, environ = said[4 + len(more) : -3], said[-3], said[-2], said[-1]
    assert variables == ["FIRST=1", "9"]
    assert comm == "a-name-of-16-ch"
    assert arguments == "|".join(("called", *more, ""))
    assert environ == f"FIRST=1|PATH={os.environ['PATH']}|LAST=9|"


@pytest.mark.parametrize("words", [("/x/qemu", "-0", "called", "/path"), ("/x/qemu",), ("name/x/qemu", "-version")])
def test_any_other_start_changes_nothing(shows: Path, words: tuple[str, ...]) -> None:
    said = ran(shows, *words)
    assert said[: len(words)] == [*words]
    assert said[-3:-1] == ["qemu", "|".join((*words, ""))]
