"""The check of what a build installed looks into .deb files."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from tests.unit.debs import Node, deb
from tests.unit.test_check import ARMHF, DATA
from xbuild.build.check import check_tree


def data(name: str) -> bytes:
    return (DATA / name).read_bytes()


def link(target: str) -> Node:
    return Node(target=target, kind=tarfile.SYMTYPE)


def found(tree: Path, *patterns: str) -> list[tuple[str, str]]:
    return [(finding.path, finding.rule) for finding in check_tree(tree, ARMHF, frozenset(), data=patterns).findings]


def test_packages_whose_libraries_are_in_each_other(tmp_path: Path) -> None:
    deb(tmp_path / "tool_1_armhf.deb", {"usr/bin/tool": data("armhf-pie"), "usr/share/doc/tool/copyright": b"free\n"})
    assert found(tmp_path) == [("tool_1_armhf.deb: ./usr/bin/tool", "needed")]
    files = {"usr/lib/libhalf.so.1": data("libhalf.so.1"), "usr/lib/libhalf.a": data("armhf.a")}
    deb(tmp_path / "libhalf1_1_armhf.deb", files)
    assert found(tmp_path) == []


@pytest.mark.parametrize("ending", ["deb", "udeb", "ddeb"])
def test_what_is_wrong_inside_of_packages(tmp_path: Path, ending: str) -> None:
    name = f"tool_1_armhf.{ending}"
    files: dict[str, bytes | Node] = {
        "usr/bin/native": data("amd64-static"),
        "usr/bin/searches": data("armhf-rpath"),
        "usr/lib/mixed.a": data("mixed.a"),
        "usr/lib/broken": b"\x7fELF\x01",
        "usr/bin/env": b"#!/.xbuild/bin/env\n",
        "usr/lib/link": link("/.xbuild/lib"),
    }
    deb(tmp_path / name, files)
    rules = set(found(tmp_path))
    wanted = {("bin/native", "machine"), ("bin/searches", "rpath"), ("lib/broken", "broken"),
              ("bin/env", "private-string"), ("lib/link", "private-string")}  # fmt: skip
    assert {(f"{name}: ./usr/{path}", rule) for path, rule in wanted} <= rules
    assert {path.partition("(")[0] for path, rule in rules if rule == "machine"} == {
        f"{name}: ./usr/bin/native",
        f"{name}: ./usr/lib/mixed.a",
    }


def test_a_private_string_across_pieces_of_a_member(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xbuild.build.check._CHUNK", 64)
    deb(tmp_path / "a.deb", {"x": b"-" * 60 + b"/.xbuild/bin" + b"-" * 500, "y": b"-" * 700})
    (finding,) = check_tree(tmp_path, ARMHF, frozenset()).findings
    assert (finding.path, finding.message[:23]) == ("a.deb: ./x", "holds, at byte 60, a pa")


def test_data_inside_of_packages(tmp_path: Path) -> None:
    deb(tmp_path / "a.deb", {"usr/share/bios/code": data("amd64-static"), "usr/share/bios/more/code": data("amd64.o")})
    assert found(tmp_path, "usr/share/bios") == []
    assert found(tmp_path, "usr/**/code") == found(tmp_path, "**") == []
    assert {finding.installed for finding in check_tree(tmp_path, ARMHF, frozenset()).findings} == {
        "usr/share/bios/code",
        "usr/share/bios/more/code",
    }
    assert found(tmp_path, "usr/share/b*/code") == [("a.deb: ./usr/share/bios/more/code", "machine")]
    assert found(tmp_path, "usr/share/bios", "usr/none") == [("usr/none", "data")]


def test_what_is_no_package_though_it_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "a.deb").write_bytes(b"!<arch>\nnonsense")
    (tmp_path / "b.deb").write_bytes(b"")
    assert {path for path, rule in found(tmp_path) if rule == "broken"} == {"a.deb", "b.deb"}
