"""A build tree as a comparison reads it: its files belong to users of the sandbox, whom only a sandbox may read as."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from xbuild.proof.compare.trees import BuildTree
from xbuild.sandbox.run import machine_view, run

pytestmark = pytest.mark.integration

FILES = {
    "src/a.o": b"\x7fELFobject",
    "src/sub/lib.xyz": b"!<arch>\n",
    "src/config.h": b"#define X\n",
    "src/config.log": b"took 3 s\n",
    os.fsdecode(b"src/\xff"): b"",
    "dest/usr/bin/x": b"\x7fELFx",
    "obj/dest/y.o": b"\x7fELFy",
}


@pytest.mark.usefixtures("runnable")
def test_a_build_tree(place: Path) -> None:
    build = place / "build"
    for name, data in FILES.items():
        path = build / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (build / "src/a.o").chmod(0o600)
    run(machine_view(), ["chown", "-R", "1000:1000", build])
    known = BuildTree(build, place / "scratch")
    assert sorted(known.listing) == ["obj/dest/y.o", "src/a.o", "src/sub/lib.xyz"]
    assert sorted(known.others) == ["src/config.h", os.fsdecode(b"src/\xff")]
    known.take([])
    known.take(["src/a.o", "src/sub/lib.xyz", os.fsdecode(b"src/\xff")])
    assert known.file("src/sub/lib.xyz").read_bytes() == b"!<arch>\n"
    assert known.file(os.fsdecode(b"src/\xff")).exists()
