"""All kinds of archives, unpacked; damaged ones and those that reach out of their place, refused."""

import bz2
import contextlib
import gzip
import io
import lzma
import os
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from xbuild.base.errors import SourceError
from xbuild.sources import unpack


def tar_of(files: dict[str, bytes], *extra: tarfile.TarInfo) -> bytes:
    """A tar file with `files` (name -> contents), then `extra` members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.mode = len(content), 1000000, 0o4777
            tar.addfile(member, io.BytesIO(content))
        for member in extra:
            tar.addfile(member)
    return buffer.getvalue()


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def zip_of(files: dict[str, bytes], mode: int = 0o100755) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, (2001, 2, 3, 4, 5, 6))
            entry.external_attr = mode << 16
            archive.writestr(entry, content)
    return buffer.getvalue()


def zstandard(content: bytes) -> bytes:
    return subprocess.run(["zstd", "-q"], input=content, stdout=subprocess.PIPE, check=True).stdout


FILES = {"./p-1/configure": b"c" * 5000, "p-1/sub/f": b"f", "top": b"t"}
needs_zstd = pytest.mark.skipif(shutil.which("zstd") is None, reason="zstd is not installed")


@pytest.mark.parametrize(
    "compress",
    [bytes, gzip.compress, bz2.compress, lzma.compress, pytest.param(zstandard, marks=needs_zstd)],
    ids=["plain", "gz", "bz2", "xz", "zst"],
)
def test_unpack_tar(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    hard = link("p-1/hard", "p-1/sub/f", tarfile.LNKTYPE)
    (tmp_path / "archive").write_bytes(compress(tar_of(FILES, hard)))
    destination = tmp_path / "src"
    destination.mkdir()
    unpack(tmp_path / "archive", destination, 1)
    assert sorted(path.relative_to(destination).as_posix() for path in destination.rglob("*")) == [
        "configure",
        "hard",
        "sub",
        "sub/f",
    ]
    status = (destination / "configure").stat()
    assert (status.st_mtime, status.st_mode & 0o7777) == (1000000, 0o755)
    assert (destination / "hard").samefile(destination / "sub" / "f")


def test_unpack_zip(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(zip_of(FILES))
    destination = tmp_path / "src"
    destination.mkdir()
    unpack(tmp_path / "archive", destination, 1)
    assert (destination / "sub" / "f").read_bytes() == b"f"
    status = (destination / "configure").stat()
    assert (status.st_mtime, status.st_mode & 0o7777) == (981173106, 0o755)


def test_strip_that_leaves_nothing_is_told(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(tar_of({"a": b"1", "b": b"2"}))
    with pytest.raises(SourceError, match="nothing is left") as caught:
        unpack(tmp_path / "archive", tmp_path, 1, "name.tar")
    assert "strip" in str(caught.value.hint)


ESCAPES = {
    "dots": tar_of({"p/../../evil": b"1"}),
    "through a link": tar_of({}, link("p/l", "../.."), link("p/l/evil", "x")),
    "hard link out": tar_of({}, link("p/l", "p/../../evil", tarfile.LNKTYPE)),
    "device": tar_of({}, link("p/null", "", tarfile.CHRTYPE)),
    "zip dots": zip_of({"p/../../evil": b"1"}),
}


@pytest.mark.parametrize("archive", ESCAPES.values(), ids=ESCAPES)
def test_unpack_refuses_escapes(tmp_path: Path, archive: bytes) -> None:
    (tmp_path / "archive").write_bytes(archive)
    destination = tmp_path / "deep" / "src"
    destination.mkdir(parents=True)
    with pytest.raises(SourceError, match=r"name\.tar: refused"):
        unpack(tmp_path / "archive", destination, 1, "name.tar")
    outside = [path for path in tmp_path.rglob("*") if not path.is_relative_to(destination)]
    assert sorted(path.name for path in outside) == ["archive", "deep"]


def test_absolute_names_stay_below(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(tar_of({"/p/etc/f": b"1"}))
    destination = tmp_path / "src"
    destination.mkdir()
    unpack(tmp_path / "archive", destination, 1)
    assert (destination / "etc" / "f").exists()


NOISE = os.urandom(20000)
DAMAGED = {
    "empty": b"",
    "text": b"<html>404</html>" * 100,
    "cut tar": tar_of({"p/f": NOISE})[:9000],
    "cut gz": gzip.compress(tar_of({"p/f": NOISE}))[:9000],
    "cut bz2": bz2.compress(tar_of({"p/f": NOISE}))[:9000],
    "cut xz": lzma.compress(tar_of({"p/f": NOISE}))[:9000],
    "hard link to nothing": tar_of({"p/g": b""}, link("p/f", "p/none", tarfile.LNKTYPE)),
}
with contextlib.suppress(FileNotFoundError):
    DAMAGED["cut zst"] = zstandard(tar_of({"p/f": NOISE}))[:9000]


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_archive_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / "archive").write_bytes(DAMAGED[name])
    with pytest.raises(SourceError, match=r"name\.tar: not an archive, or damaged"):
        unpack(tmp_path / "archive", tmp_path, 1, "name.tar")


def test_a_zip_without_a_date(tmp_path: Path) -> None:
    content = zip_of({"p/f": b"1"})
    stamp = ((2001 - 1980) << 9 | 2 << 5 | 3).to_bytes(2, "little")
    assert content.count(stamp) == 2
    (tmp_path / "archive").write_bytes(content.replace(stamp, bytes(2)))
    unpack(tmp_path / "archive", tmp_path, 1)
    assert (tmp_path / "f").stat().st_mtime == 315532800 + ((4 * 60) + 5) * 60 + 6


MEMBERS = tar_of({"p/f": b"1", "p/" + "n" * 200: b"2"}, link("p/l", "f"))
ARCHIVES = [MEMBERS, gzip.compress(MEMBERS), zip_of({"p/f": b"1", "p/g": b"2" * 50})]


@settings(max_examples=200, deadline=None)
@example(ARCHIVES[2], [(6868, 1)])
@given(st.sampled_from(ARCHIVES), st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=4))
def test_any_damage_is_told(
    tmp_path_factory: pytest.TempPathFactory, archive: bytes, damage: list[tuple[int, int]]
) -> None:
    content = bytearray(archive)
    for place, value in damage:
        content[place % len(content)] = value
    base = tmp_path_factory.mktemp("damage")
    (base / "src").mkdir()
    (base / "archive").write_bytes(content)
    with contextlib.suppress(SourceError):
        unpack(base / "archive", base / "src", 1)


def test_headers_without_end_are_damage(tmp_path: Path) -> None:
    long = tarfile.TarInfo("././@LongLink")
    long.type = tarfile.GNUTYPE_LONGNAME
    (tmp_path / "archive").write_bytes(long.tobuf(tarfile.GNU_FORMAT) * 5000 + bytes(1024))
    with pytest.raises(SourceError, match="damaged"):
        unpack(tmp_path / "archive", tmp_path, 1)


def test_damaged_zip_is_told(tmp_path: Path) -> None:
    content = bytearray(zip_of({"p/f": NOISE}))
    content[10000] ^= 0xFF
    (tmp_path / "archive").write_bytes(content)
    with pytest.raises(SourceError, match="not an archive, or damaged"):
        unpack(tmp_path / "archive", tmp_path, 1)


SEGMENTS = st.lists(st.sampled_from(["a", "b", "..", ".", ""]), min_size=1, max_size=6)


@given(SEGMENTS, st.integers(0, 3))
def test_no_name_leaves_the_destination(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str], strip: int
) -> None:
    base = tmp_path_factory.mktemp("escape")
    destination = base / "x" / "src"
    destination.mkdir(parents=True)
    (base / "archive").write_bytes(tar_of({"/".join(parts) or "a": b"1"}))
    with contextlib.suppress(SourceError, OSError):
        unpack(base / "archive", destination, strip)
    outside = [path for path in base.rglob("*") if not path.is_relative_to(destination)]
    assert sorted(path.name for path in outside) == ["archive", "x"]


def test_an_archive_of_nothing(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "empty.tar", "w"):
        pass
    with pytest.raises(SourceError, match=r"empty\.tar: there is nothing in it"):
        unpack(tmp_path / "empty.tar", tmp_path / "place", 0, "empty.tar")
    with pytest.raises(SourceError, match="nothing is left without its 1 leading"):
        unpack(tmp_path / "empty.tar", tmp_path / "place", 1, "empty.tar")
