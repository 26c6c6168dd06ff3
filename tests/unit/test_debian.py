from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xbuild.base.errors import MachineError
from xbuild.formats.debian import Package, Tree, merged

STATUS = """\
Package: libc6
Status: install ok installed
Architecture: armhf
Source: glibc
Version: 2.41-12
Description: with a colon: here
 Version: not.this.one

Package: gcc-14
Status: hold ok installed
Architecture: armhf
Source: gcc-14 (14.2.0-18)
Version: 14.2.0-19+b1

Package: gone
Status: deinstall ok config-files
Version: 1

Package: broken
Status: install ok triggers-pending
Architecture: armhf
"""


def layer(root: Path, lists: dict[str, list[str]], status: str | None = None) -> Path:
    info = root / "var/lib/dpkg/info"
    info.mkdir(parents=True)
    for name, paths in lists.items():
        (info / f"{name}.list").write_text("".join(f"{path}\n" for path in paths))
    if status is not None:
        (root / "var/lib/dpkg/status").write_text(status)
    return root


def whiteout(path: Path) -> None:
    """The mark that overlayfs leaves for a deleted file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.mknod(path, 0o020000, 0)
    except PermissionError:
        pytest.skip("this user cannot make a whiteout")


def opaque(path: Path) -> None:
    path.mkdir(parents=True)
    try:
        os.setxattr(path, "user.overlay.opaque", b"y")
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            pytest.skip("this file system has no extended attributes for users")
        raise


def test_packages(tmp_path: Path) -> None:
    tree = Tree([layer(tmp_path, {}, STATUS)])
    assert tree.packages == {
        "libc6": Package("libc6", "2.41-12", "armhf", "glibc=2.41-12"),
        "gcc-14": Package("gcc-14", "14.2.0-19+b1", "armhf", "gcc-14=14.2.0-18"),
    }


def test_no_database(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="holds no package database") as caught:
        _ = Tree([tmp_path]).packages
    assert caught.value.hint == "invoke clean --roots"


def test_the_topmost_database_counts(tmp_path: Path) -> None:
    upper = layer(tmp_path / "upper", {}, "Package: a\nVersion: 2\n")
    lower = layer(tmp_path / "lower", {}, "Package: a\nVersion: 1\n\nPackage: b\nVersion: 1\n")
    assert {name: package.version for name, package in Tree([upper, lower]).packages.items()} == {"a": "2"}


def test_owners(tmp_path: Path) -> None:
    lower = layer(tmp_path / "lower", {"libc6:armhf": ["/lib/libc.so.6"], "sed": ["/bin/sed"], "a": ["/usr/bin/a"]})
    upper = layer(tmp_path / "upper", {"a": ["/usr/bin/a2"]})
    assert Tree([upper, lower]).owners == {
        "/usr/lib/libc.so.6": "libc6",
        "/usr/bin/sed": "sed",
        "/usr/bin/a2": "a",
    }


def test_packages_that_a_layer_has_removed_own_nothing(tmp_path: Path) -> None:
    lower = layer(tmp_path / "lower", {"a": ["/usr/bin/a"], "b": ["/usr/bin/b"]})
    whiteout(tmp_path / "upper/var/lib/dpkg/info/a.list")
    assert Tree([tmp_path / "upper", lower]).owners == {"/usr/bin/b": "b"}


def test_find(tmp_path: Path) -> None:
    for name in ("upper", "lower"):
        (tmp_path / name / "d").mkdir(parents=True)
        (tmp_path / name / "d/both").touch()
        (tmp_path / name / f"d/{name}").touch()
    (tmp_path / "upper/d/link").symlink_to("/nowhere")
    tree = Tree([tmp_path / "upper", tmp_path / "lower"])
    assert tree.find("/d/both") == tmp_path / "upper/d/both"
    assert tree.find("/d/lower") == tmp_path / "lower/d/lower"
    assert tree.find("/d/link") == tmp_path / "upper/d/link"
    assert tree.find("/d/none") is None


def test_deleted_files_and_directories_are_not_found(tmp_path: Path) -> None:
    (tmp_path / "lower/d/e").mkdir(parents=True)
    (tmp_path / "lower/d/e/file").touch()
    tree = Tree([tmp_path / "upper", tmp_path / "lower"])
    whiteout(tmp_path / "upper/d/e")
    assert tree.find("/d/e") is None
    assert tree.find("/d/e/file") is None
    assert tree.real_path("/d/e/file") is None


def test_a_directory_that_replaced_another_hides_it(tmp_path: Path) -> None:
    (tmp_path / "lower/d").mkdir(parents=True)
    (tmp_path / "lower/d/file").touch()
    opaque(tmp_path / "upper/d")
    assert Tree([tmp_path / "upper", tmp_path / "lower"]).find("/d/file") is None


def test_a_file_that_replaced_a_directory_hides_it(tmp_path: Path) -> None:
    (tmp_path / "lower/d").mkdir(parents=True)
    (tmp_path / "lower/d/file").touch()
    (tmp_path / "upper").mkdir()
    (tmp_path / "upper/d").touch()
    assert Tree([tmp_path / "upper", tmp_path / "lower"]).find("/d/file") is None


def test_real_path(tmp_path: Path) -> None:
    lower, upper = tmp_path / "lower", tmp_path / "upper"
    (lower / "usr/bin").mkdir(parents=True)
    (lower / "usr/bin/dash").touch()
    (lower / "usr/bin/sh").symlink_to("dash")
    (lower / "bin").symlink_to("usr/bin")
    (lower / "loop").symlink_to("loop")
    upper.mkdir()
    (upper / "far").symlink_to("/bin/../bin/./sh")
    tree = Tree([upper, lower])
    assert tree.real_path("/bin/sh") == "/usr/bin/dash"
    assert tree.real_path("/far") == "/usr/bin/dash"
    assert tree.real_path("/../../bin/sh") == "/usr/bin/dash"
    assert tree.real_path("/bin/bash") is None
    assert tree.real_path("/loop") is None
    assert tree.real_path("/") == "/"


def test_links_do_not_lead_out_of_the_tree(tmp_path: Path) -> None:
    (tmp_path / "secret").touch()
    (tmp_path / "root").mkdir()
    (tmp_path / "root/out").symlink_to(str(tmp_path / "secret"))
    (tmp_path / "root/up").symlink_to("../secret")
    tree = Tree([tmp_path / "root"])
    assert tree.real_path("/out") is None
    assert tree.real_path("/up") is None


@given(st.lists(st.sampled_from(["usr", "bin", "lib", "sbin", "x"]), min_size=1, max_size=4))
def test_merged_is_done_once(parts: list[str]) -> None:
    path = "/" + "/".join(parts)
    assert merged(merged(path)) == merged(path)
    assert merged(path).endswith(path)
