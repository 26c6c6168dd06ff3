"""Projects without a recipe: built where they lie, again after an edit, and the same as from scratch."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.command_line import CHECKOUT, Xbuild, unpacked

pytestmark = pytest.mark.e2e


@dataclass(frozen=True)
class Edit:
    """A project of `projects/`, a change to it, and what comes of that.

    compiled: names of the C and C++ files that are compiled then. says: what its program says at last.
    """

    project: str
    file: str
    old: str
    new: str
    compiled: set[str]
    program: str
    says: str


EDITS = (
    Edit("cmake", "lib/forecast.cpp", "cold", "icy", {"forecast.cpp"}, "weather", "tomorrow: icy"),
    Edit("meson", "hands.c", "30.0", "31.0", {"hands.c"}, "clock", "at nine: 291 degrees"),
    Edit("autotools", "words.c", "bits:", "words:", {"words.c"}, "bits", "words: 32"),
    Edit("make", "greet.c", "hello", "good day", {"greet.c"}, "greeter", "good day, world"),
    # It says nowhere who includes this one.
    Edit("make", "greet.h", "world", "moon", {"greet.c", "main.c"}, "greeter", "hello, moon"),
)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory for projects, with a name as no one should have it."""
    path = tmp_path / "it's \"mine\"\n"
    path.mkdir()
    return path


def copied(name: str, place: Path) -> Path:
    return Path(shutil.copytree(Path(__file__).parent / "projects" / name, place / name))


def edit(tree: Path, change: Edit) -> None:
    file = tree / change.file
    text = file.read_text()
    assert change.old in text
    file.write_text(text.replace(change.old, change.new))


def built(xbuild: Xbuild, tree: Path, *words: str) -> tuple[dict[str, tuple[str, int, str]], str]:
    """What an artifact holds, and whether it was there."""
    result: dict[str, Any] = xbuild.build(str(tree), *words)
    return unpacked(result["artifact"]), result["status"]


LONG = ("meson", "autotools")
"""What these are built again for, the others show too."""
CASES = [
    pytest.param(one, id=f"{one.project}-{one.file}", marks=pytest.mark.long if one.project in LONG else ())
    for one in EDITS
]


@pytest.mark.parametrize("change", CASES)
def test_a_project_is_built_again_after_an_edit(xbuild: Xbuild, place: Path, change: Edit) -> None:
    tree = copied(change.project, place)
    before = sorted(path for path in tree.rglob("*"))
    first, status = built(xbuild, tree)
    assert (status, built(xbuild, tree)[1]) == ("built", "up-to-date")
    edit(tree, change)
    second, status = built(xbuild, tree)
    assert status == "built"
    assert first != second
    log = xbuild("log", str(tree), "--phase", "compile").out
    assert set(re.findall(r"[a-z]+\.c(?:pp)?(?=\.o|$|\s)", log, re.MULTILINE)) == change.compiled
    said = xbuild("shell", str(tree), "--artifact", "--", change.program).out
    assert said == f"{change.says}\n"
    assert built(xbuild, tree, "--from", "unpack") == (second, "built")
    # Nothing was written there.
    assert sorted(path for path in tree.rglob("*")) == before
    assert not (xbuild.project / "dist").exists()


def test_files_that_come_and_go(xbuild: Xbuild, place: Path) -> None:
    tree = copied("make", place)
    built(xbuild, tree)
    (tree / "docs").mkdir()
    odd = tree / "docs" / "a b'c\n-d"
    odd.write_text("x")
    (tree / "main.c").rename(tree / "other.c")
    (tree / "main.c").symlink_to("other.c")
    built(xbuild, tree)
    (kept,) = (xbuild.cache / "work").glob("make-armhf-*/build/src")
    assert (kept / "docs" / odd.name).read_text() == "x"
    assert (kept / "main.c").is_symlink()
    shutil.rmtree(tree / "docs")
    (tree / "main.c").unlink()
    (tree / "other.c").rename(tree / "main.c")
    # What the PC's compiler has made there is none of it.
    (tree / "greet.o").write_text("no object")
    # Or it would be what was built at first, and up to date.
    edit(tree, EDITS[3])
    last = built(xbuild, tree)[0]
    assert sorted(path.name for path in kept.iterdir()) == sorted(
        ["Makefile", "greet.c", "greet.h", "greet.o", "greeter", "main.c", "main.o"]
    )
    assert not (kept / "main.c").is_symlink()
    assert built(xbuild, tree, "--from", "unpack")[0] == last


def test_a_build_that_failed_goes_on_with_what_was_mended(xbuild: Xbuild, place: Path) -> None:
    tree = copied("cmake", place)
    good = (tree / "src" / "main.cpp").read_text()
    (tree / "src" / "main.cpp").write_text(good.replace("main()", "main("))
    assert "main.cpp" in xbuild.fails(str(tree), code=3)
    (tree / "src" / "main.cpp").write_text(good)
    said = xbuild("build", str(tree)).err
    assert "in the tree that was kept, 1 changed: 'src/main.cpp'" in said
    log = xbuild("log", str(tree), "--phase", "compile").out
    assert "main.cpp" in log
    # One that cmake has to look for.
    (tree / "src" / "more.cpp").write_text("int more() { return 1; }\n")
    built(xbuild, tree)
    assert "more.cpp" in xbuild("log", str(tree), "--phase", "compile").out


def test_what_is_no_project(xbuild: Xbuild, place: Path) -> None:
    assert "no build system is recognised there" in xbuild.fails(str(place), code=2)
    for name in ("CMakeLists.txt", "Makefile"):
        (place / name).touch()
    said = xbuild("build", str(place), "--plan").err
    assert "is built by cmake; there is also --preset make" in said
    assert "unknown preset 'mak'; did you mean 'make'?" in xbuild.fails(str(place), "--preset", "mak", code=2)
    assert "several recipes" in xbuild.fails(str(CHECKOUT), code=2)


def test_a_recipe_that_init_has_begun(xbuild: Xbuild, place: Path) -> None:
    tree = copied("make", place)
    file = tree / "recipes" / "make.yml"
    assert file.name in xbuild("init", str(tree)).out
    assert "is there already" in xbuild("init", str(tree), code=2).err
    here = {"XBUILD_PROJECT": str(tree)}
    assert xbuild("build", "make", "--json", env=here).json["status"] == "built"
    # What came to its own dist/ is none of its sources.
    assert (tree / "dist" / "make-0-armhf.tar.zst").exists()
    assert xbuild("build", str(tree), "--json", env=here).json["status"] == "up-to-date"
