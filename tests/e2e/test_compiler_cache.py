"""The compiler cache with real compilers: what it answers, what it must not, and that no byte shows it."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from tests.e2e.command_line import Xbuild
from xbuild.sandbox.run import machine_view, run

pytestmark = pytest.mark.e2e

FILES = {
    "a.c": "#include <number.h>\n/* plain */\nint number(void) { return NUMBER; }\n",
    "main.c": "#include <stdio.h>\nint number(void);\nint main(void) { printf(\"%d\\n\", number()); return 0; }\n",
    "second/number.h": "#define NUMBER 42\n",
    "words.S": ".include \"words.inc\"\n",
    "words.inc": ".section .rodata\n.ascii \"plain\"\n",
}
COMPILE = """
    for file in a.c main.c words.S; do gcc -g -O2 -Ifirst -Isecond -c $file; done
    gcc -g -o show a.o main.o words.o
    ./show | tee answer
    ! env | grep -i ccache
    ! gcc -c nothing.c
"""
INSTALL = 'install -D show "$DESTDIR/usr/bin/show"; install -D -m 644 answer "$DESTDIR/usr/share/answer"'


def recipe(xbuild: Xbuild, changed: dict[str, str] | None = None, compile: str = COMPILE) -> None:
    outputs = [{"path": "usr/bin/show", "kind": "executable", "run": [], "prints": "4"}]
    build = {"compile": compile, "install": INSTALL}
    xbuild.recipe(files={**FILES, **(changed or {})}, build=build, outputs=outputs)


def built(xbuild: Xbuild, cache: str = "on", *words: str, target: str = "armhf") -> tuple[str, list[int] | None]:
    """The artifact's sha256, and hits, misses and others."""
    told: dict[str, Any] = xbuild.build("tiny", "--from", "unpack", "--ccache", cache, *words, target=target)
    counts = told.get("compiler_cache")
    return told["sha256"], [counts[name] for name in ("hits", "misses", "others")] if counts else None


def test_a_build_with_answers_is_the_same(xbuild: Xbuild) -> None:
    recipe(xbuild)
    plain, counts = built(xbuild, "off")
    assert counts is None
    # The third call is one that fails: there is nothing to keep.
    assert built(xbuild) == (plain, [0, 2, 1])
    assert built(xbuild) == (plain, [2, 0, 1])
    # A comment goes through no compiler; a number does.
    recipe(xbuild, {"a.c": FILES["a.c"].replace("plain", "other")})
    assert built(xbuild) == (plain, [2, 0, 1])
    recipe(xbuild, {"second/number.h": "#define NUMBER 43\n"})
    other, counts = built(xbuild)
    assert (counts, built(xbuild, "off")) == ([1, 1, 1], (other, None))
    assert other != plain
    # A header that was not there before, and is found first.
    recipe(xbuild, {"first/number.h": "#define NUMBER 43\n"})
    assert built(xbuild)[1] == [1, 1, 1]
    assert built(xbuild, "off")[0] == built(xbuild)[0]


@pytest.mark.long
def test_columns_of_debug_information_are_those_of_the_source(xbuild: Xbuild) -> None:
    """What the preprocessor takes away between two words is seen where it shows: with -g, and not without."""
    shows = COMPILE + "    readelf --debug-dump=rawline show >> answer\n"
    recipe(xbuild, compile=shows)
    plain, _ = built(xbuild)
    for text in ("return  NUMBER", "return /* as told */ NUMBER"):
        recipe(xbuild, {"a.c": FILES["a.c"].replace("return NUMBER", text)}, compile=shows)
        other, counts = built(xbuild)
        assert (counts, built(xbuild, "off")) == ([1, 1, 1], (other, None))
        assert other != plain
    # Behind all words of a line there is no column that moves.
    recipe(xbuild, {"a.c": FILES["a.c"].replace("NUMBER; }", "NUMBER; } // a line's \"end\"")}, compile=shows)
    assert built(xbuild) == (plain, [2, 0, 1])
    without = shows.replace("-g ", "")
    recipe(xbuild, compile=without)
    built(xbuild)
    recipe(xbuild, {"a.c": FILES["a.c"].replace("return NUMBER", "return  NUMBER")}, compile=without)
    assert built(xbuild)[1] == [2, 0, 1]


@pytest.mark.long
def test_other_compilers_have_other_answers(xbuild: Xbuild) -> None:
    recipe(xbuild)
    assert built(xbuild)[1] == [0, 2, 1]
    assert built(xbuild, "on", "--emulate", "binutils")[1] is None
    assert built(xbuild, "on", "--without", "/usr/bin/arm-linux-gnueabihf-as")[1] == [0, 2, 1]
    assert built(xbuild)[1] == [2, 0, 1]


def test_what_the_assembler_reads_by_itself_is_seen(xbuild: Xbuild) -> None:
    recipe(xbuild)
    plain, _ = built(xbuild)
    recipe(xbuild, {"words.inc": FILES["words.inc"].replace("plain", "other")})
    other, counts = built(xbuild)
    assert (counts, other != plain) == ([2, 0, 1], True)


def test_an_assembler_of_the_builds_own_is_asked(xbuild: Xbuild) -> None:
    """It lies in PATH, where gcc looks for it; what it does shows in no word that the cache gets."""
    own = """
        mkdir own
        printf '#!/bin/sh\\necho seen >> /build/src/calls\\nexec /usr/bin/as "$@"\\n' > own/as
        chmod +x own/as
        PATH=/build/src/own:$PATH
        gcc -Isecond -c a.c
        gcc -o show a.o main.c
        ./show > answer; wc -l < calls >> answer
    """
    recipe(xbuild, compile=own)
    first = built(xbuild)
    assert first[1] == [0, 0, 0]
    assert built(xbuild) == first


def test_what_is_kept_is_bounded_and_damage_is_no_answer(xbuild: Xbuild) -> None:
    recipe(xbuild)
    plain, _ = built(xbuild, "1M", "--keep")
    assert "max_size = 1024Ki" in (xbuild.place() / "ccache/ccache.conf").read_text()
    kept = [path for path in (xbuild.cache / "ccache/files").rglob("*R") if path.is_file()]
    assert len(kept) == 2
    for path in kept:
        data = path.read_bytes()
        script = f"import sys; open(sys.argv[1], 'wb').write(bytes.fromhex('{(data[:-9] + bytes(9)).hex()}'))"
        run(machine_view(), [sys.executable, "-c", script, path])
    assert built(xbuild, "1M") == (plain, [0, 2, 1])


def test_only_where_native_compilers_run(xbuild: Xbuild) -> None:
    recipe(xbuild)
    said = xbuild.fails("tiny", "--ccache", "on", "--mode", "emulated", code=2)
    assert "--ccache is for --mode substituted" in said
    assert built(xbuild, "on", target="amd64")[1] is None
