from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from xbuild.base.errors import CheckError, MachineError, PhaseError
from xbuild.base.walk import walk
from xbuild.build.artifact import LEVEL, pack

EPOCH = 1_700_000_000

pytestmark = pytest.mark.skipif(shutil.which("zstd") is None, reason="needs zstd")


def make_tree(root: Path, names: list[str]) -> Path:
    """A tree with these files, made in this order."""
    root.mkdir()
    (root / "usr/bin").mkdir(parents=True)
    for name in names:
        (root / name).write_text(f"contents of {name}\n" * 100)
    (root / "usr/bin/sh").symlink_to("/bin/dash")
    os.link(root / names[0], root / "zz-hard-link")
    return root


def unpack(archive: Path, into: Path) -> list[tarfile.TarInfo]:
    plain = into / "plain.tar"
    subprocess.run(["zstd", "-dq", archive, "-o", plain], check=True)
    with tarfile.open(plain) as tar:
        return tar.getmembers()


def test_same_tree_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["usr/bin/b", "usr/bin/a", "z", "y" * 150]
    one, two = (
        make_tree(tmp_path / "one", names),
        make_tree(tmp_path / "two", [names[0], *reversed(names[1:])]),
    )
    # Later than the epoch, and different from each other, as two builds are.
    os.utime(one / "z", (EPOCH + 10, EPOCH + 10.25))
    os.utime(two / "z", (EPOCH + 99, EPOCH + 99.75))
    pack(one, tmp_path / "one.tar.zst", EPOCH)
    monkeypatch.setenv("ZSTD_CLEVEL", "1")
    monkeypatch.setenv("ZSTD_NBTHREADS", "1")
    pack(two, tmp_path / "two.tar.zst", EPOCH)
    assert (tmp_path / "one.tar.zst").read_bytes() == (tmp_path / "two.tar.zst").read_bytes()


def test_the_number_of_processors_does_not_matter(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    # More than one thread's share, which is 8 MiB at this level.
    (tree / "big").write_bytes(b"".join(b"%d\n" % (number * number) for number in range(800_000)))
    pack(tree, tmp_path / "tree.tar.zst", EPOCH)
    unpack(tmp_path / "tree.tar.zst", tmp_path)
    plain, again = tmp_path / "plain.tar", tmp_path / "again.zst"
    for threads in (1, 3):
        subprocess.run(["zstd", f"-{LEVEL}", f"-T{threads}", "-qf", plain, "-o", again], check=True)
        assert again.read_bytes() == (tmp_path / "tree.tar.zst").read_bytes()


def test_entries(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree", ["usr/bin/a", "b"])
    (tree / "b").chmod(0o4755)
    old = EPOCH - 1000
    os.utime(tree / "b", (old, old + 0.5))
    pack(tree, tmp_path / "tree.tar.zst", EPOCH)
    members = unpack(tmp_path / "tree.tar.zst", tmp_path)
    assert [member.name for member in members] == [
        "b",
        "usr",
        "usr/bin",
        "usr/bin/a",
        "usr/bin/sh",
        "zz-hard-link",
    ]
    assert {(member.uid, member.gid, member.uname, member.gname) for member in members} == {
        (0, 0, "root", "root")
    }
    by_name = {member.name: member for member in members}
    assert (by_name["b"].mtime, by_name["usr/bin/a"].mtime) == (old, EPOCH)
    assert by_name["b"].mode == 0o4755
    assert by_name["usr/bin/sh"].linkname == "/bin/dash"
    assert (by_name["zz-hard-link"].type, by_name["zz-hard-link"].linkname) == (tarfile.LNKTYPE, "usr/bin/a")
    assert not any(member.pax_headers for member in members)


def test_nothing_is_left_beside_it(tmp_path: Path) -> None:
    pack(make_tree(tmp_path / "tree", ["a"]), tmp_path / "tree.tar.zst", EPOCH)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tree", "tree.tar.zst"]


def test_names_that_are_no_text(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    Path(os.fsdecode(os.fsencode(tree) + b"/\xff")).touch()
    pack(tree, tmp_path / "tree.tar.zst", EPOCH)
    (member,) = unpack(tmp_path / "tree.tar.zst", tmp_path)
    assert os.fsencode(member.name) == b"\xff"


def test_what_cannot_be_packed(tmp_path: Path) -> None:
    for number, kind in enumerate(("fifo", "socket")):
        tree = tmp_path / str(number)
        tree.mkdir()
        if kind == "fifo":
            os.mkfifo(tree / "odd")
        else:
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(str(tree / "odd"))
        with pytest.raises(CheckError, match=f"odd: a {kind} cannot be part of an artifact"):
            pack(tree, tmp_path / "out.tar.zst", EPOCH)
        assert not list(tmp_path.glob("out*"))


def test_failing_and_missing_zstd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = make_tree(tmp_path / "tree", ["a"])
    tools = tmp_path / "bin"
    tools.mkdir()
    monkeypatch.setenv("PATH", str(tools))
    with pytest.raises(MachineError, match="zstd"):
        pack(tree, tmp_path / "out.tar.zst", EPOCH)
    (tools / "zstd").write_text("#!/bin/sh\necho no space >&2\nexit 1\n")
    (tools / "zstd").chmod(0o755)
    with pytest.raises(PhaseError, match="exit code 1") as caught:
        pack(tree, tmp_path / "out.tar.zst", EPOCH)
    assert caught.value.details == ("no space",)
    assert not list(tmp_path.glob("out*"))


def add(tree: Path) -> None:
    (tree / "usr/bin/c").write_text("unchecked\n")


def add_last(tree: Path) -> None:
    (tree / "zzz").mkdir()


def write(tree: Path) -> None:
    with (tree / "usr/bin/a").open("r+") as file:
        file.write("C")


def write_and_hide_it(tree: Path) -> None:
    before = (tree / "usr/bin/a").stat()
    write(tree)
    os.utime(tree / "usr/bin/a", ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(tree: Path) -> None:
    shutil.copy2(tree / "usr/bin/a", tree / "usr/bin/new")
    (tree / "usr/bin/new").rename(tree / "usr/bin/a")


def remove(tree: Path) -> None:
    (tree / "usr/bin/a").unlink()


def change_the_mode(tree: Path) -> None:
    (tree / "usr/bin/a").chmod(0o4755)


def retarget(tree: Path) -> None:
    (tree / "usr/bin/sh").unlink()
    (tree / "usr/bin/sh").symlink_to("/bin/bash")


def become_a_link(tree: Path) -> None:
    (tree / "usr").rename(tree.parent / "moved")
    (tree / "usr").symlink_to(tree.parent / "moved")


@pytest.mark.parametrize(
    "change",
    [add, add_last, write, write_and_hide_it, replace, remove, change_the_mode, retarget, become_a_link],
)
def test_only_what_was_checked_is_packed(tmp_path: Path, change: Callable[[Path], None]) -> None:
    tree = make_tree(tmp_path / "tree", ["usr/bin/a", "b"])
    checked = [visit.node for visit in walk(tree)]
    pack(tree, tmp_path / "checked.tar.zst", EPOCH, checked=checked)
    pack(tree, tmp_path / "whatever.tar.zst", EPOCH)
    assert (tmp_path / "checked.tar.zst").read_bytes() == (tmp_path / "whatever.tar.zst").read_bytes()
    change(tree)
    with pytest.raises(CheckError, match="not as it was when it was checked"):
        pack(tree, tmp_path / "out.tar.zst", EPOCH, checked=checked)
    assert not list(tmp_path.glob("out*"))


def test_permissions_that_the_tree_does_not_have(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree", ["usr/bin/a", "b"])
    pack(tree, tmp_path / "tree.tar.zst", EPOCH, modes={b"usr/bin/a": 0o4711})
    modes = {member.name: member.mode for member in unpack(tmp_path / "tree.tar.zst", tmp_path)}
    assert (modes["usr/bin/a"], modes["b"]) == (0o4711, (tree / "b").stat().st_mode & 0o7777)


def test_owners_that_the_tree_does_not_have(tmp_path: Path) -> None:
    tree, kept = make_tree(tmp_path / "tree", ["a", "b", "c"]), {b"a": (33, 0), b"b": (0, 4)}
    pack(tree, tmp_path / "tree.tar.zst", EPOCH, owners=kept)
    found = {member.name: member for member in unpack(tmp_path / "tree.tar.zst", tmp_path)}
    owners = {name: (one.uid, one.uname, one.gid, one.gname) for name, one in found.items() if name in "abc"}
    assert owners == {"a": (33, "", 0, "root"), "b": (0, "root", 4, ""), "c": (0, "root", 0, "root")}


def test_a_thousand_directories_deep(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    subprocess.run(["mkdir", "-p", tree / "/".join("a" * 1900)], check=True)
    pack(tree, tmp_path / "tree.tar.zst", EPOCH)
    assert len(unpack(tmp_path / "tree.tar.zst", tmp_path)) == 1900
    subprocess.run(["rm", "-rf", tree], check=True)


def test_a_disk_that_is_full_for_zstd(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree", ["a"])
    (tmp_path / "out.tar.zst.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        pack(tree, tmp_path / "out.tar.zst", EPOCH)
    assert not list(tmp_path.glob("out*"))
