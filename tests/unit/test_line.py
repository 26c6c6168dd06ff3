"""Words of the command line: by the table, as invoke reads them, without loading what commands do."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit.commands import Run, parsed_by_invoke
from tests.unit.test_docs import PAGES, PLACEHOLDER, blocks, invocations
from xbuild.cli import line, table
from xbuild.cli.arguments import words_after
from xbuild.cli.complete import candidates
from xbuild.cli.groups import GROUPS, grouped
from xbuild.cli.namespace import namespace

PROJECT = Path(__file__).parents[2]
TABLE = table.load()


def test_the_table_is_current() -> None:
    # In a process of its own: invoke gives the texts away only once.
    code = "from xbuild.cli import namespace, table; import sys; sys.stdout.write(table.of(namespace.namespace).text())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert table.FILE.read_text() == done.stdout, "write it again: invoke reference"


def by_invoke(words: list[str]) -> list[tuple[str, dict[str, Any]]]:
    return [(str(context.name), context.as_kwargs) for context in parsed_by_invoke(words)]


COMMANDS = sorted(
    {
        shlex.join(words)
        for page in PAGES
        for _, lines in blocks(page.read_text())
        for words in invocations(lines)
        if words[0].endswith("invoke") and len(words) > 1
        if not PLACEHOLDER.fullmatch(words[1]) and not words[1].startswith("-")
    }
    | {
        "invoke build zlib -t arm64 -j4 -vy --plan", "invoke build --plan zlib -t=arm64",
        "invoke bisect x --no-objects", "invoke shell",
        "invoke shell -- ls", "invoke build zlib --without=--x", "invoke build zlib --suite ''",
        "invoke test --repeat 3 --load",
    }
)  # fmt: skip


@pytest.mark.parametrize("text", COMMANDS)
def test_words_are_read_as_invoke_reads_them(text: str) -> None:
    words = shlex.split(text)
    own = words[: words.index("--")] if "--" in words else words
    (name, values), *further = by_invoke(words)
    # invoke takes several commands in a line.
    if not further:
        read = line.read(TABLE.commands[name], words[own.index(name) + 1 :])
        assert read.values == values
        assert read.rest == (words[words.index("--") + 1 :] if "--" in words else None)


@pytest.mark.parametrize(
    ("words", "rest"),
    [
        (["./prog"], ["./prog"]),
        (["-t", "armhf", "./prog", "-v", "--help"], ["./prog", "-v", "--help"]),
        (["--trace", "--", "ls", "--", "x"], ["ls", "--", "x"]),
        (["make", "-j4"], ["make", "-j4"]),
    ],
)
def test_a_program_needs_no_dashes_before_it(words: list[str], rest: list[str]) -> None:
    read = line.read(TABLE.commands["run"], words)
    assert (read.rest, read.help) == (rest, False)
    assert words_after(line.Remainder.of(read.rest)) == rest
    assert words_after(line.Remainder.of([])) == []


def test_words_of_which_there_may_be_many() -> None:
    read = line.read(TABLE.commands["repo"], ["place", "a.deb", "--sign", "me", "b.deb", "--add", "c"])
    assert (read.values["directory"], read.values["sign"]) == ("place", "me")
    assert read.values["add"] == ["a.deb", "b.deb", "c"]
    assert line.read(TABLE.commands["repo"], ["place"]).values["add"] == []


def test_every_command_has_one_heading() -> None:
    every = [*namespace.task_names, "new", "root.new"]
    found = grouped(every)
    assert sorted(name for names in found.values() for name in names) == sorted(every)
    assert "new" in found["More"]
    assert "root.new" in found["Roots, store, machine"]
    members = [name for names in GROUPS.values() for name in names]
    assert len(members) == len(set(members))


LIGHT = """
import sys
from xbuild.cli.program import XbuildProgram
heavy, words = sys.argv[1].split(), sys.argv[2:]
if words[0] in ("build", "why"):
    # As in conftest.py: nobody asks the network what roots would hold.
    from xbuild.roots.resolve import Resolver
    Resolver.packages = lambda self, question: dict.fromkeys(question.packages, "1.0-1 armhf")
    Resolver.status = lambda self, question: ""
XbuildProgram().run(["xbuild", *words])
sys.exit(" ".join(name for name in heavy if name in sys.modules) or 0)
"""
OFTEN = (
    "invoke jinja2 elftools.elf.elffile http.client ssl html.parser concurrent.futures importlib.metadata rich.console "
    "distributed"
)
"""What takes long to load, and only some commands need, and these only when they have something to do."""
ALWAYS = f"{OFTEN} pydantic yaml xbuild.build xbuild.sandbox"


@pytest.mark.parametrize(
    ("words", "heavy"),
    [
        (["--help"], ALWAYS),
        (["help", "build"], ALWAYS),
        (["--complete", "bash", "xbuild build "], ALWAYS),
        (["run", "--help"], ALWAYS),
        (["--version"], ALWAYS.replace("importlib.metadata", "")),
        (["list"], f"{OFTEN} xbuild.build.modes.table xbuild.roots xbuild.sandbox xbuild.proof"),
        (["list", "--json"], OFTEN),
        (["build", "zlib", "--plan"], OFTEN),
        (["why", "zlib"], OFTEN),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_commands_load_little(cache: Path, words: list[str], heavy: str) -> None:
    command = [sys.executable, "-c", LIGHT, heavy, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_no_command_loads_invoke() -> None:
    modules = sorted({command.module for command in TABLE.commands.values() if command.name != "reference"})
    load = f"import importlib, sys; [importlib.import_module(name) for name in {modules}]"
    code = f"{load}; sys.exit('invoke' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("command", ["run", "shell", "build", "check"])
def test_what_runs_programs_loads_little_before(command: str) -> None:
    load = f"import sys, {TABLE.commands[command].module}"
    code = f"{load}; sys.exit(' '.join(name for name in {OFTEN.split()} if name in sys.modules) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("command", "others"),
    [
        ("run", "xbuild.build.modes xbuild.build.subject xbuild.graph xbuild.model.recipe xbuild.doctor.trials fsspec"),
        ("build", "xbuild.graph xbuild.cli.many xbuild.build.modes.system fsspec distributed"),
    ],
)
def test_what_is_given_often_loads_nothing_of_others(command: str, others: str) -> None:
    load = f"import sys, {TABLE.commands[command].module}"
    code = f"{load}; sys.exit(' '.join(name for name in {others.split()} if name in sys.modules) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def offered(text: str, shell: str = "bash") -> list[str]:
    return [word.partition("\t")[0] for word in candidates(TABLE, shell, text)]


def test_completion_knows_what_can_come(cache: Path, tmp_path: Path) -> None:
    assert {"build", "shell", "help", "store.gc"} <= set(offered("xbuild "))
    assert offered("xbuild bui") == ["build"]
    assert offered("xbuild help comp") == ["compare", "completion"]
    assert {"zlib", "lua"} <= set(offered("xbuild build "))
    assert offered("xbuild build zl") == ["zlib"]
    assert offered("xbuild build ./") == [":files"]
    assert offered("xbuild build zlib --tar") == ["--target"]
    assert offered("xbuild build zlib --target arm") == offered("xbuild build -t arm") == ["arm64", "armhf"]
    assert offered("xbuild build zlib --mode=sub") == ["substituted"]
    assert offered("xbuild build zlib --mode=sub", "zsh") == ["--mode=substituted"]
    assert {"substituted", "emulated"} <= set(offered("xbuild build zlib --fallback "))
    assert offered("xbuild build zlib --from un") == ["unpack"]
    assert offered("xbuild log zlib --phase comp") == ["compile"]
    assert offered("xbuild compare zlib --modes substituted,emu") == ["substituted,emulated"]
    assert "substituted,substituted" not in offered("xbuild compare zlib --modes substituted,")
    assert "roots" in offered("xbuild store.ls --kind r")
    assert offered("xbuild run --native o") == ["on", "off"]
    assert offered("xbuild bisect zlib --no-") == ["--no-objects", "--no-push"]
    assert offered("xbuild run ./") == offered("xbuild run -- ls ") == offered("xbuild run ls -") == [":files"]
    assert "--target" in offered("xbuild build zlib ")
    assert offered("true; xbuild bui") == offered("cd 'a;b' && xbuild bui") == ["build"]
    assert offered("xbuild build 'zl") == ["zlib"]
    assert offered("xbuild nonsense ") == offered("xbuild build zlib '\\") == []
    (cache / "kept" / "tools").mkdir(parents=True)
    assert offered("xbuild run --keep t") == ["tools"]
    lines = candidates(TABLE, "fish", "xbuild bui")
    assert lines == ["build\t" + TABLE.commands["build"].summary.partition("; ")[0]]


def in_bash(completion: str, text: str, folder: Path) -> list[str]:
    """What bash, interactive as far as completion goes, offers for `text` with the cursor at its end."""
    script = f"""
eval "$1"
set -- {shlex.quote(text)}
COMP_LINE=$1 COMP_POINT=${{#1}}
read -r -a COMP_WORDS <<< "$1"
[[ $1 == *' ' ]] && COMP_WORDS+=("")
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
complete -p xbuild > /dev/null || exit 9
_xbuild "${{COMP_WORDS[0]}}" "${{COMP_WORDS[COMP_CWORD]}}" ""
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    command = ["bash", "-c", script, "x", completion]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_completion_in_bash(xbuild: Run, cache: Path, tmp_path: Path) -> None:
    program = tmp_path / "x bin" / "xbuild"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nexec {sys.executable} -m xbuild \"$@\"\n")
    program.chmod(0o755)
    script = xbuild("completion", "bash").out
    assert in_bash(script, "x\\ bin/xbuild bui", tmp_path) in ([], ["build"])
    link = tmp_path / "xbuild"
    link.symlink_to(program)
    assert in_bash(script, "./xbuild bui", tmp_path) == ["build"]
    assert in_bash(script, "./xbuild build zlib --target ", tmp_path) == ["amd64", "arm64", "armhf", "riscv64"]
    assert in_bash(script, "./xbuild build ./", tmp_path) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(xbuild: Run, shell: str) -> None:
    text = xbuild("completion", shell).out
    assert f"--complete {shell}" in text
    assert xbuild("completion", "zhs").code == 2


def test_what_can_name_several_can_be_given_again() -> None:
    """invoke takes no option twice; for others the last one counts."""
    words = ["a", "b", "--target", "armhf", "-t", "arm64", "--target=amd64", "--suite", "x", "--suite", "y"]
    values = line.read(TABLE.commands["build"], words).values
    assert (values["target"], values["suite"]) == ("armhf,arm64,amd64", "y")
    assert line.read(TABLE.commands["compare"], ["a", "--modes", "x", "--modes", "y"]).values["modes"] == "x,y"
