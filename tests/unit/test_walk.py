"""Trees that others made: nothing in them leads out, holds up, or is too deep."""

from __future__ import annotations

import os
import resource
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from xbuild.base.walk import LONGEST_PATH, kind_of, open_file, shown, walk


def paths(top: Path) -> list[bytes]:
    return [visit.node.path for visit in walk(top)]


def test_all_names_in_order_and_no_link_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").touch()
    top = tmp_path / "top"
    (top / "b").mkdir(parents=True)
    (top / "b/file").write_text("text")
    (top / "b.txt").touch()
    (top / "a").symlink_to(outside)
    os.mkfifo(top / "fifo")
    odd = b"\xff\nerror: x"
    (top / os.fsdecode(odd)).touch()
    assert paths(top) == [b"a", b"b", b"b/file", b"b.txt", b"fifo", odd]
    nodes = {visit.node.path: visit.node for visit in walk(top)}
    assert nodes[b"a"].target == os.fsencode(outside)
    assert nodes[b"b/file"].size == 4
    assert [kind_of(nodes[name].mode) for name in (b"a", b"b", b"b.txt", b"fifo")] == [
        "a symbolic link", "a directory", "a file", "a fifo",
    ]  # fmt: skip
    assert [visit.node.path for visit in walk(top, skipped=[b"b", b"file"])] == [b"a", b"b.txt", b"fifo", odd]


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """A tree of 1,500 directories in each other, whose paths no system call takes."""
    top = tmp_path / "deep"
    top.mkdir()
    folder = os.open(top, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("directory", dir_fd=folder)
        below = os.open("directory", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    descriptor = os.open("file", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=folder)
    os.write(descriptor, b"deep down")
    os.close(descriptor)
    os.close(folder)
    (top / "last").touch()
    yield top
    subprocess.run(["rm", "-rf", top], check=True)


def test_depth_does_not_matter(deep: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    try:
        found = []
        for visit in walk(deep):
            found.append(visit.node.path)
            if visit.node.path.endswith(b"/file"):
                with visit.open() as stream:
                    assert stream.read() == b"deep down"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(found) == 1502
    assert max(map(len, found)) > 3 * LONGEST_PATH
    assert found[-1] == b"last"


def test_only_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").write_text("text")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "directory").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
    for name, words in (
        ("fifo", "a fifo"), ("directory", "a directory"), ("socket", "a socket"), ("link", "a symbolic link"),
    ):  # fmt: skip
        with pytest.raises(OSError, match=f"it is {words}, not a file"):
            open_file(tmp_path / name)
    with pytest.raises(OSError, match="it is a device"):
        open_file(Path("/dev/zero"))
    with open_file(tmp_path / "link", follow=True) as stream:
        assert stream.read() == b"text"
    folder = os.open(tmp_path, os.O_RDONLY)
    with open_file(b"file", folder=folder) as stream:
        assert stream.read() == b"text"
    os.close(folder)


def test_what_changes_meanwhile_is_another_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("text")
    (before,) = walk(tmp_path)
    with open_file(file) as stream:
        before.require_same(stream)
        file.write_text("texts")
        with pytest.raises(OSError, match="it changes while it is read"):
            before.require_same(stream)
    (after,) = walk(tmp_path)
    assert after.node != before.node
    (same,) = walk(tmp_path)
    assert same.node == after.node


def test_a_directory_that_is_moved_away_ends_the_walk(tmp_path: Path) -> None:
    top, other = tmp_path / "top", tmp_path / "other"
    (top / "a/b").mkdir(parents=True)
    (top / "z").touch()
    other.mkdir()
    (other / "secret").touch()
    seen = []

    def visit_all() -> None:
        for visit in walk(top):
            seen.append(visit.node.path)
            if visit.node.path == b"a/b":
                (top / "a/b").rename(other / "b")

    with pytest.raises(OSError, match="was moved while it was read"):
        visit_all()
    assert b"secret" not in b"".join(seen)


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read everything")
@pytest.mark.parametrize("mode", [0, stat.S_IRUSR, stat.S_IXUSR])
def test_what_cannot_be_read_is_told(tmp_path: Path, mode: int) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/file").touch()
    (tmp_path / "b").touch()
    (tmp_path / "a").chmod(mode)
    told: list[bytes] = []
    try:
        found = [visit.node.path for visit in walk(tmp_path, lambda path, _error: told.append(path))]
        with pytest.raises(PermissionError):
            paths(tmp_path)
    finally:
        (tmp_path / "a").chmod(0o755)
    assert (found, told) == ([b"b"], [b"a"])


def test_names_are_shown_in_one_line() -> None:
    assert shown(b"usr/\xff\n\x1b[31m\xc3\xbc") == "usr/\\xff\\n\\x1b[31mü"
    assert shown(os.fsdecode(b"\xff")) == "\\udcff"
    assert shown("a\\n") == "a\\n"
