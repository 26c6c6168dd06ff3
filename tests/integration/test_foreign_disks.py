"""Disk images as roots: with a table and without, with all that a file system may keep files in."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.integration.foreign_sources import SHELL, disk, file_system, rpi_tree
from tests.integration.test_foreign_roots import PACKED, brought, refused
from xbuild.sandbox.run import remove_tree
from xbuild.store.local import Store

pytestmark = pytest.mark.integration


def test_disk_images(store: Store, folder: Path) -> None:
    image = disk(folder / "disk.img", rpi_tree(folder))
    root, told = brought(store, image)
    assert "partition 2 (ext4)" in told
    assert (root.tree / "pipe").is_fifo()
    assert (root.tree / "usr/bin/two").samefile(root.tree / "usr/bin/sh")
    assert (root.tree / "usr/bin/su").stat().st_mode & 0o7777 == 0o755
    assert (root.tree / 'a "quoted" name').read_text() == "x"
    for ending in ("xz", "zst"):
        packed = folder / f"disk.img.{ending}"
        packed.write_bytes(PACKED[f"tar.{ending}"](image.read_bytes()))
        assert (brought(store, packed, ending)[0].tree / "bin/sh").read_bytes() == SHELL


FEATURES = {
    "ext4": (),
    "ext3": (),
    "ext2": (),
    "inline": ("inline_data", "64bit", "metadata_csum"),
    "bigalloc": ("^has_journal", "bigalloc"),
    "big inodes": ("inline_data", "ea_inode", "casefold", "verity"),
}


@pytest.mark.parametrize("name", FEATURES)
def test_images_without_a_table(store: Store, folder: Path, name: str) -> None:
    """Whatever the file system keeps files in, they come over whole."""
    tree = rpi_tree(folder)
    sizes = (0, 1, 59, 60, 61, 100, 160, 5000)
    texts = {str(size): (bytes(range(256)) * 20)[:size] for size in sizes}
    (tree / "few").mkdir()
    for file, text in texts.items():
        (tree / "few" / file).write_bytes(text)
    with (tree / "hole").open("wb") as stream:
        stream.truncate(5 << 20)
    (tree / "long").symlink_to("x" * 100)
    kind = name if name.startswith("ext") else "ext4"
    root, told = brought(store, file_system(folder / "disk.img", tree, *FEATURES[name], kind=kind))
    assert f"the whole image ({kind})" in told
    assert {file: (root.tree / "few" / file).read_bytes() for file in texts} == texts
    assert (root.tree / "hole").read_bytes() == bytes(5 << 20)
    assert str((root.tree / "long").readlink()) == "x" * 100
    assert (root.tree / "bin/two").read_bytes() == SHELL


def changed(image: Path, *commands: str) -> Path:
    """`image`, after debugfs has written to it."""
    for command in commands:
        subprocess.run(["/sbin/debugfs", "-w", "-R", command, image], check=True, capture_output=True)
    return image


def test_files_that_debugfs_cannot_read(store: Store, folder: Path) -> None:
    tree = rpi_tree(folder)
    (tree / "text").write_text("text" * 5000)
    image = file_system(folder / "disk.img", tree)
    # A directory whose entry for a file tells an inode that is none.
    assert refused(store, changed(image, "clri /text"))
    image = file_system(folder / "two.img", tree, "encrypt")
    assert brought(store, image)[0].facts.machine == "ARM"
    said = refused(Store(folder / "other", remove_tree), changed(image, "set_inode_field /text flags 0x80800"))
    assert "/text is encrypted" in said
    (tree / "two\nlines").write_text("x")
    said = refused(Store(folder / "third", remove_tree), file_system(folder / "three.img", tree))
    assert "'two\\nlines' has several lines" in said


def test_disk_images_without_a_root(store: Store, folder: Path) -> None:
    tree = rpi_tree(folder)
    assert "behind the end of the image" in refused(store, disk(folder / "cut.img", tree, cut=1 << 20))
    image = disk(folder / "disk.img", tree)
    assert "no partition 7" in refused(store, image, partition=7)
    data = bytearray(image.read_bytes())
    start = 4096 * 512
    # A LUKS header in the place of the file system (LUKS2 on-disk format, 2.1).
    luks = b"LUKS\xba\xbe\x00\x01" + bytes(600)
    image.write_bytes(bytes(data[:start]) + luks + bytes(len(data) - start - len(luks)))
    assert "encrypted" in refused(store, image)
    image.write_bytes(bytes(data[:start]) + bytes(len(data) - start))
    assert "no file system that blkid knows" in refused(store, image)
    image.write_bytes(bytes(446) + b"\xff" * 64 + b"\x55\xaa" + bytes(1 << 20))
    assert "partition" in refused(store, image)
    # The inode table of the first group, all ones.
    data[start + 1024 * 60 : start + 1024 * 400] = b"\xff" * (1024 * 340)
    image.write_bytes(bytes(data))
    assert refused(store, image)
