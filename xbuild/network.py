"""How a root looks up names: a layer over it, since a root may lack that, or mean another network."""

from __future__ import annotations

from pathlib import Path

from xbuild.sandbox.run import remove_tree

_FILES = ("hosts", "resolv.conf")


def make_network(layer: Path, name: str | None = None) -> bool:
    """Make the directory `layer` a layer for a root with network: how the machine looks up names; False if it is one.

    name: of the sandbox, if it shall be known as an address. What is made, `layer_of` it, is for root inside to own.
    """
    wanted = {file: Path("/etc", file).read_bytes() for file in _FILES if Path("/etc", file).exists()}
    if name:
        wanted["hosts"] = wanted.get("hosts", b"") + f"\n127.0.1.1 {name}\n".encode()
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
