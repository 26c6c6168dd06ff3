"""What an emulated machine is made from, kept in the store: the emulator, the kernel, the disk with the target root."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xbuild.base import log
from xbuild.base.digest import file_sha256, json_contents, key_of
from xbuild.base.errors import MachineError, UsageError
from xbuild.build.modes.system import cpio, modules
from xbuild.formats.debian import Tree
from xbuild.model.toolchain import MachineSpec, Toolchain
from xbuild.roots.distribution import Roots
from xbuild.roots.network import layer_of, make_network, names_text
from xbuild.roots.resolve import Question
from xbuild.sandbox.mounts import Bind
from xbuild.sandbox.run import give_tree, take_back
from xbuild.sandbox.view import laid
from xbuild.twins.privatetree import WORKPLACE, run_script

KIND = "machines"
"""The store's kind of entry for kernels and disks; the emulator is a root."""

TOOLS = ("base-files", "coreutils", "dash", "e2fsprogs", "tar")
"""What works on disks, beside the emulator, in its root."""

MKFS = "mke2fs -q -t ext4 -m 0 -O ^has_journal,^metadata_csum,^resize_inode -E lazy_itable_init=1,nodiscard"
"""File systems that need not survive a crash, and take no room for what they do not hold."""

_KERNEL = r"linux-image-[0-9].*"
_INIT = tuple(Path(__file__).with_name(name) for name in ("init.c", "init.h"))
_MAKERS = (*_INIT, Path(cpio.__file__), Path(modules.__file__), Path(__file__))
_COMPILE = """
"$TRIPLET-gcc" -std=gnu11 -O2 -Wall -Wextra -Werror -static -o init init.c
"$TRIPLET-strip" init
"""
# Room for what the file system itself needs: a block for the end of each file, its inode, and some more.
_MAKE_DISK = f"""
count=$(du --inodes -s /tmp/tree | cut -f 1)
size=$(du --apparent-size -sk /tmp/tree | cut -f 1)
{MKFS} -N $((count + count / 10 + 1000)) -d /tmp/tree /tmp/made/root.img $((size + count * 5 + 65536))k
chmod 644 /tmp/made/root.img
"""


@dataclass(frozen=True)
class Kernel:
    """vmlinuz, initrd: files outside. modules: paths in the machine, in the order of loading. package: with version."""

    vmlinuz: Path
    initrd: Path
    modules: tuple[str, ...]
    package: str


class Parts:
    """Makes and finds the parts of the machine for the target of `roots`. Raises UsageError if it has none."""

    def __init__(self, roots: Roots) -> None:
        self.roots = roots
        self.toolchain = roots.toolchain
        if self.toolchain.system is None:
            raise UsageError(
                f"mode system: the target {self.toolchain.name} has no machine to emulate",
                hint=f"`system` in toolchains/{self.toolchain.name}.yml describes one",
            )
        self.system: MachineSpec = self.toolchain.system

    def emulator_value(self) -> dict[str, Any]:
        """What determines the emulator's root."""
        return self.roots.machine_value([self.system.package, *TOOLS])

    def kernel_value(self) -> dict[str, Any]:
        """What determines the kernel."""
        return {
            "what": "kernel",
            "package": dict(self.roots.resolver.packages(self._kernel_question())),
            "base": self.roots.base_value(),
            "makers": {file.name: file_sha256(file) for file in _MAKERS},
        }

    def _kernel_question(self) -> Question:
        return self.roots.package_question(self.system.kernel_package, _KERNEL)

    def emulator(self) -> Path:
        """The emulator's root, outside; made if it is not there."""
        return self.roots.machine_root([self.system.package, *TOOLS])

    def kernel(self) -> Kernel:
        """The kernel with its first file system; made if it is not there."""

        def make(staging: Path) -> None:
            with log.step(f"kernel: {self.system.kernel_package}"):
                self._make_kernel(staging)

        place = self.roots.store.ensure(KIND, self.kernel_value(), f"the kernel for {self.toolchain.name}", make)
        known = json_contents(place / "kernel.json")
        return Kernel(place / "vmlinuz", place / "initrd", tuple(known["modules"]), known["package"])

    def inputs(self) -> dict[str, str]:
        """What of the machine determines a build's result."""
        return {
            "machine": f"{self.system.machine} {self.system.cpu}",
            "emulator of machines": key_of(self.emulator_value()),
            "kernel": " ".join(f"{name} {text.split()[0]}" for name, text in self.kernel_value()["package"].items()),
        }

    def disk(self, layers: Sequence[Path], value: Mapping[str, Any]) -> Path:
        """The file outside with `layers`, topmost first, as an ext4 file system whose /root they are.

        value: what determines them. The same made anew may have newer packages, so those count too.
        """
        status = Tree(layers).find("/var/lib/dpkg/status")
        known = {
            "what": "disk",
            "root": dict(value),
            "packages": file_sha256(status) if status else None,
            "script": _MAKE_DISK,
            "names": names_text(),
        }

        def make(staging: Path) -> None:
            names = staging / "loopback"
            make_network(names, network=False)
            give_tree(0, tops=[*layer_of(names), staging])
            shown = (laid((names, *layers), "/tmp/tree/root"), Bind(str(staging), "/tmp/made"))
            with log.step("disk of the target root"):
                run_script(self.emulator(), shown, _MAKE_DISK, {}, "the disk could not be made")
            take_back(staging)
            self.roots.store.discard(names)

        place = self.roots.store.ensure(KIND, known, f"the disk for {self.toolchain.name}", make)
        return place / "root.img"

    def _make_kernel(self, staging: Path) -> None:
        folder = self.roots.unpack(staging, self._kernel_question())
        images = sorted((folder / "boot").glob("vmlinu[xz]-*"))
        trees = [path.parent for path in folder.glob("**/modules.builtin")]
        if not images or not trees:
            hint = f"kernel-package in toolchains/{self.toolchain.name}.yml is to name a kernel, or what depends on one"
            raise MachineError(f"the package {self.system.kernel_package} has no kernel", hint=hint)
        found = modules.load_order(trees[0])
        files = {f"modules/{name}.ko": data for name, data in found.items()}
        files["init"] = _compiled(self.roots, self.toolchain, staging)
        (staging / "initrd").write_bytes(cpio.archive(files, programs=frozenset({"init"})))
        shutil.copyfile(images[0], staging / "vmlinuz")
        known = {"package": (folder / "version").read_text(), "modules": [f"/modules/{name}.ko" for name in found]}
        (staging / "kernel.json").write_text(json.dumps(known))
        for name in ("vmlinuz", "initrd"):
            (staging / name).chmod(0o644)
        for name in ("package", "upper", "made"):
            self.roots.store.discard(staging / name)


def _compiled(roots: Roots, toolchain: Toolchain, staging: Path) -> bytes:
    """init.c, compiled for the target and stripped; it needs no library."""
    made = staging / "made"
    made.mkdir()
    for file in _INIT:
        shutil.copyfile(file, made / file.name)
    give_tree(0, [made])
    native = roots.natives().tree
    script, env = f"cd {WORKPLACE}\n{_COMPILE}", {"TRIPLET": toolchain.triplet}
    run_script(native, (Bind(str(made), WORKPLACE),), script, env, "init.c could not be compiled")
    return (made / "init").read_bytes()


__all__ = ["KIND", "MKFS", "TOOLS", "Kernel", "Parts"]
