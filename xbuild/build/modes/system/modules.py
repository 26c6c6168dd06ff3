"""Which modules of a kernel have to be loaded for what the machine needs, and in which order."""

from __future__ import annotations

import io
import lzma
from pathlib import Path

from xbuild.base.errors import MachineError
from xbuild.formats.elf import elf_file, parse_errors

NEEDED = ("virtio_mmio", "virtio_blk", "virtio_console", "ext4", "overlay")
"""What init.c cannot do without: disks and ports, and the two file systems."""

WELCOME = ("crc32c_generic",)
"""What ext4 asks for by an alias, which is no dependency, in kernels that have it (up to 6.14)."""


def load_order(tree: Path, wanted: tuple[str, ...] = NEEDED) -> dict[str, bytes]:
    """The modules to load for `wanted`, in order, as name and contents; what is built into the kernel is left out.

    tree: a directory lib/modules/RELEASE. Raises MachineError if the kernel has one of them in no form.
    """
    builtin = {_plain(Path(line).name) for line in (tree / "modules.builtin").read_text().split()}
    files = {_plain(path.name): path for path in tree.rglob("*.ko*")}
    found: dict[str, bytes] = {}

    def add(name: str) -> None:
        if name in found or name in builtin:
            return
        if name not in files:
            raise MachineError(f"the kernel {tree.name} has no module {name}", hint="name another kernel-package")
        data = contents(files[name])
        before, optional = dependencies(data)
        for other in before:
            add(other)
        for other in optional:
            # What only speeds things up may be missing.
            if other in files:
                add(other)
        found[name] = data

    for name in (*(name for name in WELCOME if name in files), *wanted):
        add(_plain(name))
    return found


def contents(path: Path) -> bytes:
    """The ELF file that the module file `path` holds: as it is, or packed by xz."""
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


def dependencies(module: bytes) -> tuple[list[str], list[str]]:
    """Modules that must be loaded before `module`, and those that should be where they exist (modinfo(8))."""
    try:
        section = elf_file(io.BytesIO(module)).get_section_by_name(".modinfo")
    except parse_errors() as error:
        raise MachineError(f"a module of the kernel is no ELF file: {error}", hint="invoke clean --roots") from error
    lines = section.data().decode(errors="replace").split("\0") if section else []
    fields = [line.partition("=") for line in lines]
    needed = [name for key, _, value in fields if key == "depends" for name in value.split(",") if name]
    before = [value.partition("pre:")[2] for key, _, value in fields if key == "softdep" and "pre:" in value]
    optional = [name for text in before for name in text.partition("post:")[0].split()]
    return [_plain(name) for name in needed], [_plain(name) for name in optional]


def _plain(name: str) -> str:
    """The module's name as the kernel has it: crc32c_generic for crc32c-generic.ko.xz."""
    return name.partition(".ko")[0].replace("-", "_")
