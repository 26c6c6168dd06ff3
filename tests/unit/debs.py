""".deb files made by hand, also such as dpkg-deb would not make."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    ".gz": lambda data: gzip.compress(data, mtime=0),
    ".xz": lzma.compress,
    ".bz2": bz2.compress,
}
TIME = 1_750_000_000
FIELDS = {"Package": "tool", "Source": "tools (1.0-2)", "Version": "1.0-2", "Architecture": "armhf"}


@dataclass(frozen=True)
class Node:
    """A member of data.tar: a file with `data`, or a link to `target`."""

    data: bytes = b""
    target: str = ""
    mode: int = 0o644
    kind: bytes = tarfile.REGTYPE
    mtime: int = TIME
    pax: Mapping[str, str] = field(default_factory=dict)


def tar(nodes: Sequence[tuple[str, Node]]) -> bytes:
    """A tar file with these names as they are."""
    stream = io.BytesIO()
    made = any(node.pax for _, node in nodes)
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT if made else tarfile.GNU_FORMAT) as out:
        for name, node in nodes:
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.mtime, info.linkname = node.kind, node.mode, node.mtime, node.target
            info.uname = info.gname = "root"
            info.size = len(node.data)
            info.pax_headers = dict(node.pax)
            out.addfile(info, io.BytesIO(node.data))
    return stream.getvalue()


def ar(members: Sequence[tuple[str, bytes]]) -> bytes:
    """As ar(5) has it."""
    made = b"!<arch>\n"
    for name, data in members:
        made += f"{name:<16}{TIME:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode()
        made += data + b"\n" * (len(data) % 2)
    return made


def control(fields: Mapping[str, str], scripts: Mapping[str, str] | None = None) -> bytes:
    """A control.tar."""
    text = "".join(f"{name}: {value}\n" for name, value in fields.items())
    nodes = [("./", Node(kind=tarfile.DIRTYPE, mode=0o755)), ("./control", Node(text.encode()))]
    nodes += [(f"./{name}", Node(script.encode(), mode=0o755)) for name, script in (scripts or {}).items()]
    return tar(nodes)


def deb(
    path: Path,
    files: Mapping[str, bytes | Node] | None = None,
    *,
    fields: Mapping[str, str] | None = None,
    scripts: Mapping[str, str] | None = None,
    kind: str = ".xz",
) -> Path:
    """Write a .deb file: files by path, with the directories above them."""
    folders = sorted({str(parent) for name in files or {} for parent in Path(name).parents} - {"."})
    nodes = [("./", Node(kind=tarfile.DIRTYPE, mode=0o755))]
    nodes += [(f"./{name}/", Node(kind=tarfile.DIRTYPE, mode=0o755)) for name in folders]
    nodes += [
        (f"./{name}", node if isinstance(node, Node) else Node(node, mode=0o755 if "bin/" in name else 0o644))
        for name, node in (files or {}).items()
    ]
    parts = [
        ("debian-binary", b"2.0\n"),
        (f"control.tar{kind}", COMPRESS[kind](control(FIELDS | dict(fields or {}), scripts))),
        (f"data.tar{kind}", COMPRESS[kind](tar(nodes))),
    ]
    path.write_bytes(ar(parts))
    return path
