"""`invoke compare`: what comes out of several modes, held against each other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.command_line import Xbuild

pytestmark = pytest.mark.e2e

_HALF = "double half(double x)\n{\n    return x / 2;\n}\n"
# True in emulated mode alone, where no shell has a twin. No recipe should ask such a thing; these are to be found out.
_EMULATED = 'case $(readlink /proc/$$/exe) in *qemu*) true ;; *) false ;; esac'
_INSTALL = 'install -D -m 644 answer "$DESTDIR/usr/share/answer"'
_LIBRARY = {
    "compile": "cc $CFLAGS -g -O2 $DEBUG -c half.c\nar rcsD libhalf.a half.o\necho $DEBUG > config.h\necho 42 > answer",
    "install": f'{_INSTALL}\ninstall -D -m 644 libhalf.a "$DESTDIR/usr/lib/libhalf.a"',
}


def compare(xbuild: Xbuild, *words: str, recipe: str = "tiny", code: int = 0) -> Any:
    """The JSON object of a comparison of both modes."""
    said = xbuild("compare", recipe, "--modes", "substituted,emulated", "--json", *words, code=code)
    return said.json


def library(xbuild: Xbuild, **phases: str) -> None:
    """A recipe that compiles a file; phases: text before the usual one."""
    texts = {name: phases.get(name, 'CFLAGS= DEBUG=') + "\n" + text for name, text in _LIBRARY.items()}
    xbuild.recipe(files={"half.c": _HALF}, build=texts)


def page(result: Any) -> str:
    """The text of a result's report, which needs nothing beside it."""
    text = Path(result["html"]).read_text()
    assert re.findall(r"<script|<link|<img|src=|@import|url\(", text) == []
    return text


def test_both_modes_give_the_same(xbuild: Xbuild) -> None:
    library(xbuild)
    result = compare(xbuild, "--objects")
    assert result["identical"]
    assert result["html"] == str(xbuild.project / "dist" / "compare-tiny-1-armhf.html")
    assert [(run["mode"], run["status"], run["objects"]) for run in result["modes"]] == [
        ("substituted", "built", 2),
        ("emulated", "built", 2),
    ]
    (pair,) = result["pairs"]
    # usr, usr/lib, usr/lib/libhalf.a, usr/share, usr/share/answer
    assert pair["artifact"] == {"identical": 5, "same_code": 0, "different": 0, "only": 0}
    assert pair["objects"] == {"identical": 2, "same_code": 0, "different": 0, "only": 0}
    assert (pair["differences"], pair["generated"], result["again"]) == ([], [], None)
    assert "✓ Identical" in page(result)
    again = compare(xbuild, "--objects")
    assert [run["status"] for run in again["modes"]] == ["up-to-date", "up-to-date"]
    assert [run["phases"] for run in again["modes"]] == [run["phases"] for run in result["modes"]]
    assert (again["identical"], again["pairs"]) == (True, result["pairs"])


_ONE_STEP = r"""
printf '#include <math.h>\nint main(int c, char **v) { (void)v; return (int)sqrt(c) - 1; }\n' > a.c
cp a.c a.cc
gcc -g -O2 -o c a.c -lm
g++ -g -O2 -MMD -o cc a.cc
printf 'int main(void) { int n = 1;\n#pragma omp target map(tofrom: n)\nn--;\nreturn n; }\n' > target.c
gcc -g -O2 -fopenmp -frandom-seed=1 -c target.c
gcc -fopenmp -o openmp target.o
"""


@pytest.mark.parametrize("target", ["armhf", pytest.param("arm64", marks=pytest.mark.long)])
def test_compiled_and_linked_by_one_command(xbuild: Xbuild, target: str) -> None:
    """Debian's compiler for arm64 itself is made for offloading, its cross compiler is not."""
    install = 'install -D -t "$DESTDIR/usr/bin" c cc openmp'
    outputs = [{"path": f"usr/bin/{name}", "kind": "executable", "run": []} for name in ("c", "cc", "openmp")]
    xbuild.recipe(build={"compile": _ONE_STEP, "install": install}, outputs=outputs)
    result = compare(xbuild, "--target", target, "--objects")
    assert (result["identical"], result["pairs"][0]["differences"]) == (True, [])


def test_people_get_a_table(xbuild: Xbuild) -> None:
    xbuild.recipe()
    html = xbuild.project / "own" / "report.html"
    said = xbuild("compare", "tiny", "--modes", "substituted,emulated", "--html", str(html)).out
    lines = said.splitlines()
    assert lines[0].split() == ["mode", "status", "configure", "compile", "install", "total", "speed", "artifact",
                                "files", "objects"]  # fmt: skip
    assert [line.split()[:2] for line in lines[1:3]] == [["substituted", "built"], ["emulated", "built"]]
    assert "substituted and emulated: identical (artifact: 3 of 3 identical)" in lines
    assert lines[-1] == f"report: {html}"
    assert html.exists()
    # Nothing was to be kept, so nothing was.
    assert not xbuild.place().exists()


@pytest.mark.long
def test_trees_that_were_not_kept_are_made_anew(xbuild: Xbuild) -> None:
    library(xbuild)
    compare(xbuild)
    result = compare(xbuild, "--objects")
    assert [run["status"] for run in result["modes"]] == ["built", "built"]
    assert result["pairs"][0]["objects"]["identical"] == 2
    assert (xbuild.place(mode="emulated") / "build/src/half.o").exists()


def test_a_file_that_depends_on_the_mode_is_named(xbuild: Xbuild) -> None:
    xbuild.recipe(build={"compile": f"if {_EMULATED}; then echo slow; else echo fast; fi > answer"})
    result = compare(xbuild, code=5)
    assert not result["identical"]
    (pair,) = result["pairs"]
    assert (pair["identical"], pair["same_code"]) == (False, False)
    assert pair["artifact"] == {"identical": 2, "same_code": 0, "different": 1, "only": 0}
    expected = {"path": "usr/share/answer", "verdict": "different", "sections": ["contents"], "own": False}
    assert pair["differences"] == [{"where": "artifact", **expected}]
    # It was built twice in one mode, to be sure that the other one is the reason; that place is gone.
    assert result["again"] == {"mode": "substituted", "status": "built", "message": None}
    assert result["not_reproducible"] == []
    assert not xbuild.place().with_name(f"{xbuild.place().name}-again").exists()
    text = page(result)
    assert "✗ Different" in text
    assert "-fast\n+slow" in text
    said = xbuild("compare", "tiny", code=5)
    assert "error: tiny 1 for armhf: 1 file differs between substituted and emulated" in said.err
    assert "usr/share/answer: different (contents)" in said.err


def test_modes_owners_and_links_are_compared(xbuild: Xbuild) -> None:
    install = f'{_INSTALL}\nif {_EMULATED}; then chmod 600 "$DESTDIR/usr/share/answer"; touch "$DESTDIR/usr/more"; fi'
    xbuild.recipe(build={"install": install})
    (pair,) = compare(xbuild, code=5)["pairs"]
    found = {item["path"]: (item["verdict"], item["sections"]) for item in pair["differences"]}
    assert found == {"usr/share/answer": ("different", ["mode"]), "usr/more": ("only in emulated", [])}


@pytest.mark.long
def test_the_same_code_with_other_debug_information(xbuild: Xbuild) -> None:
    library(xbuild, compile=f"CFLAGS= DEBUG=; if {_EMULATED}; then DEBUG=-gno-column-info; fi")
    result = compare(xbuild, "--objects", code=5)
    (pair,) = result["pairs"]
    assert (pair["identical"], pair["same_code"]) == (False, True)
    found = {(item["where"], item["path"]): item for item in pair["differences"]}
    assert set(found) == {
        ("artifact", "usr/lib/libhalf.a"), ("objects", "src/half.o"), ("objects", "src/libhalf.a")
    }  # fmt: skip
    for item in found.values():
        assert item["verdict"] == "same code and data"
        assert ".debug_line" in item["sections"]
        assert all(".debug_" in section for section in item["sections"])
    assert [member["name"] for member in found["artifact", "usr/lib/libhalf.a"]["members"]] == ["half.o"]
    assert pair["generated"] == ["src/config.h"]
    assert "≈ Same code and data" in page(result)


@pytest.mark.long
def test_other_code_is_different(xbuild: Xbuild) -> None:
    library(xbuild, compile=f"DEBUG= CFLAGS=; if {_EMULATED}; then CFLAGS=-mthumb; else CFLAGS=-marm; fi")
    (pair,) = compare(xbuild, code=5)["pairs"]
    (found,) = pair["differences"]
    assert (found["path"], found["verdict"]) == ("usr/lib/libhalf.a", "different")
    assert ".text" in found["sections"]


@pytest.mark.long
def test_a_recipe_that_is_not_reproducible_by_itself(xbuild: Xbuild) -> None:
    xbuild.recipe(build={"compile": f"date +%s%N > answer; {_EMULATED} && echo x > more || echo y > more",
                         "install": f'{_INSTALL}; install -D -m 644 more "$DESTDIR/usr/share/more"'})  # fmt: skip
    result = compare(xbuild, code=5)
    assert result["not_reproducible"] == ["usr/share/answer"]
    own = {item["path"]: item["own"] for item in result["pairs"][0]["differences"]}
    assert own == {"usr/share/answer": True, "usr/share/more": False}
    said = xbuild("compare", "tiny", code=5)
    assert "not reproducible by itself: built twice in mode substituted, 1 file came out different:" in said.out
    assert "usr/share/answer: different (contents) (not reproducible by itself)" in said.err
    # The artifact of the first build is the one that stays.
    assert [run["status"] for run in compare(xbuild, code=5)["modes"]] == ["up-to-date", "up-to-date"]


@pytest.mark.long
def test_only_itself_is_to_blame(xbuild: Xbuild) -> None:
    """Also where the recipe has no digest of its source."""
    xbuild.recipe(build={"compile": "date +%s%N > answer"}, sources=[{"path": "sources/tiny"}])
    assert "≈ Not reproducible by itself" in page(compare(xbuild, code=5))


@pytest.mark.long
def test_twice_on_demand(xbuild: Xbuild) -> None:
    library(xbuild)
    result = compare(xbuild, "--twice", "--objects")
    assert (result["identical"], result["again"]["status"]) == (True, "built")
    assert "it came out the same both times" in page(result)
    alone = xbuild("compare", "tiny", "--modes", "emulated", "--twice", "--json").json
    assert (alone["pairs"], alone["again"]["mode"]) == ([], "emulated")


def test_one_mode_fails_and_the_report_is_still_made(xbuild: Xbuild) -> None:
    xbuild.recipe(build={"compile": f"echo 42 > answer; if {_EMULATED}; then echo no shell >&2; exit 7; fi"})
    result = compare(xbuild, code=5)
    fast, slow = result["modes"]
    assert (result["identical"], result["pairs"]) == (False, [])
    assert (fast["status"], slow["status"]) == ("built", "failed")
    assert "phase 'compile' failed" in slow["message"]
    assert Path(slow["log"]).read_text() == "no shell\n"
    assert [phase["name"] for phase in slow["phases"]] == ["unpack", "compile"]
    text = page(result)
    assert "✗ Emulated failed" in text
    assert "no shell" in text
    assert "emulated failed: tiny 1 for armhf (emulated): phase" in xbuild("compare", "tiny", code=5).out


def test_all_modes_fail(xbuild: Xbuild) -> None:
    xbuild.recipe(build={"compile": "exit 7"})
    result = compare(xbuild, code=3)
    assert [run["status"] for run in result["modes"]] == ["failed", "failed"]
    assert "✗ Every build failed" in page(result)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--modes", "substituted"), "compare needs two modes"),
        (("--modes", "substituted,emulate"), "unknown mode 'emulate'; did you mean 'emulated'?"),
        (("--target", "amd64"), "amd64 is the machine itself"),
        (("--jobs", "x"), "--jobs must be a number"),
        (("--modes", "emulated,system", "--distcc-hosts", "one"), "--distcc-hosts is for --modes substituted or"),
    ],
)
def test_wrong_words(xbuild: Xbuild, words: tuple[str, ...], message: str) -> None:
    xbuild.recipe()
    assert message in xbuild("compare", "tiny", *words, code=2).err
