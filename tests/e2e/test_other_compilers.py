"""Native builds whose compiling servers of ours do, on other machines: the same bytes, also if no server is there."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.command_line import Xbuild, processes
from tests.e2e.test_distcc_mode import ASK, BESIDE, GIVEN, library
from tests.e2e.test_distcc_mode import COMPILE as DEBUGGABLE

pytestmark = pytest.mark.e2e

COMPILE = DEBUGGABLE.replace("-g -O2", "-O2")


@contextlib.contextmanager
def server(xbuild: Xbuild, *words: str, target: str = "armhf") -> Iterator[str]:
    """A server of compilers on this machine; gives its address and port. At the end nothing of it may be left."""
    process = xbuild.start("cluster.compilers", "--target", target, "--port", "0", *words)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if found := re.search(rb"--distcc-hosts (127\.0\.0\.1:[0-9]+)/", line):
                yield found[1].decode()
                break
        else:
            raise AssertionError("no address was told")
    finally:
        process.send_signal(signal.SIGINT)
        with process:
            process.communicate()
    assert process.returncode == 130
    assert not [line for line in processes("distccd") if str(xbuild.cache) in line]
    assert list((xbuild.cache / "tmp").glob("compilers.*")) == []


@pytest.mark.parametrize("target", ["armhf", pytest.param("arm64", marks=pytest.mark.long)])
def test_another_machine_compiles(xbuild: Xbuild, target: str) -> None:
    library(xbuild, COMPILE)
    plain = xbuild.build("tiny", target=target)
    with server(xbuild, target=target) as address:
        result = xbuild.build("tiny", "--distcc-hosts", f"{address}/2", target=target)
    counts = result["distcc"]
    assert (counts["remote"], counts["fallback"], counts["failed"]) == (3, 0, 0)
    assert (result["mode"], result["sha256"]) == ("substituted", plain["sha256"])
    # Preprocessing is done here, by twins; the assembler has nothing to do.
    ran = json.loads(Path(result["manifest"]).read_text())["ran-native"]
    assert sum(count for path, count in ran.items() if path.endswith("/cc1")) == 3
    assert not [path for path in ran if path.endswith("-as")]


def test_without_the_server_compilers_run_here(xbuild: Xbuild) -> None:
    library(xbuild, COMPILE)
    plain = xbuild.build("tiny")
    with server(xbuild, "--allow", "192.0.2.0/24") as address:
        assert "--allow this machine" in xbuild.fails("tiny", "--distcc-hosts", address, code=4)
    # Nobody is there any more.
    said = xbuild("build", "tiny", "--target", "armhf", "--distcc-hosts", address, "--json")
    counts = said.json["distcc"]
    assert (counts["remote"], counts["fallback"], counts["failed"]) == (0, 3, 0)
    assert "3 that should have been were compiled here" in said.err
    assert said.json["sha256"] == plain["sha256"]
    # A call that fails fails as ever.
    library(xbuild, f"echo 'int x' > bad.c; ! cc -c bad.c; rm bad.c; {COMPILE}")
    counts = xbuild.build("tiny", "--distcc-hosts", address)["distcc"]
    assert (counts["remote"], counts["fallback"], counts["failed"]) == (0, 3, 1)


PLAIN = ("-O2 -MD -MF own.d -DTHREE=3", "-O3 -fPIC -Wall -std=c99", "-Wp,-MD,deps")


@pytest.mark.long
def test_files_beside_the_object_are_there(xbuild: Xbuild) -> None:
    """As in mode distcc: what the server does not send back is compiled here. So is what has columns of the text, which
    macros, comments and blanks move.
    """
    source = """
    #define TWICE(x) ((x) + (x))
    #define EACH(i, n) for (int i = 0; i < (n); i++)
    int f(int *p, int n)
    {
        int t = 0;   /* comment */   EACH(i, n) t += TWICE(p[i]) * 3   + t / n;
        return TWICE(t);
    }
    """
    # Dumps of this source have addresses of the compiler's own.
    beside = [one for one in BESIDE if not one.startswith(("-fdump-rtl", "-da"))]
    options = [*beside, *GIVEN, *PLAIN, "-g1 -O2", "-ggdb", "-fsanitize=undefined"]
    files = {"unit.c": source, "options": "".join(f"{one}\n" for one in options)}
    xbuild.recipe(files=files, build={"compile": f"{ASK}    echo 42 > answer\n"})
    said = []
    with server(xbuild) as address:
        for words in ((), ("--distcc-hosts", address)):
            result = xbuild.build("tiny", *words)
            said.append(next((Path(result["records"]).with_name("logs")).glob("*-compile.log")).read_text())
    assert said[0] == said[1]
    assert said[1].count("== ") == len(options)
    assert (result["distcc"]["remote"], result["distcc"]["fallback"]) == (len(PLAIN) + 1, 0)


@pytest.mark.parametrize(
    ("answer", "told"),
    [(b"0" * 64, "has other compilers than this build"), (b"", "does not tell which compilers it has")],
)
def test_other_compilers_would_make_other_bytes(xbuild: Xbuild, answer: bytes, told: str) -> None:
    """A machine that was not brought up to date, and a plain distccd, which closes what it does not understand."""
    library(xbuild)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            there, _ = listening.accept()
            with there:
                there.recv(64)
                there.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        port = listening.getsockname()[1]
        assert told in xbuild.fails("tiny", "--distcc-hosts", f"127.0.0.1:{port}", code=4)
        thread.join()
