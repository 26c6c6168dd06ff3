"""What a finished build must hold, and what it says where it does not: exit code 5."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.command_line import Xbuild, unpacked
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


def test_a_program_cannot_change_what_was_checked(xbuild: Xbuild) -> None:
    source = r"""
        #include <stdio.h>
        int main(void)
        {
            puts(fopen("/build/dest/usr/share/added", "w") || fopen("/usr/share/added", "w") ? "written" : "refused");
            return 0;
        }
    """
    install = 'install -D hello "$DESTDIR/usr/bin/hello"; mkdir -m 777 "$DESTDIR/usr/share"'
    recipe = program({"run": [], "prints": "refused"}, install=install)
    xbuild.recipe(**{**recipe, "files": {"hello.c": source}})
    result = xbuild.build("tiny")
    assert sorted(unpacked(result["artifact"])) == ["usr", "usr/bin", "usr/bin/hello", "usr/share"]


def test_a_program_that_changes_what_was_checked_is_not_packed(xbuild: Xbuild) -> None:
    # By another name of the same file, which the build can write to.
    source = r"""
        #include <stdio.h>
        int main(void) { FILE *f = fopen("/build/src/data", "a"); return !f || fputs("more", f) < 0 || fclose(f); }
    """
    install = """
        install -D hello "$DESTDIR/usr/bin/hello"
        mkdir "$DESTDIR/usr/share"
        touch data
        ln data "$DESTDIR/usr/share/data"
        chmod 666 data
    """
    recipe = program({"run": []}, install=install)
    xbuild.recipe(**{**recipe, "files": {"hello.c": source}})
    said = xbuild.fails("tiny", code=5)
    assert "usr/share/data: not as it was when it was checked, so it is not packed" in said


def test_odd_trees_are_packed_as_they_are(xbuild: Xbuild) -> None:
    install = """
        install -D -m 644 answer "$DESTDIR/usr/share/answer"
        cd "$DESTDIR/usr/share"
        mkdir -m 700 closed
        ln -s /root/x forbidden
        ln -s /build/dest/usr/share/closed/x closed-link
        ln -s loop loop
        ln -s "$(printf '%03000d' 0)" long
        printf x > "$(printf 'no\\377text')"
        printf x > 'a
error: forged'
        mkdir -p "$(printf 'd/%.0s' $(seq 1000))"
    """
    xbuild.recipe(build={"install": install})
    found = unpacked(xbuild.build("tiny")["artifact"])
    assert found["usr/share/forbidden"][2] == "/root/x"
    assert {"usr/share/no\udcfftext", "usr/share/a\nerror: forged", "usr/share/" + "/".join("d" * 1000)} <= found.keys()


def test_odd_trees_that_cannot_be_packed(xbuild: Xbuild) -> None:
    install = """
        install -D -m 644 answer "$DESTDIR/usr/share/answer"
        cd "$DESTDIR/usr/share"
        mkfifo -m 755 fifo
        mknod whiteout c 0 0
        truncate -s 8G sparse
        ln -s /etc outside
        perl -MSocket -e 'socket(S, PF_UNIX, SOCK_STREAM, 0); bind(S, sockaddr_un("socket")) or die'
        chmod 755 socket
    """
    names = ("fifo", "socket", "whiteout")
    outputs = [{"path": f"usr/share/{name}", "kind": "executable", "run": []} for name in names]
    xbuild.recipe(build={"install": install}, outputs=[*outputs, {"path": "usr/share/outside/passwd"}])
    said = xbuild.fails("tiny", code=5)
    for name, kind in (("fifo", "a fifo"), ("socket", "a socket"), ("whiteout", "a device")):
        assert f"usr/share/{name}: is {kind}, which cannot be part of an artifact" in said
    assert "usr/share/outside/passwd: the recipe promises it, but it was not installed" in said


def test_files_for_other_machines_that_are_data(xbuild: Xbuild) -> None:
    install = 'install -D -m 644 answer "$DESTDIR/usr/share/answer"; install -D intruder "$DESTDIR/usr/lib/bpf/x.o"'
    xbuild.recipe(files={"intruder": i386()}, build={"install": install})
    said = xbuild.fails("tiny", code=5)
    assert "the recipe says so by: data: [usr/lib/bpf/x.o]" in said
    xbuild.recipe(files={"intruder": i386()}, build={"install": install}, data=["usr/lib/bpf/*.o"])
    result = xbuild.build("tiny")
    assert "usr/lib/bpf/x.o" in unpacked(result["artifact"])
    assert json.loads(Path(result["manifest"]).read_text())["data"] == ["usr/lib/bpf/x.o"]


def _harmed(file: Path, harm: str) -> None:
    data = bytearray(file.read_bytes())
    file.unlink()
    if harm == "a directory":
        file.mkdir()
    elif harm == "a fifo":
        os.mkfifo(file)
    elif harm != "missing":
        data[len(data) // 2] ^= 1
        file.write_bytes(b"" if harm == "empty" else data)


_LONG = [pytest.param(harm, marks=pytest.mark.long) for harm in ("missing", "empty", "a directory", "a fifo")]


@pytest.mark.parametrize("harm", ["flipped", *_LONG])
def test_a_damaged_artifact_is_built_anew(xbuild: Xbuild, harm: str) -> None:
    xbuild.recipe(build={"compile": "cat README; echo 42 > answer"})
    good = xbuild.build("tiny")["sha256"]
    (entry,) = (xbuild.cache / "artifacts").iterdir()
    looked_at = [str(path.relative_to(entry)) for path in entry.glob("*/*-compile*") if path.suffix != ".json"]
    assert len(looked_at) == 2
    for name in ["tiny-1-armhf.tar.zst", "tiny-1-armhf.manifest.json", "SHA256SUMS", "key.json", *looked_at]:
        _harmed(entry / name, harm)
        if name in looked_at:
            # Who only looks is told that there is none.
            xbuild("log" if "logs" in name else "trace", "tiny", code=2)
            plan = xbuild("build", "tiny", "--target", "armhf", "--plan", "--json").json["plan"]
            assert {action["verdict"] for action in plan if action["name"] == "compile"} == {"run"}, name
        done = xbuild("build", "tiny", "--target", "armhf", "--json")
        assert (done.json["status"], done.json["sha256"]) == ("built", good), name
        assert name == "key.json" or "is not as it was made" in done.err
    assert xbuild.build("tiny")["status"] == "up-to-date"
