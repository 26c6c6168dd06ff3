"""Makes the private directory: every native file that a target root gets to see, and the program that chooses."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from xbuild import paths, twins
from xbuild.debian import Tree
from xbuild.elf import read_elf
from xbuild.errors import MachineError
from xbuild.model.policy import Policy
from xbuild.model.toolchain import Toolchain
from xbuild.sandbox import idmap
from xbuild.sandbox import run as sandboxes
from xbuild.sandbox.mounts import Bind, Devices, Overlay, Proc, Tmpfs
from xbuild.twins import SHIM, Twin

NATIVE_TRIPLETS = {"amd64": "x86_64-linux-gnu", "i386": "i386-linux-gnu"}
WORKPLACE = "/xbuild"
"""Where, in a native root, the directory lies that a command there works on."""

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Freestanding, since neither needs a libc of its own; the build id would differ between equal builds elsewhere.
_COMPILE = """
cc="gcc -std=gnu11 -O2 -Wall -Wextra -Werror -ffreestanding -fno-stack-protector -fno-asynchronous-unwind-tables"
link="-nostdlib -Wl,--build-id=none"
$cc $link -static -no-pie -Wl,-z,noseparate-code -o dispatcher dispatcher.c
$cc $link -shared -fPIC -DMACHINE="\\"$MACHINE\\"" -o private/amd64/lib/$SHIM shim.c
if [ -d private/i386 ]; then
    $cc $link -m32 -shared -fPIC -DMACHINE="\\"$MACHINE\\"" -o private/i386/lib/$SHIM shim.c
fi
rm dispatcher.c table.h shim.c
"""

# DT_RPATH, not DT_RUNPATH: it holds for the libraries of the libraries too, and comes before LD_LIBRARY_PATH, which
# belongs to the target's programs.
_PATCH = """
patch() {
    xargs -r -n 8 -P "$(nproc)" patchelf --set-interpreter "$LOADER" --force-rpath --set-rpath "$LIBRARIES" "$@"
}
patch < programs
patch --add-needed "$SHIM" < shimmed
rm programs shimmed
"""


def native_sandbox(native: Path, workplace: Path, env: Mapping[str, str]) -> sandboxes.Sandbox:
    """A sandbox in the native root `native` (read-only) with the directory `workplace` at /xbuild, writable."""
    return sandboxes.Sandbox(
        mounts=(
            Overlay((str(native),), None, None),
            Proc(),
            Devices(),
            Tmpfs("/tmp", "1777"),
            Bind(str(workplace), WORKPLACE),
        ),
        mount_point=native,
        cwd=WORKPLACE,
        env={"PATH": PATH, "LC_ALL": "C.UTF-8", **env},
    )


def run_native(native: Path, workplace: Path, script: str, env: Mapping[str, str]) -> None:
    """Run a shell script in the native root; see `native_sandbox`. Raises MachineError with what it said."""
    returncode, said = sandboxes.capture(native_sandbox(native, workplace, env), ["sh", "-euc", script])
    if returncode != 0:
        lines = said.decode(errors="replace").splitlines()
        raise MachineError("a tool of the native root failed", details=lines[-20:], hint="invoke clean --roots")


def make(staging: Path, trees: Mapping[str, Path], policy: Policy, toolchain: Toolchain) -> None:
    """Fill `staging`: `private/` (becomes /.xbuild), `dispatcher`, `twins.json`.

    trees: the native roots by architecture, `amd64` always, `i386` for a 32-bit target.
    """
    private = staging / "private"
    found: list[Twin] = []
    for architecture, path in trees.items():
        found += _copy(Tree([path]), architecture, private, policy, toolchain)
    assert toolchain.qemu is not None
    shutil.copy(trees["amd64"] / toolchain.qemu.binary.lstrip("/"), private / "qemu")
    (private / "trace").touch()
    for name in ("dispatcher.c", "table.h", "shim.c"):
        shutil.copy(paths.DISPATCHER / name, staging / name)
    _give(staging)
    native = trees["amd64"]
    run_native(native, staging, _COMPILE, {"SHIM": SHIM, "MACHINE": toolchain.uname_machine})
    for architecture in trees:
        _patch(native, staging, architecture, found, policy)
    twins.save(found, staging / "twins.json")


def _copy(tree: Tree, architecture: str, private: Path, policy: Policy, toolchain: Toolchain) -> list[Twin]:
    triplet = NATIVE_TRIPLETS[architecture]
    libraries = private / architecture / "lib"
    libraries.mkdir(parents=True)
    kept = []
    for twin in twins.candidates(tree, architecture, policy, toolchain):
        tool = policy.tools[twin.tool]
        # What the 64-bit root has is enough where the width does not show.
        if architecture == "i386" and tool.width == "any" and not tool.target_width_args:
            continue
        source = tree.find(twin.source)
        assert source is not None
        destination = private / architecture / twin.target_path.lstrip("/")
        destination.parent.mkdir(parents=True, exist_ok=True)
        data = source.read_bytes()
        for old, new in tool.replace_strings.items():
            data = replace_string(
                data, twins.fill(old, toolchain, twin.source), twins.fill(new, toolchain, twin.source)
            )
        destination.write_bytes(data)
        destination.chmod(0o755)
        for name, real in twins.closure(tree, twin.source, triplet).items():
            library = libraries / name
            if not library.exists():
                found = tree.find(real)
                assert found is not None
                shutil.copy(found, library)
                library.chmod(0o755)
        kept.append(twin)
    return kept


def replace_string(data: bytes, old: str, new: str) -> bytes:
    """`data` with every C string that is just `old` made `new`, padded with NULs to the old length.

    Raises ValueError if `new` is longer: there is no room for it.
    """
    if len(new) > len(old):
        raise ValueError(f"{new!r} is longer than {old!r}")
    padded = new.encode().ljust(len(old) + 1, b"\0")
    return re.sub(rb"(?<=\0)" + re.escape(old.encode() + b"\0"), lambda _: padded, data)


def _patch(native: Path, staging: Path, architecture: str, found: Sequence[Twin], policy: Policy) -> None:
    own = [twin for twin in found if twin.architecture == architecture and not policy.tools[twin.tool].library]
    plain: list[str] = []
    shimmed: list[str] = []
    loader = None
    for twin in own:
        file = staging / "private" / twin.program.removeprefix(paths.PRIVATE + "/")
        info = read_elf(file)
        if info.interpreter is None:
            continue
        loader = Path(info.interpreter).name
        (shimmed if policy.tools[twin.tool].shim else plain).append(f"private/{file.relative_to(staging / 'private')}")
    if loader is None:
        return
    for name, files in (("programs", plain), ("shimmed", shimmed)):
        (staging / name).write_text("".join(file + "\n" for file in files))
    libraries = f"{paths.PRIVATE}/{architecture}/lib"
    run_native(native, staging, _PATCH, {"SHIM": SHIM, "LIBRARIES": libraries, "LOADER": f"{libraries}/{loader}"})


def _give(staging: Path) -> None:
    for path in (staging, *staging.rglob("*")):
        idmap.own(path)
