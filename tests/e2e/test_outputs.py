"""What a finished build must hold, and what it says where it does not: exit code 5."""

from __future__ import annotations

from typing import Any

import pytest
from command_line import Xbuild, unpacked

from xbuild.doctor.programs import i386

pytestmark = pytest.mark.e2e

_PROGRAM = {
    "files": {"hello.c": '#include <stdio.h>\nint main(void) { puts("hello from ARM"); return 0; }\n'},
    "build": {
        "compile": "cc -g -O2 -o hello hello.c",
        "install": 'install -D hello "$DESTDIR/usr/bin/hello"',
    },
}


def program(run: dict[str, Any], **build: str) -> dict[str, Any]:
    """A recipe's fields: a program, and what its output promises."""
    output = {"path": "usr/bin/hello", "kind": "executable", **run}
    return {**_PROGRAM, "build": {**_PROGRAM["build"], **build}, "outputs": [output]}


def test_a_program_that_keeps_its_promise(xbuild: Xbuild) -> None:
    xbuild.recipe(**program({"run": [], "prints": "hello from ARM"}))
    result = xbuild.build("tiny")
    assert sorted(unpacked(result["artifact"])) == ["usr", "usr/bin", "usr/bin/hello"]


def test_a_program_that_prints_something_else(xbuild: Xbuild) -> None:
    xbuild.recipe(**program({"run": [], "prints": "hello from x86"}))
    said = xbuild.fails("tiny", code=5)
    assert "/usr/bin/hello: was to print 'hello from x86' and said: hello from ARM" in said
    assert not (xbuild.project / "dist").exists()


def test_a_program_that_fails(xbuild: Xbuild) -> None:
    files = {"hello.c": "int main(void) { return 3; }\n"}
    xbuild.recipe(**{**program({"run": []}), "files": files})
    assert "/usr/bin/hello: ended with 3" in xbuild.fails("tiny", code=5)


def test_an_output_that_is_missing(xbuild: Xbuild) -> None:
    xbuild.recipe(outputs=[{"path": "usr/share/answer"}, {"path": "usr/share/question"}])
    assert "usr/share/question: the recipe promises it, but it was not installed" in xbuild.fails("tiny", code=5)


def test_an_x86_file_in_the_artifact(xbuild: Xbuild) -> None:
    install = 'install -D -m 644 answer "$DESTDIR/usr/share/answer"; install -D intruder "$DESTDIR/usr/lib/intruder"'
    xbuild.recipe(files={"intruder": i386()}, build={"install": install})
    said = xbuild.fails("tiny", code=5)
    assert "usr/lib/intruder: is code for 386, 32 bit, little-endian, not for armhf: ARM" in said


def test_an_rpath_into_the_build_directory(xbuild: Xbuild) -> None:
    xbuild.recipe(**program({}, compile="cc -Wl,-rpath,/build/dest/usr/lib -o hello hello.c"))
    said = xbuild.fails("tiny", code=5)
    assert "usr/bin/hello: RUNPATH holds /build/dest/usr/lib, which is not on the target" in said


def test_a_text_that_names_the_private_directory(xbuild: Xbuild) -> None:
    xbuild.recipe(build={"compile": "echo /.xbuild/amd64 > answer"})
    assert "usr/share/answer: holds, at byte 0, a path of the build's own" in xbuild.fails("tiny", code=5)


def test_a_needed_library_that_is_nowhere(xbuild: Xbuild) -> None:
    main = "int answer(void); int main(void) { return answer() - 42; }\n"
    files = {"hello.c": main, "l.c": "int answer(void) { return 42; }\n"}
    compile_ = "cc -shared -fPIC -Wl,-soname,libnowhere.so.1 -o libnowhere.so l.c; cc -o hello hello.c libnowhere.so"
    xbuild.recipe(**{**program({}, compile=compile_), "files": files})
    said = xbuild.fails("tiny", code=5)
    assert "usr/bin/hello: needs libnowhere.so.1, which is neither built nor in the root" in said


def test_after_a_mended_promise_it_builds(xbuild: Xbuild) -> None:
    xbuild.recipe(**program({"run": [], "prints": "hello from x86"}))
    xbuild.fails("tiny", code=5)
    xbuild.recipe(**program({"run": [], "prints": "hello from ARM"}))
    assert xbuild.build("tiny")["status"] == "built"
