"""How a root looks up names: a layer over it, since a root may lack that, or mean another network."""

from __future__ import annotations

import os
from pathlib import Path

from xbuild.sandbox.run import remove_tree

_FILES = ("hosts", "resolv.conf")

NAME = "xbuild"
"""What the machine is called inside of a build, and in roots that are being made."""

_LOOPBACK = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"
"""What a Debian system's /etc/hosts begins with. A root has it only if the package netbase is in it."""


def names_text(name: str = NAME, known: str = "") -> str:
    """The text of a file /etc/hosts in which localhost and `name` are this machine.

    known: what another one has, which comes first.
    """
    words = {word for line in known.splitlines() for word in line.partition("#")[0].split()[1:]}
    begin = "" if "localhost" in words else _LOOPBACK
    # Debian's way for a machine's own name (Debian reference, 5.1.1).
    return f"{(begin + known).rstrip()}\n127.0.1.1 {name}\n"


def make_network(layer: Path, name: str = NAME, *, network: bool = True) -> bool:
    """Make the directory `layer` a layer for a root: how names are looked up; False if it is one already.

    name: of the sandbox. network: as the machine looks names up; else only the loopback has one. What is made,
    `layer_of` it, is for root inside to own.
    """
    machine = {file: Path("/etc", file).read_bytes() for file in _FILES if network and Path("/etc", file).exists()}
    known = os.fsdecode(machine.get("hosts", b""))
    wanted = {**machine, "hosts": os.fsencode(names_text(name, known))}
    folder = layer / "etc"
    if folder.is_dir() and {file.name: file.read_bytes() for file in folder.iterdir()} == wanted:
        return False
    remove_tree(layer)
    folder.mkdir(parents=True)
    for place in (layer, folder):
        place.chmod(0o755)
    for file, data in wanted.items():
        (folder / file).write_bytes(data)
        (folder / file).chmod(0o644)
    return True


def layer_of(layer: Path) -> list[Path]:
    """All that is in the layer."""
    return [layer, layer / "etc", *(layer / "etc").iterdir()]
