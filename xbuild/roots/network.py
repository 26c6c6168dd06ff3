"""How a root looks up names: a layer over it, since a root may lack that, or mean another network."""

from __future__ import annotations

import os
from collections.abc import Mapping
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


def make_network(
    layer: Path, name: str = NAME, *, network: bool = True, more: Mapping[str, bytes] | None = None
) -> bool:
    """Make the directory `layer` a layer for a root: how names are looked up; False if it is one already.

    name: of the sandbox. network: as the machine looks names up; else only the loopback has one. more: further files of
    the layer, by their paths inside. What is made, `layer_of` it, is for root inside to own.
    """
    machine = {f"/etc/{file}": Path("/etc", file).read_bytes() for file in _FILES if network and _there(file)}
    known = os.fsdecode(machine.get("/etc/hosts", b""))
    wanted = {**machine, "/etc/hosts": os.fsencode(names_text(name, known)), **(more or {})}
    files = [path for path in layer.rglob("*") if path.is_file()]
    if {f"/{path.relative_to(layer)}": path.read_bytes() for path in files} == wanted:
        return False
    remove_tree(layer)
    for file, data in wanted.items():
        path = layer / file[1:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    for path in layer_of(layer):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return True


def _there(file: str) -> bool:
    return Path("/etc", file).exists()


def layer_of(layer: Path) -> list[Path]:
    """All that is in the layer."""
    return [layer, *layer.rglob("*")]
