"""Which words of `debug` are gdb's, and what it is for that has a program started under the emulator."""

from __future__ import annotations

from pathlib import Path

import pytest

from xbuild.base.errors import UsageError
from xbuild.cli import complete, line, table
from xbuild.session import debug, files

DATA = Path(__file__).parent / "data"
TABLE = table.load()


@pytest.mark.parametrize(
    ("words", "own", "program"),
    [
        (["./a", "-ex", "b"], [], ["./a", "-ex", "b"]),
        (["--batch", "-ex", "break main", "./a"], ["--batch", "-ex", "break main"], ["./a"]),
        (["-ex=run", "-x", "file", "a"], ["-ex=run", "-x", "file"], ["a"]),
        (["-q", "--args", "./-odd", "--x"], ["-q"], ["./-odd", "--x"]),
        (["--interpreter=mi"], ["--interpreter=mi"], []),
    ],
)
def test_gdb_s_words(words: list[str], own: list[str], program: list[str]) -> None:
    assert debug.split(words) == (own, program)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--targt", "arm64", "a"], "did you mean '--target'?"),
        (["--batsh", "a"], "did you mean '--batch'?"),
        (["-ex"], "-ex wants a value"),
    ],
)
def test_words_of_nobody(words: list[str], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        debug.split(words)
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("words", "values", "rest"),
    [
        (["-t", "arm64", "./a", "-v"], {"target": "arm64"}, ["./a", "-v"]),
        (["--target=arm64", "-tui", "./a"], {"target": "arm64"}, ["-tui", "./a"]),
        (["--keep", "x", "--batch", "--target", "y", "a"], {"keep": "x"}, ["--batch", "--target", "y", "a"]),
        (["-ex", "run", "a"], {}, ["-ex", "run", "a"]),
        (["--", "--keep", "a"], {}, ["--keep", "a"]),
    ],
)
def test_the_first_word_of_another_begins_gdb_s(words: list[str], values: dict[str, str], rest: list[str]) -> None:
    read = line.read(TABLE.commands["debug"], words)
    given = {name: value for name, value in read.values.items() if value}
    assert (given, read.rest) == (values, rest)


def test_it_is_offered_programs() -> None:
    assert complete.candidates(TABLE, "bash", "xbuild debug ./a") == [complete.FILES]
    assert "--keep" in complete.candidates(TABLE, "bash", "xbuild debug --k")


def test_a_program_of_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "root/usr/bin").mkdir(parents=True)
    (tmp_path / "root/usr/bin/x").write_bytes((DATA / "armhf-pie").read_bytes())
    (tmp_path / "root/usr/bin/script").write_text("#!/bin/sh\n")
    (tmp_path / "root/bin").symlink_to("usr/bin")
    view = files.View([tmp_path / "root"], [])
    monkeypatch.chdir(tmp_path)
    assert debug._program_of("x", view) == debug._program_of("/bin/x", view) == "/usr/bin/x"
    assert debug._program_of(str(DATA / "armhf-pie"), view) == str(DATA / "armhf-pie")
    with pytest.raises(UsageError, match="script is no ELF file"):
        debug._program_of("script", view)
