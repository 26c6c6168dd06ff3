"""Mode distcc with a real server, and what a build does when another mode has to take its place."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path, PurePath

import pytest

from tests.e2e.command_line import Xbuild, processes, unpacked
from xbuild.formats.record import read

pytestmark = pytest.mark.e2e

SOURCES = {f"{name}.c": f"int {name}(int x)\n{{\n    return x * {len(name)};\n}}\n" for name in ("a", "bb", "ccc")}
COMPILE = 'for f in *.c; do cc -g -O2 -c "$f"; done; ar cr libabc.a a.o bb.o ccc.o'
INSTALL = 'install -D -m 644 libabc.a "$DESTDIR/usr/lib/libabc.a"'
OUTPUTS = [{"path": "usr/lib/libabc.a", "kind": "static-library"}]


def library(xbuild: Xbuild, compile: str = COMPILE) -> None:
    """Write the recipe `tiny`: a static library of three files."""
    xbuild.recipe(files=SOURCES, build={"compile": compile, "install": INSTALL}, outputs=OUTPUTS)


def test_the_server_compiles(xbuild: Xbuild) -> None:
    library(xbuild)
    result = xbuild.build("tiny", "--mode", "distcc")
    assert result["mode"] == "distcc"
    counts = result["distcc"]
    assert (counts["remote"], counts["fallback"], counts["failed"]) == (3, 0, 0)
    assert json.loads(Path(result["manifest"]).read_text())["distcc"] == counts
    records = Path(result["records"])
    server = (records.with_name("logs") / "distccd.log").read_text()
    assert server.count("COMPILE_OK") == 3
    assert "ERROR" not in server
    # Preprocessing stays here, and nothing of it is native.
    known = [read(file) for file in records.iterdir() if file.suffix != ".json"]
    assert sum(one.total(native=True).total() for one in known) == 0
    emulated = Counter(PurePath(path).name for one in known for path in one.total(native=False).elements())
    assert emulated["cc1"] == 3
    assert not [name for name in emulated if name.endswith("-as")]
    assert not [line for line in processes("distccd") if str(xbuild.cache) in line]
    assert unpacked(result["artifact"]) == unpacked(xbuild.build("tiny")["artifact"])


BESIDE = (
    *("-save-temps", "-fstack-usage", "-fcallgraph-info=su", "-fdump-tree-optimized=own.txt -O1", "-fdump-rtl-expand"),
    *("-aux-info protos", "-gsplit-dwarf", "--coverage -frandom-seed=1", "-fprofile-generate -frandom-seed=1"),
    *("-da -O2", "-Wa,-adhln=list", "-fopt-info-all=info -O3", "-fdiagnostics-format=json-file -Wextra"),
    *("-fverbose-asm -S", "-frecord-gcc-switches", "-dumpdir x- -fstack-usage", "-g3", "-fsyntax-only", "-v"),
)
GIVEN = ("-O2 -g -MD", "-Wp,-MD,deps", "-fopt-info -O3", "-g -grecord-gcc-switches -pg")
ASK = """
    number=0
    while read -r options; do
        number=$((number + 1)); mkdir $number; cp unit.c $number; cd $number
        echo "== $options"
        gcc $options -c unit.c 2>&1 | sed 's,/tmp/cc[A-Za-z0-9]*,/tmp/ccXXXXXX,g'
        sha256sum *
        cd ..
    done < options
"""


@pytest.mark.long
def test_files_beside_the_object_are_there(xbuild: Xbuild) -> None:
    """What distcc does not send back is compiled here: so the compiler says and leaves the same as without it."""
    source = "int f(int *p, int n)\n{\n    int t = 0;\n    while (n--) t += p[n] * 3;\n    return t;\n}\n"
    files = {"unit.c": source, "options": "".join(f"{options}\n" for options in (*BESIDE, *GIVEN))}
    xbuild.recipe(files=files, build={"compile": f"{ASK}    echo 42 > answer\n"})
    results = [xbuild.build("tiny", "--mode", mode) for mode in ("distcc", "emulated")]
    said = [next((Path(result["records"]).with_name("logs")).glob("*-compile.log")).read_text() for result in results]
    assert said[0] == said[1]
    assert said[1].count("== ") == len(BESIDE) + len(GIVEN)
    for name in ("unit.su", "unit.i", "own.txt", "protos", "unit.dwo", "unit.gcno", "list", "info", "unit.d"):
        assert f"  {name}\n" in said[0]
    counts = results[0]["distcc"]
    assert (counts["remote"], counts["fallback"], counts["local"]) == (len(GIVEN), 0, len(BESIDE))


def test_a_compile_that_stays_here_is_counted_and_told(xbuild: Xbuild) -> None:
    # Nobody listens there: distcc then compiles emulated, and succeeds.
    library(xbuild, COMPILE.replace('cc -g -O2 -c "$f"', 'DISTCC_HOSTS=127.0.0.1:9 cc -g -O2 -c "$f"', 1))
    said = xbuild("build", "tiny", "--target", "armhf", "--mode", "distcc", "--json")
    assert (said.json["distcc"]["remote"], said.json["distcc"]["fallback"]) == (0, 3)
    assert said.json["distcc"]["files"] == ["a.c", "bb.c", "ccc.c"]
    assert "3 that should have been were compiled here" in said.err


def test_a_failing_compile_is_no_fallback(xbuild: Xbuild) -> None:
    library(xbuild, f"echo 'int x' > bad.c; ! cc -c bad.c; rm bad.c; {COMPILE}")
    counts = xbuild.build("tiny", "--mode", "distcc")["distcc"]
    assert (counts["remote"], counts["fallback"], counts["failed"]) == (3, 0, 1)


def test_machines_of_the_users_own_need_a_mode_with_compilers_to_hand_over(xbuild: Xbuild) -> None:
    library(xbuild)
    assert "--mode distcc" in xbuild.fails("tiny", "--mode", "emulated", "--distcc-hosts", "box", code=2)


NATIVE_FAILS = 'case "$(readlink /proc/$$/exe)" in /.xbuild/amd64/*) echo native shells are refused; exit 9 ;; esac; '


def test_another_mode_takes_over(xbuild: Xbuild) -> None:
    library(xbuild, NATIVE_FAILS + COMPILE)
    assert "exit code 9" in xbuild.fails("tiny", code=3)
    said = xbuild("build", "tiny", "--target", "armhf", "--fallback", "emulated", "--json")
    result = said.json
    assert (result["mode"], result["status"]) == ("emulated", "built")
    told = result["fallback"]
    assert (told["mode"], told["instead-of"]) == ("emulated", "substituted")
    assert "phase 'compile' failed" in told["message"]
    assert "native shells are refused" in said.err
    assert "this is the result of mode emulated" in said.err
    for folder in told["logs"].values():
        assert list(Path(folder).glob("*-compile.log")) != []


def test_a_build_that_works_needs_no_other_mode(xbuild: Xbuild) -> None:
    library(xbuild)
    result = xbuild.build("tiny", "--fallback", "emulated")
    assert result["mode"] == "substituted"
    assert "fallback" not in result


def test_when_all_modes_fail_both_are_told(xbuild: Xbuild) -> None:
    library(xbuild, "echo no; exit 7")
    said = xbuild.fails("tiny", "--fallback", "emulated", code=3)
    assert "(emulated): phase 'compile' failed" in said
    assert "mode substituted failed too" in said
    assert "unknown mode 'emulate'" in xbuild.fails("tiny", "--fallback", "emulate", code=2)


def test_programs_without_their_twins(xbuild: Xbuild) -> None:
    library(xbuild, f"sed -n p /dev/null; {COMPILE}")
    result = xbuild.build("tiny", "--without", "/usr/bin/sed,/usr/bin/arm-linux-gnueabihf-ar")
    manifest = json.loads(Path(result["manifest"]).read_text())
    assert set(manifest["ran-emulated"]) == {"/usr/bin/sed", "/usr/bin/arm-linux-gnueabihf-ar"}
    # The rest of its group stays.
    assert manifest["ran-native"]["/usr/bin/arm-linux-gnueabihf-as"] == 3
