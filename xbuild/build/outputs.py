"""What a build promises: every ELF file checked, every output there and giving its answer, packed, described."""

from __future__ import annotations

import fnmatch
import json
import os
import shutil
import stat
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from xbuild import __name__ as tool
from xbuild.base.digest import file_sha256, json_contents, write_sums
from xbuild.base.errors import CheckError
from xbuild.base.walk import kind_of, open_file, shown
from xbuild.build.artifact import ARCHIVE, DEBUG_ARCHIVE, pack
from xbuild.build.check import FOREIGN, Checked, Finding, check_tree
from xbuild.build.environment import Job, Root, WorkPlace, capture
from xbuild.build.late import require_nothing_late
from xbuild.build.stepfiles import accounted, recorded
from xbuild.build.strip import Stripped
from xbuild.formats import record
from xbuild.formats.debian import Tree
from xbuild.formats.elf import ARCHIVE_MAGIC, ElfError, read_elf
from xbuild.model.output import Output
from xbuild.model.recipe import Recipe
from xbuild.model.toolchain import Toolchain
from xbuild.sandbox import idmap
from xbuild.sandbox.run import machine_view, run
from xbuild.twins.pairing import Twin

# What has another mode on the disk than in the artifact: nothing is set-uid there, and its reader reads all of it.
_ODD = r"""
cd -- "$1"
find . ! -type l \( -type f -perm /6000 -o ! -perm -440 -o \( -type d -o -perm /111 \) ! -perm -110 \) \
    -printf '%m\0%P\0'
"""
# Whose group is the user's own was root's: it has been taken over already.
_OWNED = r"""
cd -- "$1"
find . ! \( -uid 0 \( -gid 0 -o -gid +65535 \) \) -printf '%U:%G\0%P\0'
"""
# Without the bits before it changes hands: there is no moment at which a set-uid file belongs to root inside.
_TAKE = """
cd -- "$1"
find . -type f -perm /6000 -exec chmod ug-s -- {} +
chown -hR "0:$2" .
chmod -R u+rX,g+rX .
"""


@dataclass(frozen=True)
class Usage:
    """How often programs ran, by the real path of the target's file: natively, by their twins, and emulated.

    cut: the steps whose record is not whole, so that these are the least numbers. begun_again: of the emulated ones,
    those that began as twins.
    """

    native: Mapping[str, int]
    emulated: Mapping[str, int]
    cut: tuple[str, ...] = ()
    begun_again: Mapping[str, int] = field(default_factory=dict)


def usage_of(place: WorkPlace) -> Usage:
    """What the records of a work place tell."""
    records = {files.name: record.read(place.record(files)) for files in recorded(place.records)}
    native, emulated = (
        sum((one.total(native=kind) for one in records.values()), Counter[str]()) for kind in (True, False)
    )
    again: Counter[str] = Counter()
    for one in records.values():
        again.update({path: count for (path, how), count in one.counts.items() if how is record.Choice.BEGUN_AGAIN})
    return Usage(native, emulated, tuple(name for name, one in records.items() if not one.whole), again)


def keep_records(place: WorkPlace, destination: Path) -> None:
    """Copy what is known of the execs and the CPU use of a work place's steps into the new directory `destination`."""
    destination.mkdir()
    for files in recorded(place.records):
        record.keep(place.record(files), destination / files.record)
    for files in accounted(place.records):
        shutil.copyfile(place.accounts(files), destination / files.accounts)


@dataclass(frozen=True)
class Taken:
    """What installed files were before `take_over`, by path below the install directory: the artifact has it.

    modes: of what had to change its mode. owners: uid and gid inside, of what was not root's; none if all is root's.
    """

    modes: Mapping[bytes, int]
    owners: Mapping[bytes, tuple[int, int]] = field(default_factory=dict)


def take_over(place: WorkPlace, *, keep_owners: bool = False) -> Taken:
    """Make root inside the owner of what was installed, and let the user outside read all of it.

    keep_owners: the artifact has the owners that files were given; else all of it is root's.
    """
    owners = _noted(place, _OWNED, place.taken_owners) if keep_owners else {}
    modes = _noted(place, _ODD, place.taken_modes)
    make_readable(place.dest)
    return Taken({path: int(mode, 8) for path, mode in modes.items()}, _numbers(owners))


def _numbers(owners: Mapping[bytes, str]) -> dict[bytes, tuple[int, int]]:
    split = {path: text.split(":") for path, text in owners.items()}
    return {path: (int(uid), int(gid)) for path, (uid, gid) in split.items()}


def _noted(place: WorkPlace, script: str, file: Path) -> dict[bytes, str]:
    """What `script` tells of installed files, by their paths; it is noted in `file`, and what stands there counts."""
    with tempfile.TemporaryFile() as output:
        run(machine_view(), ["sh", "-euc", script, "sh", place.dest], output=output)
        output.seek(0)
        words = output.read().split(b"\0")[:-1]
    told = {path: text.decode() for text, path in zip(words[::2], words[1::2], strict=True)}
    if file.exists():
        # The build was killed here before, and goes on: some of it is changed already.
        told |= {os.fsencode(path): text for path, text in json_contents(file).items()}
    if told:
        beside = file.with_suffix(".new")
        beside.write_text(json.dumps({os.fsdecode(path): text for path, text in told.items()}))
        beside.replace(file)
    return told


def make_readable(tree: Path) -> None:
    """Make root inside the owner of all in the directory `tree`, without set-uid bits, and open to the user outside."""
    group = 0 if os.geteuid() == 0 else idmap.IDS
    run(machine_view(), ["sh", "-euc", _TAKE, "sh", tree, str(group)])


def verify(
    recipe: Recipe,
    toolchain: Toolchain,
    place: WorkPlace,
    root: Root,
    env: Mapping[str, str],
    debug: Path | None = None,
) -> Checked:
    """Check everything that was installed; give what may be packed. Raises CheckError with all that is wrong.

    debug: the directory with debug information, if there is one. Raises LateError if a twin that a promised program
    has started could not go on.
    """
    tree, below = Tree(root.layers), Tree(root.below or root.layers)
    checked = check_tree(place.dest, toolchain, _finds(tree, toolchain), data=recipe.data)
    if debug is not None:
        apart = check_tree(debug, toolchain, lambda _: True)
        checked = replace(checked, findings=[*checked.findings, *apart.findings], debug=apart.nodes)
    checked = replace(checked, libraries=_packages_of(checked.needed, tree, below, toolchain))
    faults = [str(finding) for finding in checked.findings]
    faults += broken_promises(recipe, toolchain, place, root, env, place.dest)
    if faults:
        number = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise CheckError(
            f"{recipe.name} {recipe.version} for {toolchain.name}: {number} in what was built",
            details=faults[:40],
            hint=_data_hint(checked.findings),
        )
    return checked


def _data_hint(findings: Sequence[Finding]) -> str | None:
    """How a recipe says that files are no programs for the target, where that may be what is wrong."""
    files = dict.fromkeys(finding.installed for finding in findings if finding.rule in FOREIGN)
    if not files:
        return None
    named = ", ".join([*list(files)[:3], *(["..."] if len(files) > 3 else [])])
    return f"if it is data (firmware, BPF, samples) that the target never runs, the recipe says so by: data: [{named}]"


def broken_promises(
    recipe: Recipe, toolchain: Toolchain, place: WorkPlace, root: Root, env: Mapping[str, str], installed: Path
) -> list[str]:
    """What of the outputs that `recipe` promises is not there, not of its kind, or does not answer as it should.

    installed: directory outside with what was installed. Raises LateError as `verify`.
    """
    faults = []
    for output in recipe.outputs:
        faults += _output_faults(output, toolchain, place, root, env, installed)
    return faults


def _configured(tree: Tree) -> list[str]:
    """The directories that ld.so.cache is made of, beside those that ld.so knows (ldconfig(8))."""
    texts = [tree.text(f"/{path}") or "" for path in tree.matching("etc/ld.so.conf.d/*.conf")]
    return [line.strip() for text in texts for line in text.splitlines() if line.startswith("/")]


def _library_finder(tree: Tree, toolchain: Toolchain) -> Callable[[str], str | None]:
    """What gives the path, without links, of a library of the root."""
    folders = (toolchain.library_directory, "/usr/lib", "/lib", *_configured(tree))
    return lambda soname: next(filter(None, (tree.real_path(f"{folder}/{soname}") for folder in folders)), None)


def _finds(tree: Tree, toolchain: Toolchain) -> Callable[[str], bool]:
    find = _library_finder(tree, toolchain)
    return lambda soname: find(soname) is not None


def _packages_of(sonames: Iterable[str], tree: Tree, below: Tree, toolchain: Toolchain) -> dict[str, str]:
    """The package that each library of the root is of; none where it has no such database.

    below: of `tree` what is the distribution's; a library of another recipe is of no package.
    """
    find = _library_finder(tree, toolchain)
    places = {soname: place for soname in sorted(sonames) if (place := find(soname)) is not None}
    own = {soname: place for soname, place in places.items() if tree.find(place) == below.find(place)}
    return {soname: below.owners[place] for soname, place in own.items() if place in below.owners}


def _output_faults(
    output: Output, toolchain: Toolchain, place: WorkPlace, root: Root, env: Mapping[str, str], installed: Path
) -> list[str]:
    found = Tree((installed,)).matching(output.path)
    if not found:
        return [f"{output.path}: the recipe promises it, but it was not installed"]
    # A link's target is meant as the installed system sees it, not this machine.
    tree = Tree((installed, *root.layers))
    faults = []
    for path in found:
        try:
            fault = _kind_fault(tree, f"/{path}", output.kind)
        except OSError as error:
            fault = f"cannot be looked at: {error.strerror}"
        if fault:
            faults.append(f"{shown(path)}: {fault}")
        elif output.run is not None:
            faults += _run_faults(output, f"/{path}", toolchain, place, root, env, installed)
    return faults


def _kind_fault(tree: Tree, name: str, kind: str) -> str | None:
    if kind == "file":
        return None
    located = tree.located(name)
    if located is None:
        return "is a link that leads nowhere"
    path = located[1]
    mode = path.lstat().st_mode
    if not stat.S_ISREG(mode):
        return f"is {kind_of(mode)}"
    if kind == "executable" and not mode & 0o111:
        return "is not executable: no permission to run it"
    with open_file(path) as stream:
        start = stream.read(8)
        if kind == "static-library":
            return None if start == ARCHIVE_MAGIC else "is no static library"
        if kind == "executable" and start.startswith(b"#!"):
            return None
        try:
            info = read_elf(stream)
        except ElfError as error:
            return error.reason
    if kind == "shared-library":
        return None if info.e_type == "DYN" else f"is no shared library, but ELF type {info.e_type}"
    runs = info.interpreter is not None or info.is_static
    return None if runs else "is no executable"


def _run_faults(
    output: Output,
    program: str,
    toolchain: Toolchain,
    place: WorkPlace,
    root: Root,
    env: Mapping[str, str],
    installed: Path,
) -> list[str]:
    """Run the installed program as it would run on the target, in the root with the installed files laid over it."""
    tree, folders = Tree((installed,)), dict.fromkeys(("/usr/lib", toolchain.library_directory))
    own = [folder for folder in folders if fnmatch.filter(tree.names(folder), "*.so*")]
    # The root may hold a library of the same name in a directory that comes first; the recipe's own is meant.
    with_libraries = {**env, **({"LD_LIBRARY_PATH": ":".join(own)} if own else {})}
    command = (program, *(output.run or ()))
    returncode, said = capture(root, place, Job(command, with_libraries, cwd="/", over=(installed,)))
    text = said.decode(errors="replace")
    told = " ".join(map(shown, command))
    if root.private and root.machine is None:
        require_nothing_late(place.marks, told)
    last = (text.strip().splitlines() or ["nothing"])[-1]
    if returncode != 0:
        return [f"{told}: ended with {returncode} and said: {last}"]
    if output.prints is not None and output.prints not in text:
        return [f"{told}: was to print {output.prints!r} and said: {last}"]
    return []


def finish(
    recipe: Recipe,
    toolchain: Toolchain,
    place: WorkPlace,
    destination: Path,
    name: str,
    *,
    checked: Checked,
    epoch: int,
    facts: Mapping[str, Any],
    twins: Sequence[Twin],
    usage: Usage,
    taken: Taken | None = None,
    stripped: Stripped | None = None,
) -> None:
    """Pack the install directory into `destination`/`name`.tar.zst, and write `name`.manifest.json beside it.

    checked: what `verify` has given; nothing else is packed. facts: what the caller knows of the build (mode, phases,
    inputs); they go into the manifest as they are. taken: what `take_over` gave. stripped: what `strip` gave; debug
    information comes into an archive of its own. The sums of all that `destination` holds are written last.
    """
    archive = destination / f"{name}{ARCHIVE}"
    found = taken or Taken({})
    pack(place.dest, archive, epoch, found.modes, checked.nodes, found.owners)
    manifest = {
        **_manifest(recipe, toolchain, archive, twins, usage),
        **(_debug(stripped, destination / f"{name}{DEBUG_ARCHIVE}", epoch, checked) if stripped else {}),
        "source-date-epoch": epoch,
        **({"data": checked.data} if checked.data else {}),
        "libraries": dict(checked.libraries),
        **facts,
    }
    (destination / f"{name}.manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    write_sums(destination)


def _debug(stripped: Stripped, archive: Path, epoch: int, checked: Checked) -> dict[str, Any]:
    """What the manifest tells of debug information, which is packed."""
    told: dict[str, Any] = {"strip": stripped.strip, "stripped": stripped.files}
    if stripped.debug is not None:
        pack(stripped.debug, archive, epoch, checked=checked.debug)
        told["debug"] = _described(archive)
    return told | ({"not-stripped": list(stripped.kept)} if stripped.kept else {})


def _described(archive: Path) -> dict[str, Any]:
    return {"file": archive.name, "bytes": archive.stat().st_size, "sha256": file_sha256(archive)}


def _manifest(
    recipe: Recipe, toolchain: Toolchain, archive: Path, twins: Sequence[Twin], usage: Usage
) -> dict[str, Any]:
    return {
        "schema": 1,
        "made-by": tool,
        "name": recipe.name,
        "version": recipe.version,
        "license": recipe.license,
        "target": toolchain.name,
        "triplet": toolchain.triplet,
        "suite": toolchain.distribution.suite,
        "artifact": _described(archive),
        "sources": [source.model_dump(mode="json", by_alias=True, exclude_defaults=True) for source in recipe.sources],
        "twins": [
            {"path": twin.target_path, "architecture": twin.architecture, "package": twin.package,
             "version": twin.version, "ran": twin.target_path in usage.native}
            for twin in twins
        ],
        "ran-native": dict(sorted(usage.native.items())),
        "ran-emulated": dict(sorted(usage.emulated.items())),
        **({"began-again": dict(sorted(usage.begun_again.items()))} if usage.begun_again else {}),
        **({"records-cut": list(usage.cut)} if usage.cut else {}),
    }  # fmt: skip
