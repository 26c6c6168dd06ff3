"""What goes into an image's layers: the target root as it is seen inside, and the overlay with the native tools."""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from xbuild.base import paths
from xbuild.base.errors import MachineError, UsageError
from xbuild.dispatcher import table
from xbuild.export.image import add_file
from xbuild.formats.debian import Tree
from xbuild.roots.distribution import Natives, Roots
from xbuild.sandbox import idmap
from xbuild.sandbox.mounts import Proc
from xbuild.sandbox.run import Sandbox, machine_view, run
from xbuild.sandbox.view import laid
from xbuild.twins.pairing import Pairs

ENTER = f"{paths.PRIVATE}/enter"
"""The native program that starts a container's commands."""

_OWN = "run"
"""What enter.c mounts a file system in memory on, below the private directory."""

_LEFT_OUT = (
    ".xbuild/*", "build/*", "dev/*", "proc/*", "run/*", "sys/*", "tmp/*", "var/tmp/*", "xbuild",
    "etc/hostname", "etc/hosts", "etc/resolv.conf",
    "var/cache/apt/*.bin", "var/cache/ldconfig/aux-cache", "var/lib/apt/lists/*", "var/log/*.log", "var/log/apt/*",
)  # fmt: skip
"""Of a root: what the container's runtime makes, what was ours, and what tells when and where it was made."""

# GNU tar's manual, "Reproducibility": without times of access and change, and without the process id in names.
_PAX = "exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime"
_TAR = """
cd "$1"
exec 2> "$2"
shift 2
find . -mindepth 1 -maxdepth 1 -printf '%P\\0' | LC_ALL=C sort -z |
    tar --create --format=posix --numeric-owner --sort=name --null --verbatim-files-from "$@" --files-from=-
"""


def epoch_of(tree: Tree) -> int:
    """The time of an image, in seconds since 1970: SOURCE_DATE_EPOCH, else that of its newest package's changes.

    What a root's making wrote later gets this time, so that the same packages give the same image.
    """
    named = os.environ.get("SOURCE_DATE_EPOCH", "")
    if named:
        if not named.isdigit():
            raise UsageError(f"SOURCE_DATE_EPOCH must be seconds since 1970, not {named!r}")
        return int(named)
    logs = filter(None, map(tree.located, tree.matching("usr/share/doc/*/changelog*")))
    return max((int(file.lstat().st_mtime) for _, file in logs), default=0)


def check_sources(tree: Tree) -> None:
    """Raise UsageError if the tree names a package mirror with a password, which an image would give away."""
    for file in ["etc/apt/sources.list", *tree.matching("etc/apt/sources.list.d/*")]:
        if re.search(r"://[^/\s]*@", tree.text(file) or ""):
            raise UsageError(
                f"the root's package mirror has a password (/{file}), which the image would give away",
                hint="make the root from another mirror: `invoke clean --roots`, and XBUILD_MIRROR",
            )


def write_root(layers: Sequence[Path], scratch: Path, destination: Path, epoch: int) -> None:
    """Write the root in `layers` (topmost first) as seen inside to the tar file `destination`.

    Owners are those inside. scratch: an empty directory. Raises MachineError with what tar said.
    """
    merged = scratch / "merged"
    merged.mkdir()
    where: Sandbox = replace(machine_view(), mounts=(Proc(), laid(layers, str(merged))))
    options = [f"--mtime=@{epoch}", "--clamp-mtime", f"--pax-option={_PAX}"]
    options += ["--xattrs", "--xattrs-include=security.capability"]
    options += ["--anchored", "--wildcards", *(f"--exclude={pattern}" for pattern in _LEFT_OUT)]
    said = scratch / "said"
    said.touch()
    idmap.own(said)
    with destination.open("wb") as output:
        code = run(where, ["sh", "-euc", _TAR, "sh", merged, said, *options], output=output, check=False)
    lines = said.read_text(errors="replace").splitlines()
    if code != 0:
        raise MachineError("packing the root failed", details=lines[-20:])


def entries_by_contents(pairs: Pairs, tree: Tree) -> list[table.Entry]:
    """The dispatcher's entries for a place where files have other change times: known by their contents."""
    found = []
    for entry in pairs.table:
        place = tree.find(entry.path)
        assert place is not None
        digest = table.content_digest(place.read_bytes())
        found.append(replace(entry, size=place.stat().st_size, ctime=(0, 0), digest=digest))
    return found


def write_overlay(
    roots: Roots, natives: Natives, pairs: Pairs, tree: Tree, scratch: Path, destination: Path, epoch: int
) -> None:
    """Write the tar file `destination`: /.xbuild with the twins of `pairs`, the emulator, dispatcher and enter.

    natives: what has these twins. tree: the target root that they belong to. scratch: an existing directory.
    """
    dispatch = roots.dispatcher(entries_by_contents(pairs, tree), scratch / "dispatch")
    line = roots.registrations(Path(f"{paths.PRIVATE}/{_OWN}/dispatch"))[0]
    unused = unused_programs(roots, pairs)
    top = paths.PRIVATE.lstrip("/")
    made = ("dispatch", "enter", "registration", _OWN)
    with tarfile.open(destination, "w", format=tarfile.USTAR_FORMAT) as tar:
        add_file(tar, top, natives.private, epoch, 0o755)
        add_file(tar, f"{top}/dispatch", dispatch, epoch)
        add_file(tar, f"{top}/enter", natives.enter, epoch, 0o755)
        add_file(tar, f"{top}/registration", line.encode("latin-1"), epoch)
        # A directory as the private one is.
        add_file(tar, f"{top}/{_OWN}", natives.private, epoch, 0o755)
        for path in sorted(natives.private.rglob("*")):
            name = str(path.relative_to(natives.private))
            if name not in made and f"{paths.PRIVATE}/{name}" not in unused:
                add_file(tar, f"{top}/{name}", path, epoch)
        layer = natives.layer or scratch / "none"
        for path in sorted(layer.rglob("*")):
            add_file(tar, f"{paths.LAYER.lstrip('/')}/{path.relative_to(layer)}", path, epoch)


def unused_programs(roots: Roots, pairs: Pairs) -> set[str]:
    """Native programs of the private tree, as seen inside, that no entry leads to."""
    assert roots.policy is not None
    tools = roots.policy.tools
    used = {entry.program for entry in pairs.entries}
    used |= {entry.other for entry in pairs.entries if entry.other}
    return {twin.program for twin in roots.natives().twins if not tools[twin.tool].library} - used
