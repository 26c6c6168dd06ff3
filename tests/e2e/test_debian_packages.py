"""Debian source packages built by `xbuild deb`, and held against the archive's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.command_line import Xbuild
from tests.e2e.sourcepackage import made
from xbuild.doctor.programs import i386
from xbuild.formats import deb822
from xbuild.formats.deb import opened
from xbuild.formats.elf import read_elf
from xbuild.roots import index

pytestmark = pytest.mark.e2e


def names(said: object) -> set[str]:
    """The files of the only build."""
    (build,) = said["builds"]  # type: ignore[index]
    return {Path(file["file"]).name for file in build["files"]}


def test_a_package_is_the_archives_own(xbuild: Xbuild) -> None:
    said = xbuild("deb", "less", "--target", "armhf", "--json").json
    (built,) = said["builds"]
    (file,) = [file for file in built["files"] if Path(file["file"]).match("less_*.deb")]
    lists = [place for place in (xbuild.cache / "indexes").iterdir() if any(place.glob("lists/*binary-armhf_Packages"))]
    known = {stanza.version: stanza.sha256 for place in lists for stanza in index.named(place / "lists", {"less"})}
    assert file["sha256"] == known[built["version"]]
    log = Path(file["file"]).with_suffix(".build").read_text()
    assert "dpkg-buildpackage" in log


def test_packages_of_ones_own(xbuild: Xbuild, tmp_path: Path) -> None:
    dsc = str(made(tmp_path, root="binary-targets"))
    common = {"tiny_1.0_armhf.buildinfo", "tiny_1.0_armhf.changes", "tiny_1.0_armhf.build"}
    said = xbuild("deb", dsc, "--target", "armhf", "--json")
    assert "signature not checked: it has none" in said.err
    assert names(said.json) == common | {"tiny_1.0_armhf.deb", "tiny-udeb_1.0_armhf.udeb"}
    folder = xbuild.project / "dist" / "tiny_1.0_armhf"
    with opened(folder / "tiny_1.0_armhf.deb") as package:
        assert package.fields["Version"] == "1:1.0"
        assert {member.owner for member in package.members} == {"root/root"}
        assert read_elf(package.open("usr/bin/tiny")).machine == "ARM"
    info = deb822.paragraph((folder / "tiny_1.0_armhf.buildinfo").read_text())
    assert (info["Build-Architecture"], info["Version"]) == ("armhf", "1:1.0")
    assert info["Build-Path"] == "/build/reproducible-path/tiny-1.0"
    both = xbuild("deb", dsc, "--target", "armhf", "--any", "--all", "--json", "--output", str(tmp_path / "both")).json
    assert {"tiny-doc_1.0_all.deb", "tiny_1.0_armhf.deb", "tiny_1.0_armhf.build"} <= names(both)


@pytest.mark.long
def test_failing_tests_are_told_apart_and_the_same_command_goes_on(xbuild: Xbuild, tmp_path: Path) -> None:
    source = b"int main(void) { return 3; }\n"
    words = ["deb", str(made(tmp_path, files={"tiny.c": source})), "--target", "armhf"]
    said = xbuild(*words, code=3)
    command = f"invoke {' '.join(words)}"
    assert f" -m {command}    (resumes at this phase)" in said.err
    assert f" -m {command} --nocheck    (without" in said.err
    assert f" -m {command} --mode emulated    (do they fail" in said.err
    assert "'compile' failed before" in xbuild(*words, code=3).err
    shell = next(line for line in said.err.splitlines() if "shell:  " in line).split("invoke ")[1].split()
    assert "debian/rules" in xbuild(*shell, "--", "ls", "/build/reproducible-path/tiny-1.0/debian/rules").out
    assert "tiny_1.0_armhf.deb" in names(xbuild(*words, "--nocheck", "--json").json)


@pytest.mark.long
def test_what_is_wrong_in_a_package_is_found(xbuild: Xbuild, tmp_path: Path) -> None:
    dsc = made(tmp_path, files={"intruder": i386()}, more="intruder")
    said = xbuild("deb", str(dsc), "--target", "armhf", "--nocheck", code=5).err
    assert "tiny_1.0_armhf.deb: ./usr/bin/intruder: is code for 386, 32 bit, little-endian, not for armhf" in said
    assert "data: [usr/bin/intruder]" in said
    assert not (xbuild.project / "dist").exists()
    both = xbuild("deb", str(dsc), "--target", "armhf,arm64", "--nocheck", "--all", "--json").json
    assert [build["target"] for build in both["builds"]] == ["armhf", "arm64"]
    as_data = xbuild("deb", str(dsc), "--target", "armhf", "--nocheck", "--data", "usr/bin/i*", "--json").json
    assert "tiny_1.0_armhf.deb" in names(as_data)


def test_what_cannot_be_built_is_told_before_anything_is_made(xbuild: Xbuild, tmp_path: Path) -> None:
    dsc = made(tmp_path)
    dsc.write_text(dsc.read_text().replace("arch=any", "arch=amd64"))
    said = xbuild("deb", str(dsc), "--target", "armhf", code=2).err
    assert "tiny 1:1.0 is not for armhf" in said
    dsc = made(tmp_path)
    dsc.write_text(dsc.read_text().replace("Package-List:", "Build-Depends: libnothing-dev (>= 2)\nPackage-List:"))
    said = xbuild("deb", str(dsc), "--target", "armhf", code=2).err
    assert "the build dependencies cannot be had for armhf from trixie: libnothing-dev (>= 2)" in said
    assert "a binary package of that name is made by zlib" in xbuild("deb", "zlib1g", "--target", "armhf", code=2).err
    assert "did you mean 'less'?" in xbuild("deb", "lesss", "--target", "armhf", code=2).err
    assert "trixie has no version 1" in xbuild("deb", "less=1", "--target", "armhf", code=2).err
    assert not (xbuild.cache / "work").exists() or not list((xbuild.cache / "work").glob("tiny*"))


@pytest.mark.long
def test_packages_that_need_each_other_build_in_order(xbuild: Xbuild, tmp_path: Path) -> None:
    first, place = made(tmp_path), str(tmp_path / "repository")
    second = str(made(tmp_path, name="second", needs="tiny (>= 1:1.0)"))
    words = ["deb", second, "--target", "armhf", "--json"]
    said = xbuild(*words, code=2)
    assert said.json["error"]["message"].endswith("cannot be had for armhf from trixie: tiny (>= 1:1.0)")
    together = xbuild("deb", second, "--also", str(first), "--target", "armhf", "--json").json
    assert [one["package"] for one in together["builds"]] == ["tiny", "second"]
    xbuild("deb", str(first), "--target", "armhf", "--output", str(tmp_path / "built"))
    xbuild("repo", place, "--add", str(tmp_path / "built/tiny_1.0_armhf.changes"))
    built = xbuild(*words, "--repo", place).json
    assert "second_1.0_armhf.deb" in names(built)
    # By whatever way its packages come, it is the same build.
    assert built["builds"][0]["build"]["status"] == "up-to-date"
    info = deb822.paragraph((xbuild.project / "dist/second_1.0_armhf/second_1.0_armhf.buildinfo").read_text())
    assert " tiny (= 1:1.0)" in info["Installed-Build-Depends"].replace(",", "").splitlines()
    # Elsewhere, it is the same input; with other contents it is another.
    moved = (tmp_path / "repository").rename(tmp_path / "elsewhere")
    again = xbuild(*words, "--repo", str(moved), "--plan").json["packages"][0]
    assert {step["verdict"] for step in again["plan"]} == {"skip"}
    made(tmp_path, files={"tiny.c": b'#include <stdio.h>\nint main(void) { puts("another word"); return 0; }\n'})
    xbuild("deb", str(first), "--target", "armhf", "--output", str(tmp_path / "built"))
    xbuild("repo", str(moved), "--add", str(tmp_path / "built"))
    changed = xbuild(*words, "--repo", str(moved), "--plan").json["packages"][0]
    assert changed["key"] != again["key"]
