"""Makes the private directory: every native file that a target root gets to see, and the program that chooses."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from xbuild.base import log, paths
from xbuild.base.errors import MachineError
from xbuild.dispatcher import preamble
from xbuild.dispatcher.own import MARK, MARK_AT, REFUSAL, REFUSAL_FILE, marked
from xbuild.formats.debian import Tree
from xbuild.formats.elf import ElfError, read_elf, with_interpreter
from xbuild.model.native import here
from xbuild.model.policy import Policy
from xbuild.model.toolchain import Toolchain
from xbuild.sandbox import run as sandboxes
from xbuild.sandbox.mounts import Bind, Overlay
from xbuild.sandbox.view import TMP, RootView
from xbuild.twins import pairing
from xbuild.twins.arithmetic import imported, with_short_strtold, without_fused
from xbuild.twins.closure import closure, contents
from xbuild.twins.gcctable import as_native
from xbuild.twins.limits import without_address_limits
from xbuild.twins.pairing import LATE_SHIM, SHIM, Twin
from xbuild.twins.strings import moved

WORKPLACE = "/xbuild"
"""Where, in a native root, the directory lies that a command there works on."""

PLAIN_LOADER, SHIM_LOADER, LATE_LOADER = "ld", "lds", "ldl"
"""Names, in a private architecture's directory, of its dynamic loader; the second one loads the shim first, the third
one the shim with the late fallback (late.h).

They are short because a program's interpreter is changed in place: /lib/ld-linux.so.2 has room for 18 bytes.
"""

# Freestanding, since dispatcher and shim need no libc of their own; the build id would differ between equal builds
# elsewhere.
_COMPILE = """
flags="-std=gnu11 -O2 -Wall -Wextra -Werror -ffreestanding -fno-stack-protector -fno-asynchronous-unwind-tables"
link="-nostdlib -Wl,--build-id=none"
gcc $flags $link -static -no-pie -Wl,-z,noseparate-code -o dispatcher dispatcher.c
with_libc="-std=gnu11 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror -static -s"
gcc $with_libc -Wl,--build-id=none -o enter enter.c
gcc $with_libc -Wl,--build-id=none -o "private/$COLUMNS" columns.c
for program in dispatcher "private/$COLUMNS"; do
    printf "$MARK" | dd of="$program" bs=1 seek="$MARK_AT" conv=notrunc status=none
done
rm -rf sources && mkdir sources && mv ./*.[ch] sources
while read -r architecture triplet own_target compiler; do
    own="$PRIVATE/$architecture"
    names="-DMACHINE=\\"$MACHINE\\" -DPRIVATE=\\"$own\\" -DTRIPLET=\\"$TRIPLET\\" -DNATIVE_TRIPLET=\\"$triplet\\""
    names="$names -DLAYER=\\"$LAYER\\" -DOWN_TARGET=$own_target -DTARGET_WORD=$TARGET_WORD"
    $compiler $flags $link $names -shared -fPIC -o "private/$architecture/lib/$SHIM" sources/shim.c
    $compiler $flags $link $names -shared -fPIC -DLATE -D"INEXACT_FUNCTIONS=$INEXACT" \\
        -o "private/$architecture/lib/$LATE_SHIM" sources/shim.c
    echo "$own/lib" > directories
    ldconfig -X -f directories -C "$own/c"
done < widths
rm -r sources directories widths
# A twin that cannot start would go unseen: the dispatcher then takes qemu. Exit codes from 126 on: not run, or killed.
while read -r program; do
    code=0
    timeout 10 "$program" --version < /dev/null > said 2>&1 || code=$?
    if [ "$code" -ge 126 ]; then
        echo "the twin $program does not run (exit code $code): $(cat said)"
        exit 1
    fi
done < programs
rm programs said
"""


Shown = Sequence[Bind | Overlay]
"""What is to be seen in a native root besides itself."""


def tool_sandbox(root: Path, shown: Shown, env: Mapping[str, str]) -> sandboxes.Sandbox:
    """A sandbox in the native root `root`, read-only, with an empty /tmp, below which what is `shown` may lie."""
    return sandboxes.Sandbox(
        mounts=RootView((root,), empty=(TMP,), shown=tuple(shown)).mounts(),
        mount_point=root,
        env={"PATH": sandboxes.ROOT_PATH, "LC_ALL": "C.UTF-8", **env},
        locked=True,
    )


def run_script(root: Path, shown: Shown, script: str, env: Mapping[str, str], complaint: str) -> None:
    """Run shell text in `tool_sandbox`. Raises MachineError with what it said."""
    returncode, said = sandboxes.capture(tool_sandbox(root, shown, env), ["sh", "-euc", script])
    if returncode != 0:
        lines = said.decode(errors="replace").splitlines()
        full = any("No space left" in line for line in lines)
        hint = "the disk is full: free some space, or run: invoke clean" if full else "invoke clean --roots"
        raise MachineError(complaint, details=lines[-20:], hint=hint)


def run_native(native: Path, workplace: Path, script: str, env: Mapping[str, str]) -> None:
    """Run a shell script in the native root `native`, in the directory `workplace` at /xbuild, which is writable.

    Its subdirectory `private` is also where it will be for programs of the target root. Raises MachineError with what
    the script said.
    """
    shown = (Bind(str(workplace), WORKPLACE), Bind(str(workplace / "private"), paths.PRIVATE))
    run_script(native, shown, f"cd {WORKPLACE}\n{script}", env, "a tool of the native root failed")


def make(staging: Path, trees: Mapping[str, Path], policy: Policy, toolchain: Toolchain) -> None:
    """Fill `staging`: `private/` (becomes /.xbuild), `dispatcher`, `enter` (for containers), `twins.json`.

    trees: the native roots by architecture; the machine's own always, its partner for a target of that word size.
    """
    private = staging / "private"
    found: list[Twin] = []
    for architecture, path in trees.items():
        found += _copy(Tree([path]), architecture, private, policy, toolchain)
    write(private / REFUSAL_FILE, REFUSAL)
    # A directory and files to lay others over.
    for name in (paths.LAYER, paths.CACHE):
        (private / Path(name).name).mkdir()
    for name in (paths.RECORD, paths.DISPATCH):
        (private / Path(name).name).touch()
    programs = [twin.program for twin in found if not policy.tools[twin.tool].library]
    (staging / "programs").write_text("".join(program + "\n" for program in programs))
    write(private / "qemu", marked(_named(staging, trees[here().name], toolchain)))
    _compile(staging, trees, toolchain)
    pairing.save(found, staging / "twins.json")


def _compile(staging: Path, trees: Mapping[str, Path], toolchain: Toolchain) -> None:
    """Make what xbuild itself brings, and try all programs."""
    machine = here()
    for source in paths.DISPATCHER.glob("*.[ch]"):
        shutil.copy(source, staging / source.name)
    env = {
        "SHIM": SHIM,
        "LATE_SHIM": LATE_SHIM,
        "MACHINE": toolchain.uname_machine,
        "TRIPLET": toolchain.triplet,
        "TARGET_WORD": str(toolchain.elf.elf_class // 8),
        "PRIVATE": paths.PRIVATE,
        "LAYER": paths.LAYER,
        "COLUMNS": Path(paths.COLUMNS).name,
        "MARK": "".join(f"\\{byte:03o}" for byte in MARK),
        "MARK_AT": str(MARK_AT),
        "INEXACT": " ".join(f"INEXACT({name})" for name in toolchain.inexact),
    }
    widths = []
    for name in trees:
        width = machine.width(name)
        widths.append(f"{name} {width.triplet} {int(name == toolchain.architecture)} {width.compiler}\n")
    (staging / "widths").write_text("".join(widths))
    sandboxes.give_tree(0, [staging])
    run_native(trees[machine.name], staging, _COMPILE, env)
    sandboxes.take_back(staging)


def _named(staging: Path, native: Path, toolchain: Toolchain) -> bytes:
    """The emulator, with what gives its process the name of the program that it runs (named.c)."""
    assert toolchain.qemu is not None
    qemu, place = (native / toolchain.qemu.binary.lstrip("/")).read_bytes(), staging / "named"
    (place / "private").mkdir(parents=True)
    for source in preamble.NAMED_SOURCES:
        shutil.copy(paths.DISPATCHER / source, place)
    sandboxes.give_tree(0, [place])
    run_native(native, place, preamble.COMPILE.format("named"), {})
    code = (place / "named").read_bytes()
    sandboxes.take_back(place, tree=place)
    shutil.rmtree(place)
    try:
        return preamble.prefixed(qemu, code, mark=b"")
    except ElfError as error:
        log.warn(f"emulated processes are called qemu: {error}")
        return qemu


def _copy(tree: Tree, architecture: str, private: Path, policy: Policy, toolchain: Toolchain) -> list[Twin]:
    triplet = here().width(architecture).triplet
    directory = private / architecture
    (directory / "lib").mkdir(parents=True)
    kept, placed = [], dict[str, str]()
    for twin in pairing.candidates(tree, architecture, policy, toolchain):
        tool = policy.tools[twin.tool]
        # What the machine's own root has is enough where the width does not show.
        by_width = tool.width == "target" or pairing.rules_of(policy, tool, twin, toolchain).target_width_args
        if architecture != here().name and not by_width:
            continue
        libraries = closure(tree, twin.source, triplet)
        try:
            _require_one_each(libraries, placed)
            data = program(tree, twin, policy, toolchain)
        except (MachineError, ValueError) as error:
            # The target's own runs, emulated: slow, but right.
            log.warn(f"no twin for {twin.target_path}: {error}")
            continue
        write(directory / twin.target_path.lstrip("/"), data)
        for name in libraries.keys() - placed.keys():
            write(directory / "lib" / name, contents(tree, libraries[name]))
        placed |= libraries
        kept.append(replace(twin, computes=computes(data)))
    _place_libraries(directory, [twin for twin in kept if policy.tools[twin.tool].needed])
    loader = next(iter((directory / "lib").glob("ld-linux*")))
    for name, preload in ((PLAIN_LOADER, "none"), (SHIM_LOADER, "shp"), (LATE_LOADER, "slp")):
        write(directory / name, marked(patched_loader(loader.read_bytes(), architecture, triplet, preload)))
    for preload, shim in (("shp", SHIM), ("slp", LATE_SHIM)):
        (directory / preload).write_text(f"{paths.PRIVATE}/{architecture}/lib/{shim}\n")
    _copy_converters(tree, directory, triplet)
    if architecture == here().name:
        _change_libc(directory / "lib/libc.so.6", toolchain)
    exact = _computes(directory / "lib/libm.so.6", architecture, toolchain)
    return [twin for twin in kept if exact or not twin.computes]


def _place_libraries(directory: Path, libraries: Sequence[Twin]) -> None:
    """Put those that the policy changes in the place of those that came with the programs that need them."""
    for library in (directory / twin.target_path.lstrip("/") for twin in libraries):
        library.replace(directory / "lib" / (read_elf(library).soname or library.name))


def _change_libc(library: Path, toolchain: Toolchain) -> None:
    try:
        library.write_bytes(without_address_limits(library.read_bytes()))
    except ValueError as error:
        log.warn(f"native shells can lock out the emulator by ulimit -v: {error}")
    if "long-double-64" in toolchain.traits:
        try:
            library.write_bytes(with_short_strtold(library.read_bytes()))
        except ValueError as error:
            log.warn(f"the printf of native shells may round otherwise: {error}")


def _computes(library: Path, architecture: str, toolchain: Toolchain) -> bool:
    """Whether programs of this architecture compute as the target's with the libm `library`; it is changed for that."""
    if architecture != here().name:
        return architecture == toolchain.architecture
    # What the processor decides is asked where programs are paired.
    if not library.exists() or "unfused" not in toolchain.traits or not here().computes_as(toolchain.traits):
        return True
    try:
        library.write_bytes(without_fused(library.read_bytes()))
    except ValueError as error:
        log.warn(f"programs that compute run emulated: {library.name} cannot be changed: {error}")
        return False
    return True


def computes(data: bytes) -> bool:
    """Whether the program calls what a processor may compute with one rounding or two."""
    return not imported(data).isdisjoint(here().fused.functions)


def _require_one_each(libraries: Mapping[str, str], placed: Mapping[str, str]) -> None:
    """Raise ValueError if a library is another file than the one of its name that is placed already."""
    for name, real in libraries.items():
        if placed.get(name, real) != real:
            raise ValueError(f"it needs {real}, and another program {placed[name]}: both cannot be there as {name}")


def program(tree: Tree, twin: Twin, policy: Policy, toolchain: Toolchain) -> bytes:
    """What becomes the twin: the native file with what the policy changes in it. Raises ValueError if it cannot be."""
    tool = policy.tools[twin.tool]
    data = contents(tree, twin.source)
    # A module's program begins again for it.
    if not (tool.loads_modules or tool.module) and (odd := imported(data).intersection(toolchain.inexact)):
        raise ValueError(f"it needs {', '.join(sorted(odd))}, which no native library computes to the last bit")
    for old, new in tool.replace_strings.items():
        data = replace_string(
            data, pairing.fill(old, toolchain, twin.source), pairing.fill(new, toolchain, twin.source)
        )
    for told in (one for one in tool.replace_bytes if one.trait in toolchain.traits):
        data = _replaced_once(data, bytes.fromhex(told.old), bytes.fromhex(told.new))
    if tool.moved_strings or tool.counted_strings:

        def own(text: str) -> str:
            return pairing.fill(text, toolchain, twin.source, twin.version)

        every = (tool.moved_strings, tool.counted_strings)
        strings, counted = ({own(old): own(new) for old, new in known.items()} for known in every)
        data = moved(data, strings, counted, {*map(own, tool.optional_strings)})
    # What is the target's own already, as where the machine's partner is the target, searches as it should.
    if tool.include_table and twin.architecture != toolchain.architecture:
        data = as_native(data, pairing.fill(tool.include_table, toolchain, twin.source))
    if read_elf(data).interpreter:
        loader = LATE_LOADER if tool.loads_modules else SHIM_LOADER if tool.shim else PLAIN_LOADER
        data = with_interpreter(data, f"{paths.PRIVATE}/{twin.architecture}/{loader}")
    return data if tool.library else marked(data)


def _replaced_once(data: bytes, old: bytes, new: bytes) -> bytes:
    if (times := data.count(old)) != 1:
        raise ValueError(f"it has the bytes {old.hex(' ')} {times} times, not once")
    return data.replace(old, new)


def write(destination: Path, data: bytes) -> None:
    """Write a program or library and make its directories."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    destination.write_bytes(data)
    destination.chmod(0o755)


def _copy_converters(tree: Tree, directory: Path, triplet: str) -> None:
    """Converters of character sets; libc opens them by a path compiled into it, which is changed here."""
    folder = f"/usr/lib/{triplet}/gconv"
    source = tree.find(folder)
    if source is None:
        return
    shutil.copytree(source, directory / "gconv")
    own = same_length(f"{paths.PRIVATE}/{directory.name}/gconv", folder)
    # What iconvconfig(8) has made of the lists names the directory, too.
    for file in (directory / "lib/libc.so.6", directory / "gconv/gconv-modules.cache"):
        if file.exists():
            file.write_bytes(file.read_bytes().replace(folder.encode(), own.encode()))


def patched_loader(data: bytes, architecture: str, triplet: str, preload: str) -> bytes:
    """The dynamic loader `data` made to look for libraries in the private directory only, in a native layer last.

    Paths compiled into it are replaced by ones of the same length (`elf/dl-load.c` and `rtld.c` of glibc hold their
    lengths too). preload: the file, in the private architecture's directory, that it reads for /etc/ld.so.preload:
    the target root's own names libraries of the target.
    """
    own = f"{paths.PRIVATE}/{architecture}"
    replaced = {
        f"/usr/lib/{triplet}/": f"{own}/lib/",
        # The cache below names all that is in the other one, and comes first.
        f"/lib/{triplet}/": f"{paths.LAYER}/lib/",
        "/etc/ld.so.cache": f"{own}/c",
        "/etc/ld.so.preload": f"{own}/{preload[:3]}",
    }
    for old, new in replaced.items():
        if old.encode() not in data:
            raise MachineError(f"the dynamic loader of {architecture} does not hold {old}: is this another libc?")
        data = data.replace(b"\0" + old.encode(), b"\0" + same_length(new, old).encode())
    return data


def same_length(new: str, old: str) -> str:
    """The path `new` with so many slashes more that it is as long as `old`. Raises ValueError if it is longer."""
    if len(new) > len(old):
        raise ValueError(f"{new!r} is longer than {old!r}")
    head, slash, tail = new.rpartition("/")
    return head + slash * (1 + len(old) - len(new)) + tail


def replace_string(data: bytes, old: str, new: str) -> bytes:
    """`data` with every C string that is just `old` made `new`, padded with NULs to the old length.

    Raises ValueError if `new` is longer: there is no room for it.
    """
    if len(new) > len(old):
        raise ValueError(f"{new!r} is longer than {old!r}")
    padded = new.encode().ljust(len(old) + 1, b"\0")
    return re.sub(rb"(?<=\0)" + re.escape(old.encode() + b"\0"), lambda _: padded, data)
