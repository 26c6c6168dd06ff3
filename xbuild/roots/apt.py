"""What mmdebstrap and apt are told when they make roots and layers, and how they are run."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from xbuild.base import paths, process
from xbuild.base.errors import MachineError
from xbuild.base.paths import BUILDER
from xbuild.sandbox import run as sandboxes
from xbuild.sandbox.mounts import Bind, Mount, Tmpfs
from xbuild.twins import privatetree

_PLAIN = re.compile(r"[A-Za-z0-9/._+@-]+")

# Done to every root, while mmdebstrap still has it in its hands. No service may start in a root.
CUSTOMIZE = f"""
mkdir -p "$1{paths.PRIVATE}" "$1{paths.BUILD}" "$1{privatetree.WORKPLACE}"
echo "builder:x:{BUILDER}:{BUILDER}::{paths.BUILD}:/bin/sh" >> "$1/etc/passwd"
echo "builder:x:{BUILDER}:" >> "$1/etc/group"
printf '#!/bin/sh\\nexit 101\\n' > "$1/usr/sbin/policy-rc.d"
chmod 755 "$1/usr/sbin/policy-rc.d"
echo xbuild > "$1/etc/hostname"
"""

CONFIG = """
Dir "{root}";
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Retries "2";
DPkg::Chroot-Directory "{root}";
DPkg::Options {{ "--force-unsafe-io"; }};
DPkg::Use-Pty "false";
Dir::Log::Terminal "/dev/null";
Dir::Etc::sourcelist "{answer}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::State::lists "{lists}";
"""

UNPACK = """
set -eu
cd "$2"
apt-get -qq download -- "$1"
dpkg-deb --extract ./*.deb .
dpkg-deb --show --showformat='${Package} ${Version}' ./*.deb > version
rm ./*.deb
"""

# As a merged root is laid out, and with the lists that dpkg would have written; scripts of packages do not run.
UNPACK_ALL = """
set -eu
cd "$1"
shift
mkdir -p usr/bin usr/lib usr/lib64 usr/sbin var/lib/dpkg/info fetched
for name in bin lib lib64 sbin; do ln -s "usr/$name" "$name"; done
(cd fetched && apt-get -qq download -- "$@")
for package in fetched/*.deb; do
    dpkg-deb --fsys-tarfile "$package" > fetched/files.tar
    tar --extract --verbose --keep-directory-symlink --file fetched/files.tar > fetched/files
    sed -e 's|^[.]||' -e 's|/$||' fetched/files > "var/lib/dpkg/info/$(dpkg-deb --field "$package" Package).list"
done
rm -r fetched
"""


# What an imported root says about apt may be meant for a machine, not for a layer; and a first install is no upgrade.
INSIDE = ("-qq", "-y", "-o", "APT::Install-Recommends=false", "-o",
               "APT::Sandbox::User=root", "-o", "Acquire::Retries=2", "-o", "DPkg::Options::=--force-unsafe-io",
               "-o", "Dpkg::Use-Pty=false")  # fmt: skip
INSTALL_INSIDE = """
apt-get "$@" || { eval "apt-get $APT_WORDS update" && apt-get "$@"; } || exit 1
apt-get clean
"""


NETWORK = "is the network there? XBUILD_MIRROR names another package mirror"
"""An advice."""


def shown(*places: Path) -> tuple[list[Mount], list[Path]]:
    """Mounts for `machine_sandbox`, and where the directories `places` are to be seen then.

    mmdebstrap and apt write paths into settings, and take none with a quote or a line break.
    """
    if all(_PLAIN.fullmatch(str(place)) for place in places):
        return [], list(places)
    # Whatever lies in the machine's own, they do not need it.
    window = next(path for path in map(Path, ("/boot", "/mnt", "/media", "/srv")) if path.is_dir())
    seen = [window / str(number) for number in range(len(places))]
    return [Tmpfs(str(window)), *(Bind(str(place), str(name)) for place, name in zip(places, seen, strict=True))], seen


def run_logged(
    staging: Path,
    sandbox: sandboxes.Sandbox,
    command: Sequence[str],
    complaint: str,
    hint: str = NETWORK,
) -> None:
    """Run `command`; what it says goes to the file `log` of `staging`. Raises MachineError with `complaint`."""
    returncode, said = sandboxes.capture(sandbox, command)
    (staging / "log").write_bytes(said)
    if returncode != 0:
        lines = said.decode(errors="replace").splitlines()
        if full := process.disk_full(lines):
            raise full
        raise MachineError(complaint, details=lines[-20:], hint=hint)


def machine_sandbox(
    cwd: Path, mounts: Sequence[Mount], registrations: tuple[str, ...], env: Mapping[str, str] | None = None
) -> sandboxes.Sandbox:
    """With the machine's files and network, for tools that make roots from outside."""
    plain = {"PATH": sandboxes.ROOT_PATH, "LC_ALL": "C.UTF-8", "TMPDIR": tempfile.gettempdir(), **(env or {})}
    return sandboxes.Sandbox(
        mounts=tuple(mounts),
        registrations=registrations,
        env=plain,
        network=True,
        cwd=str(cwd),
    )
