"""How a root looks up names: a layer over it, since a root may lack that, or mean another network."""

from __future__ import annotations

import shutil
from pathlib import Path

from xbuild.sandbox import idmap


def make_network(layer: Path, name: str | None = None) -> None:
    """Make the directory `layer` a layer for a root with network: how the machine looks up names.

    name: of the sandbox, if it shall be known as an address.
    """
    folder = layer / "etc"
    folder.mkdir(parents=True, exist_ok=True)
    for path in (layer, folder):
        # They are the root's own /, and /etc, for what looks at them.
        path.chmod(0o755)
        idmap.own(path)
    for file in ("hosts", "resolv.conf"):
        machine = Path("/etc", file)
        if machine.exists():
            shutil.copyfile(machine, folder / file)
            (folder / file).chmod(0o644)
    if name:
        with (folder / "hosts").open("a") as stream:
            stream.write(f"\n127.0.1.1 {name}\n")
