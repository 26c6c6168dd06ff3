"""Roots that the user brings: every form, and what is wrong with bad ones."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.integration.foreign_sources import DATA, ROOT, SHELL, Member, incremental, oci, rpi_tree, saved, special, tar
from xbuild.base import paths
from xbuild.base.errors import UsageError
from xbuild.model.load import load_toolchain
from xbuild.roots import imported as imported_roots
from xbuild.sandbox.run import machine_view, run
from xbuild.store.local import Store

pytestmark = pytest.mark.integration

TARGETS = [load_toolchain(name, paths.PACKAGE.parent) for name in ("armhf", "arm64", "amd64")]
ARMHF = TARGETS[0]
ARM_V7 = {"os": "linux", "architecture": "arm", "variant": "v7"}
ARM_64 = {"os": "linux", "architecture": "arm64"}


def brought(store: Store, source: Path, name: str = "tiny", **words: object) -> tuple[imported_roots.Imported, str]:
    """The imported root, and what was told."""
    root, remarks = imported_roots.import_root(store, name, source, TARGETS, **words)  # type: ignore[arg-type]
    return root, "\n".join(remarks)


def refused(store: Store, source: Path, name: str = "tiny", **words: object) -> str:
    """What is said of a source that is no root; nothing of it may stay."""
    with pytest.raises(UsageError) as caught:
        brought(store, source, name, **words)
    assert not list((store.root / "tmp").glob("*"))
    assert imported_roots.named(store) == []
    assert not list((store.root / "imported").glob("*"))
    return "\n".join([caught.value.message, *caught.value.details, caught.value.hint or ""])


def archive(folder: Path, *more: Member, root: Sequence[Member] = ROOT) -> Path:
    path = folder / "root.tar"
    path.write_bytes(tar(*root, *more))
    return path


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "tar": lambda data: data,
    "tar.gz": gzip.compress,
    "tar.bz2": bz2.compress,
    "tar.xz": lzma.compress,
    "tar.zst": lambda data: subprocess.run(["zstd", "-qc"], input=data, capture_output=True, check=True).stdout,
}


@pytest.mark.parametrize("ending", PACKED)
def test_tar_archives(store: Store, folder: Path, ending: str) -> None:
    path = folder / f"root.{ending}"
    path.write_bytes(PACKED[ending](tar(*ROOT)))
    root, _ = brought(store, path)
    assert (root.tree / "bin/sh").read_bytes() == SHELL
    assert (root.facts.distribution, root.facts.machine, root.facts.float_abi) == ("tiny", "ARM", "hard")
    assert [target.name for target in TARGETS if root.fits(target)] == ["armhf"]
    assert (root.tree / "etc/passwd").read_text().splitlines()[1].startswith("builder:x:1000:1000:")


@pytest.mark.parametrize("ending", PACKED)
def test_cut_and_corrupt_archives(store: Store, folder: Path, ending: str) -> None:
    noise = os.urandom(2_000_000)
    good = PACKED[ending](tar(*ROOT, ("noise", noise)))
    path = folder / f"root.{ending}"
    path.write_bytes(good[: len(good) // 2])
    assert "damaged" in refused(store, path)
    if ending != "tar":
        path.write_bytes(good[:1_500_000] + os.urandom(16) + good[1_500_016:])
        assert "damaged" in refused(store, path)


def test_archive_without_its_end(store: Store, folder: Path) -> None:
    path = folder / "root.tar"
    path.write_bytes(tar(*ROOT, ("last", b"x" * 512)).rstrip(b"\0"))
    assert "damaged" in refused(store, path)


def test_directories(store: Store, folder: Path) -> None:
    top = folder / "top"
    (top / "bin").mkdir(parents=True)
    (top / "bin/sh").write_bytes(SHELL)
    (top / "bin/two").hardlink_to(top / "bin/sh")
    (top / "link").symlink_to("/etc/shadow")
    os.mkfifo(top / "pipe")
    root, _ = brought(store, top)
    assert (root.tree / "bin/two").samefile(root.tree / "bin/sh")
    assert (root.tree / "link").readlink() == Path("/etc/shadow")
    assert (root.tree / "pipe").is_fifo()
    again, _ = brought(store, top, "other")
    assert again.key == root.key
    (top / "more").touch()
    with pytest.raises(UsageError, match="another root tiny"):
        brought(store, top)
    assert brought(store, top, replace=True)[0].key != root.key


def test_directory_of_other_users(store: Store, folder: Path) -> None:
    top = folder / "top"
    (top / "bin").mkdir(parents=True)
    (top / "bin/sh").write_bytes(SHELL)
    (top / "own").write_text("secret")
    run(machine_view(), ["sh", "-euc", 'chown 33:34 "$1"; chmod 600 "$1"', "sh", top / "own"])
    root, _ = brought(store, top)
    inside = machine_view()
    run(inside, ["sh", "-euc", 'test "$(stat -c "%u:%g:%a" "$1")" = 33:34:600', "sh", root.tree / "own"])


def test_names_that_lead_elsewhere(store: Store, folder: Path, tmp_path: Path) -> None:
    path = archive(
        folder,
        ("away", str(tmp_path)),
        ("away/written", b"x"),
        ("up", "../../../../../.."),
        ("up/tmp", None),
        ("up/tmp/written", b"x"),
        ("/absolute", b"x"),
    )
    # The kernel follows them inside the tree: there is no such directory, and nothing is made outside.
    assert "refused" in refused(store, path)
    assert not list(tmp_path.iterdir())
    upwards: tuple[Member, ...] = (("up", "../../.."), ("up/tmp", None), ("up/tmp/a", b"x"), ("/b", b"x"))
    root, told = brought(store, archive(folder, *upwards))
    assert (root.tree / "tmp/a").is_file()
    assert (root.tree / "b").is_file()
    assert "absolute names" in told
    assert not Path("/tmp/a").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("../outside", b"x"), "leads upwards"),
        (("a/../../b", b"x"), "leads upwards"),
        (special("hard", tarfile.LNKTYPE, "../../etc/passwd"), "leads upwards"),
        (special("hard", tarfile.LNKTYPE, "/nowhere"), "hard link"),
        (special("hard", tarfile.LNKTYPE, "bin"), "hard link"),
        (("bin/sh/below", b"x"), "bin/sh"),
        (("tmp", "/etc"), "/tmp is no directory"),
        (("usr", "/"), "/usr is a symbolic link"),
        (("var/lib/dpkg/status", "/etc/passwd"), "/var/lib/dpkg/status is a symbolic link"),
    ],
)
def test_refused_members(store: Store, folder: Path, more: Member, words: str) -> None:
    assert words in refused(store, archive(folder, more))


def test_devices_and_rights(store: Store, folder: Path) -> None:
    path = archive(
        folder,
        special("dev/sda", tarfile.BLKTYPE, devmajor=8),
        special("dev/null", tarfile.CHRTYPE, devmajor=1, devminor=3),
        special("pipe", tarfile.FIFOTYPE, mode=0o620),
        special("label", b"V"),
        special("bin/su", tarfile.REGTYPE, mode=0o4755, size=3),
        special("far", tarfile.REGTYPE, uid=4_000_000, size=1),
    )
    root, told = brought(store, path)
    assert list((root.tree / "dev").iterdir()) == []
    assert (root.tree / "bin/su").stat().st_mode & 0o7777 == 0o755
    assert (root.tree / "pipe").is_fifo()
    assert (root.tree / "pipe").stat().st_mode & 0o7777 == 0o620
    for words in ("/dev/sda", "set-user-id", "/bin/su", "owners"):
        assert words in told
    assert "label" not in told


def test_lost_attributes_are_told(store: Store, folder: Path) -> None:
    pax = {"SCHILY.xattr.security.capability": "x", "mtime": "1.5"}
    label = {"SCHILY.xattr.security.selinux": "x"}
    path = archive(
        folder,
        special("bin/ping", tarfile.REGTYPE, pax_headers=pax),
        special("bin/labelled", tarfile.REGTYPE, pax_headers=label),
    )
    told = brought(store, path)[1]
    assert "1 members have capabilities or other extended attributes, which are left out: /bin/ping" in told
    top = folder / "top"
    (top / "bin").mkdir(parents=True)
    (top / "bin/sh").write_bytes(SHELL)
    assert "attributes" not in brought(store, top, "plain")[1]
    os.setxattr(top / "bin/sh", "user.mark", b"x")
    told = brought(store, top, replace=True)[1]
    assert "1 members have capabilities or other extended attributes, which are left out: bin/sh" in told


def test_incremental_archives(store: Store, folder: Path) -> None:
    """GNU tar has times where others have the beginning of a name, and a kind of its own for directories."""
    path = folder / "root.tar"
    path.write_bytes(incremental(("./", None), ("./bin/", None), ("./bin/sh", SHELL), ("./bin/ls", "sh")))
    root, told = brought(store, path)
    assert (root.tree / "bin/ls").read_bytes() == SHELL
    assert (root.tree / "bin").stat().st_mode & 0o7777 == 0o751
    assert told == ""


def test_volumes(store: Store, folder: Path) -> None:
    assert "one volume of several" in refused(store, archive(folder, special("rest", b"M")))


def test_incremental_archives_of_tar_itself(store: Store, folder: Path) -> None:
    tree = rpi_tree(folder)
    command = ["tar", "-C", str(tree), f"--listed-incremental={folder}/snapshot", "-cf", f"{folder}/root.tar", "."]
    subprocess.run(command, check=True)
    root, _ = brought(store, folder / "root.tar")
    assert (root.tree / "usr/bin/two").samefile(root.tree / "usr/bin/sh")
    assert sorted(path.name for path in (root.tree / "usr").iterdir()) == ["bin"]


@pytest.mark.parametrize(
    ("links", "shell"),
    [
        ((("./usr/bin", "/bin"),), "./bin/sh"),
        ((("./usr/bin", "../bin"),), "./bin/sh"),
        ((("./bin", "usr/bin"), ("./usr/sbin", "bin"), ("./sbin", "usr/sbin")), "./usr/bin/sh"),
        ((("./usr/bin", "../../../../../bin"),), "./bin/sh"),
    ],
)
def test_links_to_directories(store: Store, folder: Path, links: Sequence[Member], shell: str) -> None:
    path = archive(folder, root=(("./usr", None), *links, (shell, SHELL)))
    root, _ = brought(store, path)
    for name in ("bin", "usr/bin", "usr/sbin", "sbin"):
        place = root.tree / name
        if place.is_symlink():
            assert place.resolve().is_relative_to(root.tree.resolve())
            assert (place / "sh").read_bytes() == SHELL


def test_pipes_in_the_place_of_files(store: Store, folder: Path) -> None:
    """Whoever reads such a root must not wait for a writer."""
    for name in ("./var/lib/dpkg/status", "./lib/apk/db/installed"):
        assert "xbuild needs a file there" in refused(store, archive(folder, special(name, tarfile.FIFOTYPE)))
    shell = special("./bin/sh", tarfile.FIFOTYPE, mode=0o755)
    assert "it has no /bin/sh" in refused(store, archive(folder, root=(shell,)))
    path = archive(folder, special("./etc/os-release", tarfile.FIFOTYPE), root=(ROOT[0], ROOT[1]))
    assert brought(store, path)[0].facts.distribution == "unknown"


@pytest.mark.parametrize(
    ("shell", "words"),
    [
        ("armel.o", "ARM, 32 bit, soft float"),
        ("armhf-pie", "asks for the loader /lib/ld-linux-armhf.so.3, which is missing"),
        ("make.sh", "not an ELF file"),
    ],
)
def test_shells_of_no_target(store: Store, folder: Path, shell: str, words: str) -> None:
    path = archive(folder, root=[("bin/sh", (DATA / shell).read_bytes())])
    assert words in refused(store, path)


def test_no_shell(store: Store, folder: Path) -> None:
    assert "no /bin/sh" in refused(store, archive(folder, root=[("etc/passwd", b"x")]))
    assert "no /bin/sh" in refused(store, archive(folder, root=[("bin/sh", "sh")]))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "it is empty"),
        (b"PK\x03\x04" + bytes(600), "zip"),
        (b"hsqs" + bytes(600), "squashfs"),
        (b"QFI\xfb" + bytes(600), "qcow2"),
        (SHELL, "a program"),
        (b"some text\n" * 100, "neither"),
        (bytes(10240), "no /bin/sh"),
    ],
)
def test_what_is_no_source(store: Store, folder: Path, data: bytes, words: str) -> None:
    path = folder / "what"
    path.write_bytes(data)
    assert words in refused(store, path)


def test_missing_and_unreadable_sources(store: Store, folder: Path) -> None:
    assert "no such file" in refused(store, folder / "nothing")
    path = archive(folder)
    if os.geteuid():
        path.chmod(0)
        assert "may not read" in refused(store, path)


LAYERS = (
    tar(*ROOT, ("opt/a", b"1"), ("opt/b", b"1"), ("srv/x/y", b"1"), ("lib", "usr/lib"), ("usr/lib", None)),
    gzip.compress(tar(("opt/.wh.a", b""), ("srv/x/new", b"2"), ("srv/x/.wh..wh..opq", b""), ("lib/deep", b"2"))),
)


def layered(root: imported_roots.Imported) -> dict[str, bool]:
    """Which files are there."""
    names = ("opt/a", "opt/b", "srv/x/y", "srv/x/new", "usr/lib/deep", "srv/x/.wh..wh..opq")
    return {name: (root.tree / name).exists() for name in names}


MERGED = {"opt/a": False, "opt/b": True, "srv/x/y": False, "srv/x/new": True, "usr/lib/deep": True,
          "srv/x/.wh..wh..opq": False}  # fmt: skip


def test_container_images(store: Store, folder: Path) -> None:
    layout = oci(folder / "oci", [(ARM_V7, LAYERS)])
    assert layered(brought(store, layout)[0]) == MERGED
    packed = folder / "oci.tar"
    with tarfile.open(packed, "w") as tar_file:
        tar_file.add(layout, arcname=".")
    assert layered(brought(store, packed, "packed")[0]) == MERGED
    old = folder / "saved.tar"
    old.write_bytes(saved(LAYERS))
    assert layered(brought(store, old, "saved")[0]) == MERGED


def test_images_for_several_platforms(store: Store, folder: Path) -> None:
    other = tar(("bin/sh", (DATA / "arm64-static").read_bytes()))
    layout = oci(folder / "oci", [(ARM_64, [other]), (ARM_V7, LAYERS), ({"architecture": "unknown"}, [b"x"])])
    assert "linux/arm64, linux/arm/v7" in refused(store, layout)
    assert "no image for amd64" in refused(store, layout, target=TARGETS[2])
    assert brought(store, layout, target=ARMHF)[0].facts.machine == "ARM"
    assert brought(store, layout, "two", target=TARGETS[1])[0].facts.machine == "AARCH64"


def test_damaged_images(store: Store, folder: Path) -> None:
    layout = oci(folder / "oci", [(ARM_V7, LAYERS)])
    blobs = layout / "blobs/sha256"
    biggest = max(blobs.iterdir(), key=lambda path: path.stat().st_size)
    kept = biggest.read_bytes()
    biggest.write_bytes(b"x" + kept[1:])
    assert "another digest" in refused(store, layout)
    biggest.unlink()
    assert "missing" in refused(store, layout)
    biggest.symlink_to("/etc/passwd")
    assert "leads out" in refused(store, layout)
    (layout / "index.json").write_text("{}")
    assert "not an image as it should be" in refused(store, layout)


def test_names_and_removal(store: Store, folder: Path) -> None:
    root, _ = brought(store, archive(folder))
    brought(store, archive(folder), "second")
    assert [known.name for known in imported_roots.named(store)] == ["second", "tiny"]
    assert imported_roots.find(store, "tiny", TARGETS, ARMHF).key == root.key
    with pytest.raises(UsageError, match="did you mean 'tiny'"):
        imported_roots.find(store, "tinyy", TARGETS, ARMHF)
    with pytest.raises(UsageError, match="is ARM, 32 bit, hard float, and arm64 is AARCH64"):
        imported_roots.find(store, "tiny", TARGETS, TARGETS[1])
    assert imported_roots.find(store, str(archive(folder)), TARGETS, ARMHF).key == root.key
    imported_roots.remove(store, "second")
    assert root.tree.exists()
    imported_roots.remove(store, "tiny")
    assert not root.tree.exists()
    with pytest.raises(UsageError, match="there is no root"):
        imported_roots.remove(store, "tiny")


@pytest.mark.parametrize("name", ["", "A", "../x", "a/b", ".x"])
def test_names_that_are_none(store: Store, folder: Path, name: str) -> None:
    assert "no name for a root" in refused(store, archive(folder), name=name)
