"""Recipes that need recipes: built in order, there for compiler, linker and loader, and built anew by bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.command_line import Xbuild, unpacked

pytestmark = pytest.mark.e2e

NUMBER = "int number(void) { return %s; }\n"
MAIN = '#include <stdio.h>\n#include <number.h>\nint main(void) { printf("number %d\\n", number()); return 0; }\n'
PC = "Name: number\nDescription: a number\nVersion: 7\nCflags: -I/usr/include/number\nLibs: -lnumber\n"
LIBRARY: dict[str, Any] = {
    "compile": "gcc -shared -fPIC -O1 -Wl,-soname,libnumber.so.7 -o libnumber.so.7 number.c",
    "install": """
        install -D -m 644 number.h "$DESTDIR/usr/include/number/number.h"
        install -D -m 644 number.pc "$DESTDIR/usr/lib/pkgconfig/number.pc"
        install -D libnumber.so.7 "$DESTDIR/opt/number/libnumber.so.7"
        ln -s libnumber.so.7 "$DESTDIR/opt/number/libnumber.so"
        install -d "$DESTDIR/etc/ld.so.conf.d"
        echo /opt/number > "$DESTDIR/etc/ld.so.conf.d/number.conf"
    """,
}
PROGRAM: dict[str, Any] = {
    "compile": "gcc $(pkg-config --cflags number) -o show main.c -L/opt/number -lnumber && ./show | tee answer",
    "install": 'install -D show "$DESTDIR/usr/bin/show"; install -D -m 644 answer "$DESTDIR/usr/share/answer"',
}


def library(xbuild: Xbuild, number: str = "42", **build: str) -> None:
    """A library in a place of its own, which ld.so finds by its cache only."""
    files = {"number.c": NUMBER % number, "number.h": "int number(void);\n", "number.pc": PC}
    outputs = [{"path": "opt/number/libnumber.so.7", "kind": "shared-library"}]
    xbuild.recipe("number", files=files, build={**LIBRARY, **build}, outputs=outputs)


def program(xbuild: Xbuild, name: str = "show", needs: object = ("number",), **build: str) -> None:
    outputs = [{"path": "usr/bin/show", "kind": "executable", "run": [], "prints": "number "}]
    depends = {"recipes": list(needs) if isinstance(needs, tuple) else needs, "packages": ["pkgconf"]}
    xbuild.recipe(name, files={"main.c": MAIN}, build={**PROGRAM, **build}, outputs=outputs, depends=depends)


def manifest(built: Any) -> Any:
    return json.loads(Path(built["manifest"]).read_text())


def artifacts(xbuild: Xbuild) -> set[str]:
    return {path.name for path in (xbuild.cache / "artifacts").glob("*/*.tar.zst")}


@pytest.mark.parametrize("target", ["armhf", pytest.param("amd64", marks=pytest.mark.long)])
def test_what_is_needed_is_built_first_and_is_there(xbuild: Xbuild, target: str) -> None:
    library(xbuild)
    program(xbuild, "between")
    own = "show > answer && test -e /usr/lib/pkgconfig/number.pc && cp /usr/bin/show ."
    program(xbuild, needs=("between",), compile=own)
    plan = xbuild("build", "show", "--target", target, "--plan").out
    assert "known after number\n" in plan
    assert "key: known after number, between" in plan
    told = xbuild("build", "show", "--target", target, "--plan", "--json").json
    assert told["key"] is None
    first = xbuild("build", "show", "--target", target, "--json")
    assert "number 1 for" in first.err
    assert artifacts(xbuild) == {f"{name}-1-{target}.tar.zst" for name in ("number", "between", "show")}
    assert [path.name for path in (xbuild.project / "dist").glob("*.zst")] == [f"show-1-{target}.tar.zst"]
    known = manifest(first.json)["recipes"]
    assert [one["name"] for one in known] == ["number", "between"]
    again = xbuild("build", "show", "--target", target, "--json")
    assert again.json["status"] == "up-to-date"
    assert "built first" not in again.err
    if target == "armhf":
        assert xbuild("check", "show", "--target", target).code == 0
        assert xbuild("shell", "show", "--target", target, "--", "ldconfig -p | grep -c /opt/number/").out == "2\n"


def test_only_other_bytes_rebuild(xbuild: Xbuild) -> None:
    library(xbuild)
    program(xbuild)
    first = unpacked(xbuild.build("show")["artifact"])
    library(xbuild, "40 + 2", compile=f"# another way\n{LIBRARY['compile']}")
    plan = xbuild("build", "show", "--target", "armhf", "--plan").out
    assert "key: known after number" in plan
    said = xbuild("build", "show", "--target", "armhf", "--json")
    assert "number 1 for armhf: built first" in said.err
    assert said.json["status"] == "up-to-date"
    library(xbuild, "43")
    other = xbuild.build("show")
    assert other["status"] == "built"
    assert unpacked(other["artifact"])["usr/share/answer"] != first["usr/share/answer"]


@pytest.mark.long
def test_all_modes_have_the_same_files_of_what_is_needed(xbuild: Xbuild) -> None:
    library(xbuild)
    program(xbuild)
    said = xbuild("compare", "show", "--target", "armhf", "--modes", "substituted,emulated,distcc")
    assert "identical" in said.out
    # The library was built once.
    assert sum(name.startswith("number-") for name in artifacts(xbuild)) == 1


@pytest.mark.long
def test_what_measures_and_searches_has_what_is_needed(xbuild: Xbuild) -> None:
    library(xbuild)
    program(xbuild)
    measured = xbuild("bench", "show", "--targets", "amd64,armhf", "--repeat", "1", "--json").json
    assert [run["variant"] for run in measured["runs"]] == ["native", "substituted"]
    assert xbuild("bisect", "show", "--target", "armhf", "--json").json["status"] == "same"


OWN_TOOLS: dict[str, Any] = {
    "compile": "gcc -O1 -o own own.c",
    "install": """
        install -D own "$DESTDIR/usr/bin/sed"
        install -D -m 644 own.py "$DESTDIR/usr/lib/python3/dist-packages/own.py"
        install -d "$DESTDIR/lib/own"
        echo merged > "$DESTDIR/lib/own/file"
    """,
}


def test_tools_of_a_recipe_are_its_own(xbuild: Xbuild) -> None:
    files = {"own.c": '#include <stdio.h>\nint main(void) { puts("own sed"); return 0; }\n', "own.py": "answer = 42\n"}
    xbuild.recipe("tools", files=files, build=OWN_TOOLS, outputs=[{"path": "usr/bin/sed"}])
    uses = "sed --version > answer; python3 -c 'import own; print(own.answer)' >> answer; cat /lib/own/file >> answer"
    xbuild.recipe(build={"compile": uses}, depends={"recipes": ["tools"], "packages": ["python3"]})
    built = xbuild.build("tiny")
    assert "/usr/bin/sed" in manifest(built)["ran-emulated"]
    assert "/usr/bin/sed" not in manifest(built)["ran-native"]
    assert {one["name"]: one["replaces"] for one in manifest(built)["recipes"]} == {"tools": {"sed": 1}}
    said = xbuild("shell", "tiny", "--target", "armhf", "--", f"cd /tmp; {uses}; cat answer").out
    assert said == "own sed\n42\nmerged\n"
    told = xbuild("why", "tiny", "--target", "armhf", "--exec", "sed").out
    assert "a recipe that is built before has its own file there" in told


@pytest.mark.long
def test_a_library_of_a_recipe_goes_before_the_distributions(xbuild: Xbuild) -> None:
    files = {
        "own.c": 'const char *XML_ExpatVersion(void) { return "own"; }\n', "expat.h": "#include <expat_config.h>\n",
        "expat_config.h": "#define OWN 1\nconst char *XML_ExpatVersion(void);\n", "expat.pc": PC.replace("number", "x"),
    }  # fmt: skip
    build = {
        "compile": "gcc -shared -fPIC -Wl,-soname,libexpat.so.1 -o libexpat.so.1 own.c",
        "install": """
            install -D -m 644 -t "$DESTDIR/usr/include" expat.h expat_config.h
            install -D -m 644 -t "$DESTDIR/usr/lib/pkgconfig" expat.pc
            install -D -t "$DESTDIR/usr/lib" libexpat.so.1
            ln -s libexpat.so.1 "$DESTDIR/usr/lib/libexpat.so"
        """,
    }
    xbuild.recipe("x", files=files, build=build, outputs=[{"path": "usr/lib/libexpat.so.1", "kind": "shared-library"}])
    main = '#include <expat.h>\n#include <stdio.h>\nint main(void) { printf("%s %d\\n", XML_ExpatVersion(), OWN); }\n'
    compile_ = """
        gcc -o main main.c "$LIBDIR/libexpat.so"
        ./main > answer
        pkg-config --modversion expat >> answer
        gcc -o main main.c -lexpat
        ./main >> answer
        if gcc -static -o main main.c -lexpat; then exit 1; fi
        cat answer
    """
    depends = {"recipes": ["x"], "packages": ["libexpat1-dev", "pkgconf"]}
    for mode in ("substituted", "emulated"):
        xbuild.recipe(files={"main.c": main}, build={"compile": compile_}, depends=depends)
        built = xbuild.build("tiny", "--mode", mode)
        said = xbuild("log", "tiny", "--target", "armhf", "--mode", mode, "--phase", "compile").out
        assert said.endswith("own 1\n7\nown 1\n")
        assert set(manifest(built)["recipes"][0]["replaces"]) == {"libexpat1", "libexpat1-dev"}


def test_two_that_install_one_path(xbuild: Xbuild) -> None:
    for name in ("one", "two"):
        xbuild.recipe(name, build={"compile": f"echo {name} > answer"})
    xbuild.recipe(depends={"recipes": ["one", "two"]}, build={"install": 'install -D answer "$DESTDIR/usr/share/x"'},
                  outputs=[{"path": "usr/share/x"}])  # fmt: skip
    said = xbuild.fails("tiny", code=2)
    assert "one and two both install usr/share/answer, and not the same" in said
    xbuild.recipe("two", build={"compile": "echo one > answer"})
    assert xbuild.build("tiny")["status"] == "built"


def test_what_is_needed_fails(xbuild: Xbuild) -> None:
    xbuild.recipe("one", build={"compile": "echo one is broken; false"})
    xbuild.recipe("two", depends={"recipes": ["one"]})
    xbuild.recipe(depends={"recipes": ["two"]})
    said = xbuild.fails("tiny", code=3)
    assert "one 1 for armhf: phase 'compile' failed" in said
    assert "tiny 1 for armhf needs one" in said
    assert artifacts(xbuild) == set()
    xbuild.recipe("one", depends={"recipes": ["tiny"]})
    said = xbuild.fails("tiny", code=2)
    assert "recipes need each other: tiny -> two -> one -> tiny" in said
