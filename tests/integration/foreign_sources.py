"""Small roots in all the forms that people bring them in: made here, byte by byte where no tool makes a bad one."""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[1] / "unit/data"
SHELL = (DATA / "armhf-static").read_bytes()

Member = tuple[str, Any]
"""A name, and bytes for a file, text for a symbolic link, None for a directory, or a whole TarInfo."""


def special(name: str, kind: bytes, link: str = "", **fields: Any) -> Member:
    """A member of any kind."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    for field, value in fields.items():
        setattr(info, field, value)
    return name, info


def tar(*members: Member, mode: int = 0o755) -> bytes:
    """A tar archive of `members`."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w:") as archive:
        for name, what in members:
            if isinstance(what, tarfile.TarInfo):
                archive.addfile(what, io.BytesIO(b"x" * what.size))
                continue
            info = tarfile.TarInfo(name)
            info.mode, info.mtime = mode, 1_000_000_000
            if isinstance(what, bytes):
                info.size = len(what)
                archive.addfile(info, io.BytesIO(what))
                continue
            info.type = tarfile.DIRTYPE if what is None else tarfile.SYMTYPE
            info.linkname = what or ""
            archive.addfile(info)
    return output.getvalue()


ROOT: tuple[Member, ...] = (
    ("./bin", None),
    ("./bin/sh", SHELL),
    ("./etc/os-release", b'ID=tiny\nPRETTY_NAME="Tiny 1"\n'),
    ("./etc/passwd", b"root:x:0:0::/root:/bin/sh"),
)
"""The smallest root."""


def blob(folder: Path, data: bytes) -> str:
    """Put `data` into an OCI layout; gives its digest."""
    name = hashlib.sha256(data).hexdigest()
    path = folder / "blobs/sha256" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return f"sha256:{name}"


def oci(folder: Path, images: Sequence[tuple[dict[str, str], Sequence[bytes]]]) -> Path:
    """An OCI layout in `folder`: one image a platform, of these layers."""
    manifests = []
    for platform, layers in images:
        config = blob(folder, json.dumps(platform).encode())
        manifest = {
            "schemaVersion": 2,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 1},
            "layers": [{"digest": blob(folder, layer), "size": len(layer)} for layer in layers],
        }
        digest = blob(folder, json.dumps(manifest).encode())
        entry = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 1}
        manifests.append({**entry, "platform": platform})
    index = {"schemaVersion": 2, "manifests": manifests}
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (folder / "index.json").write_text(json.dumps(index))
    return folder


def saved(layers: Sequence[bytes], architecture: str = "arm") -> bytes:
    """What `docker save` wrote before it wrote OCI layouts; the first layer also by a link."""
    names = [f"{number}/layer.tar" for number in range(len(layers))]
    manifest = [{"Config": "config.json", "RepoTags": ["a:b"], "Layers": ["first", *names[1:]]}]
    config = {"architecture": architecture, "os": "linux"}
    files = [(name, layer) for name, layer in zip(names, layers, strict=True)]
    written = [("manifest.json", json.dumps(manifest).encode()), ("config.json", json.dumps(config).encode())]
    return tar(*files, ("first", names[0]), *written, mode=0o644)


def partition(kind: int, start: int, sectors: int) -> bytes:
    """An entry of a partition table of the old kind (UEFI specification, 5.2.1); start and size in sectors."""
    return struct.pack("<B3sB3sII", 0, b"\0\0\0", kind, b"\0\0\0", start, sectors)


def disk(path: Path, tree: Path, *, kind: int = 0x83, cut: int = 0) -> Path:
    """A disk image as of Raspberry Pi OS: a boot partition, and an ext4 partition with the files of `tree`."""
    start, sectors = 4096, 16384
    entries = partition(0x0C, 2048, 2048) + partition(kind, start, sectors)
    table = bytes(446) + entries.ljust(64, b"\0") + b"\x55\xaa"
    path.write_bytes(table)
    with path.open("r+b") as stream:
        stream.truncate((start + sectors) * 512)
    words = ["-q", "-t", "ext4", "-d", str(tree), "-E", f"offset={start * 512}", str(path), f"{sectors // 2}k"]
    subprocess.run(["/sbin/mke2fs", *words], check=True, capture_output=True)
    if cut:
        with path.open("r+b") as stream:
            stream.truncate((start + sectors) * 512 - cut)
    return path


def file_system(path: Path, tree: Path, *features: str, kind: str = "ext4", size: int = 8 << 20) -> Path:
    """An image that is one file system with the files of `tree`, and no partition table."""
    with path.open("wb") as stream:
        stream.truncate(size)
    words = ["-q", "-F", "-t", kind, "-O", ",".join(features) or "filetype", "-d", str(tree), str(path)]
    subprocess.run(["/sbin/mke2fs", *words], check=True, capture_output=True)
    return path


def incremental(*members: Member) -> bytes:
    """`members` as GNU tar writes them with `--listed-incremental`: with times, and with names in directories."""
    output = bytearray()
    for name, what in members:
        info = tarfile.TarInfo(name)
        data = what if isinstance(what, bytes) else b"Yfile\0\0" if what is None else b""
        info.mode, info.size = 0o751 if what is None else 0o755, len(data)
        if isinstance(what, str):
            info.type, info.linkname = tarfile.SYMTYPE, what
        header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
        header[345:369] = b"14520000000\x0014520000000\x00"
        if what is None:
            header[156:157] = b"D"
        # The sum is taken with blanks in its own place (tar(5)).
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        output += header + data.ljust(-(-len(data) // 512) * 512, b"\0")
    return bytes(output) + bytes(10240)


def rpi_tree(folder: Path) -> Path:
    """A small root as a distribution has it, in the directory `folder`."""
    tree = folder / "tree"
    (tree / "usr/bin").mkdir(parents=True)
    (tree / "bin").symlink_to("usr/bin")
    (tree / "usr/bin/sh").write_bytes(SHELL)
    (tree / "usr/bin/two").hardlink_to(tree / "usr/bin/sh")
    (tree / "usr/bin/su").write_bytes(b"x")
    (tree / "usr/bin/su").chmod(0o4755)
    (tree / 'a "quoted" name').write_text("x")
    os.mkfifo(tree / "pipe")
    return tree
