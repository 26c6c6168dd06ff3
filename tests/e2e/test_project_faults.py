"""Bad input and faults around projects without recipes."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.command_line import Xbuild, unpacked, wait_for

pytestmark = pytest.mark.e2e

PROJECTS = Path(__file__).parent / "projects"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A project with a Makefile."""
    return Path(shutil.copytree(PROJECTS / "make", tmp_path / "make"))


def kept(xbuild: Xbuild) -> Path:
    """Its tree in the store."""
    (found,) = (xbuild.cache / "work").glob("make-armhf-*/build/src")
    return found


def waiting(tree: Path, name: str, command: str) -> None:
    """Let `command` run before the C file of that name is compiled."""
    file = tree / "Makefile"
    file.write_text(f"{file.read_text()}\n{name}.o: {name}.c\n\t@{command}\n\t$(CC) -c {name}.c\n")


def begun(xbuild: Xbuild) -> bool:
    """Whether that has begun."""
    logs = (xbuild.cache / "work").glob("make-*/logs/*-compile.log")
    return any("begun" in log.read_text(errors="replace") for log in logs)


@pytest.fixture
def read_only(tree: Path) -> Iterator[Path]:
    """It, as on a medium that cannot be written to."""
    everything = [tree, *tree.rglob("*")]
    for path in everything:
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield tree
    for path in everything:
        path.chmod(0o755)


def test_a_project_that_cannot_be_written_to(xbuild: Xbuild, read_only: Path) -> None:
    assert xbuild.build(str(read_only))["status"] == "built"
    (read_only / "greet.c").chmod(0o644)
    (read_only / "greet.c").write_text((read_only / "greet.c").read_text().replace("hello", "good day"))
    assert xbuild.build(str(read_only))["status"] == "built"
    assert xbuild("shell", str(read_only), "--artifact", "--", "greeter").out == "good day, world\n"


def test_a_further_work_tree_of_git(xbuild: Xbuild, tree: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "make"
    (tree / ".gitignore").write_text("*.log\n")
    for words in (["init", "-q"], ["add", "-A"], ["-c", "user.name=A", "-c", "user.email=a@b", "commit", "-qm", "x"],
                  ["worktree", "add", "-q", str(other)]):  # fmt: skip
        subprocess.run(["git", *words], cwd=tree, check=True)
    (other / "build.log").write_text("ignored")
    result = xbuild.build(str(other))
    assert (result["status"], xbuild.build(str(other))["status"]) == ("built", "up-to-date")
    assert not (kept(xbuild) / "build.log").exists()
    subprocess.run(["git", "worktree", "remove", "--force", str(other)], cwd=tree, check=True)


@pytest.mark.long
def test_a_build_directory_of_the_machine_s_own_compiler(xbuild: Xbuild, tmp_path: Path) -> None:
    tree = Path(shutil.copytree(PROJECTS / "cmake", tmp_path / "cmake"))
    (tree / "build" / "CMakeFiles").mkdir(parents=True)
    cache = f"CMAKE_HOME_DIRECTORY:INTERNAL={tree}\nCMAKE_C_COMPILER=/opt/x86/cc\n"
    (tree / "build" / "CMakeCache.txt").write_text(cache)
    said = xbuild("build", str(tree))
    assert re.search(r"left out, for builds on this machine made it: '?build/'?", said.err)
    log = xbuild("log", str(tree), "--phase", "configure").out
    assert "/opt/x86/cc" not in log


@pytest.mark.long
def test_an_edit_while_it_builds(xbuild: Xbuild, tree: Path) -> None:
    """What is built is what was there when it began; the next build has the edit."""
    # So long that the edit falls into it: no build waits for somebody outside.
    waiting(tree, "greet", "echo begun; sleep 3")
    process = xbuild.start("build", str(tree), "--target", "armhf", "--json")
    wait_for("the compiler", lambda: begun(xbuild))
    (tree / "greet.c").write_text((tree / "greet.c").read_text().replace("hello", "good day"))
    xbuild.ended(process)
    assert xbuild("build", str(tree), "--json").json["status"] == "built"
    assert xbuild("shell", str(tree), "--artifact", "--", "greeter").out == "good day, world\n"


@pytest.mark.long
def test_control_c_and_again(xbuild: Xbuild, tree: Path) -> None:
    makefile = (tree / "Makefile").read_text()
    waiting(tree, "main", "test -e first || { touch first; echo begun; sleep 98761; }")
    process = xbuild.start("build", str(tree), "--target", "armhf")
    wait_for("the compiler", lambda: begun(xbuild))
    process.send_signal(signal.SIGINT)
    xbuild.ended(process, code=130)
    result = xbuild.build(str(tree))
    assert result["status"] == "built"
    # From a new tree, in which that file is not.
    (tree / "Makefile").write_text(makefile)
    assert xbuild.build(str(tree), "--from", "unpack")["status"] == "built"


def test_two_at_once(xbuild: Xbuild, tree: Path) -> None:
    """The second waits, says for whom, and has nothing to do."""
    waiting(tree, "main", "echo begun; sleep 3")
    first = xbuild.start("build", str(tree), "--target", "armhf", "--json")
    wait_for("the compiler", lambda: begun(xbuild))
    second = xbuild.start("build", str(tree), "--target", "armhf", "--json")
    one, other = xbuild.ended(first), xbuild.ended(second)
    assert (one.json["status"], other.json["status"]) == ("built", "up-to-date")
    assert "waiting" in other.err
    assert "builds make 0 for armhf" in other.err
    assert unpacked(one.json["artifact"]) == unpacked(other.json["artifact"])


def test_a_shell_after_a_build(xbuild: Xbuild, tree: Path) -> None:
    """The tree of a project stays, so it is where the shell is."""
    xbuild.build(str(tree))
    said = xbuild("shell", str(tree), "--", "ls greeter && make -q greeter && echo nothing to do")
    assert said.out == "greeter\nnothing to do\n"


def test_packages_that_are_not_there(xbuild: Xbuild, tree: Path) -> None:
    recipe = tree / "recipes" / "make.yml"
    recipe.parent.mkdir()
    recipe.write_text(
        "schema: 1\nname: make\nversion: '1'\nsources: [{path: .}]\ndepends: {packages: [zlib1g-dve]}\n"
        "build: {preset: make, incremental: true}\n"
    )
    said = xbuild.fails(str(tree), code=2)
    assert "zlib1g-dve" in said
    assert "zlib1g-dev" in said
