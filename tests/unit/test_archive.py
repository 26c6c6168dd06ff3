"""What hostile, odd and honest archives come to; the kinds of archives are tested in test_unpack."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from xbuild.base.errors import SourceError
from xbuild.sources import unpack


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.mode, made.mtime = kind, link, mode, 1000000
    made.size = 1 if kind == tarfile.REGTYPE else 0
    return made


def symlink(name: str, link: str) -> tarfile.TarInfo:
    return member(name, tarfile.SYMTYPE, link)


def hard_link(name: str, link: str) -> tarfile.TarInfo:
    return member(name, tarfile.LNKTYPE, link)


def directory(name: str) -> tarfile.TarInfo:
    return member(name, tarfile.DIRTYPE, mode=0)


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    path = tmp_path / "deep" / "src"
    path.mkdir(parents=True)
    (tmp_path / "deep" / "secret").write_text("s")
    return path


def put(destination: Path, *members: tarfile.TarInfo) -> None:
    """Unpack an archive with `members`; each file holds `1`."""
    archive = destination.parents[1] / "archive"
    with tarfile.open(archive, "w") as tar:
        for one in members:
            tar.addfile(one, io.BytesIO(b"1"))
    unpack(archive, destination, 0, "name.tar")


def long_chain() -> tuple[list[tarfile.TarInfo], str]:
    """Directories and links, and a short name by which the kernel gets to what has a too long path."""
    members, path = [], ""
    for letter in "abcdefghijklmnop":
        name = letter * 247
        members += [directory(f"{path}{name}"), symlink(f"{path}{letter}", name)]
        path += f"{letter}/"
    return members, path + "l" * 254


CHAIN, TOO_LONG = long_chain()
ESCAPES = {
    "name through a link": ([directory("a"), symlink("a/l", ".."), member("a/l/../evil")], "would be extracted"),
    "file through a link": ([symlink("l", ".."), member("l/evil")], "would be extracted"),
    "file through an absolute link": ([symlink("l", "/tmp"), member("l/evil")], "would be extracted"),
    "directory by a link": ([symlink("l", "../evil"), directory("l")], "would be extracted"),
    "through two links": ([symlink("m", ".."), symlink("l", "m"), member("l/evil")], "would be extracted"),
    "fifo through a link": ([symlink("l", ".."), member("l/p", tarfile.FIFOTYPE)], "would be extracted"),
    "link through a link": ([symlink("l", ".."), symlink("l/evil", "x")], "would be extracted"),
    "name of the parent": ([directory("..")], "would be extracted"),
    "hard link through a link": (
        [directory("a"), symlink("a/l", ".."), hard_link("h", "a/l/../secret")],
        "would link to",
    ),
    "block device": ([member("p", tarfile.BLKTYPE)], "'p' is a device"),
    "unknown": ([member("p", b"Y")], "'p' is a device"),
}


@pytest.mark.parametrize(("members", "message"), ESCAPES.values(), ids=ESCAPES)
def test_escapes_are_refused(destination: Path, members: list[tarfile.TarInfo], message: str) -> None:
    with pytest.raises(SourceError, match=rf"name\.tar: refused: .*({message})"):
        put(destination, *members)
    assert (destination.parent / "secret").read_text() == "s"
    assert {path.name for path in destination.parent.iterdir()} == {"secret", "src"}


def test_links_are_made_as_they_are(destination: Path) -> None:
    """What tar does: a link is only text, wherever it leads, and a file of its name takes its place."""
    long = [*CHAIN, symlink("far", f"{TOO_LONG}/../secret")]
    put(destination, symlink("absolute", "/etc"), symlink("out", "../secret"), symlink("gone", "../none"), *long)
    links = {name: os.fspath((destination / name).readlink()) for name in ("absolute", "out", "gone")}
    assert links == {"absolute": "/etc", "out": "../secret", "gone": "../none"}
    assert (destination / "out").lstat().st_mtime == 1000000
    put(destination, symlink("l", "../secret"), member("l"))
    put(destination, symlink("m", "../secret"), hard_link("m2", "m"), member("m2"))
    assert (destination / "l").read_text() == (destination / "m2").read_text() == "1"
    assert (destination.parent / "secret").read_text() == "s"


def test_a_link_out_of_one_archive_is_no_way_for_the_next(destination: Path) -> None:
    put(destination, symlink("sub", ".."), symlink("inside", "there"))
    archive = destination.parents[1] / "archive"
    with pytest.raises(SourceError, match=r"refused: 'sub/x' leads to"):
        unpack(archive, destination, 0, "name.tar", into="sub/x")
    with tarfile.open(archive, "w") as tar:
        tar.addfile(member("f"), io.BytesIO(b"1"))
    unpack(archive, destination, 0, "name.tar", into="inside/deep")
    assert (destination / "there" / "deep" / "f").read_text() == "1"


def test_special_members(destination: Path) -> None:
    put(destination, member("label", b"V"), member("p", tarfile.FIFOTYPE, mode=0o600), hard_link("p2", "p"))
    assert [path.name for path in sorted(destination.iterdir())] == ["p", "p2"]
    assert (destination / "p").is_fifo()
    assert (destination / "p").stat().st_mtime == 1000000


def test_links_inside_are_followed(destination: Path) -> None:
    put(
        destination,
        *(directory("usr/lib"), symlink("lib", "usr/lib"), member("lib/f"), directory("lib")),
        *(
            symlink("usr/lib/up", "../../lib/f"),
            hard_link("usr/h", "lib/f"),
            hard_link("usr/lib/up2", "lib/up"),
        ),
        *(symlink("loop", "loop"), symlink("dangling", "not/there"), member("a/../b")),
    )
    assert (destination / "lib").is_symlink()
    assert (destination / "usr" / "lib" / "f").samefile(destination / "usr" / "h")
    assert os.fspath((destination / "usr" / "lib" / "up2").readlink()) == "../../lib/f"
    assert (destination / "b").read_text() == "1"


def test_what_is_there_is_replaced_not_written_through(destination: Path) -> None:
    (destination / "old").write_text("old")
    put(destination, symlink("l", "old"), member("l"), hard_link("h", "old"), member("h"), symlink("h", "l"))
    assert (destination / "old").read_text() == "old"
    assert not (destination / "l").is_symlink()
    assert (destination / "h").is_symlink()


def test_a_hard_link_to_itself_does_nothing(destination: Path) -> None:
    put(destination, member("f"), hard_link("f", "./f"))
    assert (destination / "f").read_text() == "1"


@pytest.mark.parametrize(
    ("mode", "expected"),
    [(0o7777, 0o755), (0o666, 0o644), (0o011, 0o600), (0, 0o600), (0o500, 0o700), (0o4511, 0o711)],
)
def test_modes(destination: Path, mode: int, expected: int) -> None:
    old = os.umask(0o077)
    try:
        put(destination, member("new/f", mode=mode), directory("made"), member("made/f"))
    finally:
        os.umask(old)
    status = (destination / "new" / "f").stat()
    assert (status.st_mode & 0o7777, status.st_mtime) == (expected, 1000000)
    assert (destination / "new").stat().st_mode & 0o7777 == 0o755
    made = (destination / "made").stat()
    assert (made.st_mode & 0o7777, made.st_mtime) == (0o755, 1000000)


DAMAGE = {
    "file and directory": [directory("a"), member("a")],
    "file as a directory": [member("a"), member("a/b")],
    "link as a directory": [member("f"), directory("a"), symlink("a", "f")],
    "file named as a parent": [directory("a"), member("a/..")],
    "through a loop": [symlink("l", "l"), member("l/f")],
    "too long": [*CHAIN, member(TOO_LONG)],
    "link to nothing": [symlink("l", "")],
    "hard link to a directory": [directory("a"), hard_link("h", "a")],
    "hard link to nothing": [hard_link("h", "none")],
}


@pytest.mark.parametrize("members", DAMAGE.values(), ids=DAMAGE)
def test_members_that_do_not_go_together_are_damage(
    destination: Path, members: list[tarfile.TarInfo]
) -> None:
    with pytest.raises(SourceError, match=r"name\.tar: not an archive, or damaged"):
        put(destination, *members)


def test_an_impossible_time_is_damage(destination: Path) -> None:
    odd = member("f")
    odd.pax_headers = {"mtime": "1e300"}
    with pytest.raises(SourceError, match="damaged"):
        put(destination, odd)
