"""Debian packages of all kinds: rebuilds, several upstream archives, for all architectures; and trials of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.command_line import Xbuild
from tests.e2e.sourcepackage import made
from xbuild.formats import deb822
from xbuild.formats.deb import opened

pytestmark = pytest.mark.e2e

_TOLD = b'#include <stdio.h>\n#include "words/word.h"\nint main(void) { puts(WORD); return 0; }\n'


def files(said: object) -> list[dict[str, str]]:
    """What each build gave: sums by name."""
    builds = said["builds"]  # type: ignore[index]
    return [{Path(file["file"]).name: file["sha256"] for file in build["files"]} for build in builds]


def test_a_rebuild_of_several_upstream_archives(xbuild: Xbuild, tmp_path: Path) -> None:
    dsc = made(tmp_path, parts=["words"], files={"tiny.c": _TOLD, "words/word.h": b'#define WORD "a word"\n'})
    output = tmp_path / "built"
    words = ["deb", str(dsc), "--target", "armhf", "--json", "--output", str(output)]
    (built,) = files(xbuild(*words, "--binnmu", "1: Rebuild with x").json)
    assert set(built) >= {"tiny_1.0-1+b1_armhf.deb", "tiny-udeb_1.0-1+b1_armhf.udeb", "tiny_1.0-1+b1_armhf.changes"}
    info = deb822.paragraph((output / "tiny_1.0-1+b1_armhf.buildinfo").read_text())
    assert (info["Source"], info["Version"]) == ("tiny (1:1.0-1)", "1:1.0-1+b1")
    assert "  * Rebuild with x" in info["Binary-Only-Changes"]
    with opened(output / "tiny_1.0-1+b1_armhf.deb") as package:
        assert (package.fields["Version"], package.source) == ("1:1.0-1+b1", ("tiny", "1:1.0-1"))


def test_packages_for_all_architectures_are_the_same_everywhere(xbuild: Xbuild, tmp_path: Path) -> None:
    said = xbuild("deb", str(made(tmp_path)), "--target", "armhf,amd64", "--all", "--json").json
    arm, native = files(said)
    assert arm["tiny-doc_1.0_all.deb"] == native["tiny-doc_1.0_all.deb"]
    assert [name for name in arm if name.endswith("deb")] == ["tiny-doc_1.0_all.deb"]


@pytest.mark.long
def test_a_trial_has_no_more_than_a_board(xbuild: Xbuild, tmp_path: Path) -> None:
    """A compiler is in the root that a package is built in, and in none that it comes to."""
    dsc = made(tmp_path, files={"debian/tiny.postinst": b"#!/bin/sh\nset -e\ncc --version\n"})
    words = ["deb", str(dsc), "--target", "armhf", "--trials", "install"]
    said = xbuild(*words, code=5).err
    assert "error: trial install: it did not pass" in said
    assert "cc: not found" in said


def test_what_a_build_machine_does_not_have(xbuild: Xbuild, tmp_path: Path) -> None:
    words = ["deb", str(made(tmp_path, also="bash -c 'exec 3<> /dev/tcp/192.0.2.1/80'")), "--target", "armhf"]
    assert "hint: a phase has no network; a package must not need one (Debian Policy 4.9)" in xbuild(*words, code=3).err
    made(tmp_path, also="fakeroot true")
    assert "hint: program fakeroot is missing: its package belongs into Build-Depends" in xbuild(*words, code=3).err
