"""The pure parts of bringing roots: partition tables, platforms, what a root is."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from xbuild.base import paths
from xbuild.base.errors import UsageError
from xbuild.model.load import load_toolchain
from xbuild.roots.imported import Imported
from xbuild.roots.imported.disk import Partition, is_disk, parse_kind, parse_table
from xbuild.roots.imported.facts import examine
from xbuild.roots.imported.image import candidate, choose

DATA = Path(__file__).with_name("data")
ARMHF = load_toolchain("armhf", paths.PACKAGE.parent)


def test_partition_table() -> None:
    said = ['NR="1" START="2048" SECTORS="8192"', 'NR="2" START="10240" SECTORS="60000"', "partx: something odd"]
    assert parse_table(said) == [Partition(1, 2048 * 512, 8192 * 512), Partition(2, 10240 * 512, 60000 * 512)]
    assert parse_kind(["DEVNAME=/source", "UUID=1", "TYPE=ext4"]) == "ext4"
    assert parse_kind([]) == ""


@pytest.mark.parametrize(
    ("start", "is_one"),
    [
        (bytes(510) + b"\x55\xaa", True),
        (bytes(512) + b"EFI PART", True),
        (bytes(1080) + b"\x53\xef", True),
        (bytes(4096), False),
        (b"", False),
    ],
)
def test_disks(start: bytes, is_one: bool) -> None:
    assert is_disk(start) is is_one


@pytest.mark.parametrize(
    ("platform", "architecture", "shown"),
    [
        ({"os": "linux", "architecture": "arm", "variant": "v7"}, "armhf", "linux/arm/v7"),
        ({"architecture": "arm"}, "armhf", "arm"),
        ({"architecture": "arm", "variant": "v5"}, None, "arm/v5"),
        ({"architecture": "arm64", "variant": "v8"}, "arm64", "arm64/v8"),
        ({"architecture": "s390x"}, None, "s390x"),
    ],
)
def test_platforms(platform: dict[str, str], architecture: str | None, shown: str) -> None:
    found = candidate(platform, {})
    assert (found.architecture, found.name) == (architecture, shown)


def test_choice_of_a_platform() -> None:
    both = [candidate({"architecture": name}, {"digest": name}) for name in ("arm", "arm64")]
    assert choose(both, "arm64", "x").descriptor == {"digest": "arm64"}
    assert choose(both[:1], None, "x") is both[0]
    for found, wanted, words in ((both, None, "several"), (both, "amd64", "no image"), (both[:1], "arm64", "not for")):
        with pytest.raises(UsageError, match=words):
            choose(found, wanted, "x")


def root(path: Path, shell: str = "armhf-static", **files: str) -> Path:
    """A root in the directory `path`; files: `__` for `/` in their names."""
    (path / "bin").mkdir(parents=True)
    shutil.copy(DATA / shell, path / "bin/sh")
    for name, text in files.items():
        place = path / name.replace("__", "/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return path


RELEASE = 'ID=debian\nPRETTY_NAME="Debian 12"\nVERSION_CODENAME=bookworm\n'


def test_a_root_without_a_package_manager(tmp_path: Path) -> None:
    path = root(tmp_path / "root")
    (path / "etc").mkdir()
    (path / "etc/os-release").write_text(RELEASE)
    found = examine(path, "x")
    assert (found.family, found.suite, found.libc) == ("other", None, "unknown")


@pytest.mark.parametrize(
    ("release", "version", "sources", "suite"),
    [
        (RELEASE, "12.1\n", "", "bookworm"),
        ("ID=debian\nVERSION_CODENAME=forky\n", "forky/sid\n", "deb http://x/debian sid main\n", "sid"),
        ("ID=debian\nVERSION_CODENAME=forky\n", "forky/sid\n", "deb http://x/debian unstable main\n", "sid"),
        ("ID=debian\nVERSION_CODENAME=forky\n", "forky/sid\n", "deb http://x/debian forky main\n", "forky"),
        ("ID=raspbian\nVERSION_CODENAME=bookworm\n", "12.1\n", "", None),
    ],
)
def test_releases(tmp_path: Path, release: str, version: str, sources: str, suite: str | None) -> None:
    files = {"etc__debian_version": version, "var__lib__dpkg__status": "", "etc__apt__sources.list": sources}
    path = root(tmp_path / "root", **files)
    (path / "etc/os-release").write_text(release)
    found = examine(path, "x")
    assert (found.family, found.suite) == ("debian", suite)


def test_musl_with_a_static_shell(tmp_path: Path) -> None:
    path = root(tmp_path / "root")
    (path / "lib").mkdir()
    (path / "lib/ld-musl-armhf.so.1").touch()
    found = examine(path, "x")
    assert (found.libc, found.interpreter) == ("musl", "/lib/ld-musl-armhf.so.1")
    adapted = Imported("x", "", path, found, "", "").adapted(ARMHF)
    assert adapted.triplet == "arm-linux-musleabihf"
    assert adapted.elf.interpreter == "/lib/ld-musl-armhf.so.1"
    assert adapted.library_directory == "/usr/lib"
    assert adapted.identity == {}


def test_links_of_the_root_are_its_own(tmp_path: Path) -> None:
    path = root(tmp_path / "root")
    (path / "bin/sh").unlink()
    (path / "bin/sh").symlink_to("/bin/dash")
    with pytest.raises(UsageError, match="no /bin/sh"):
        examine(path, "x")
    shutil.copy(DATA / "armhf-static", path / "bin/dash")
    assert examine(path, "x").machine == "ARM"
