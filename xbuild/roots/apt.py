"""What mmdebstrap and apt are told when they make roots and layers, and how they are run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from xbuild.base import paths, process
from xbuild.base.errors import MachineError
from xbuild.base.paths import BUILDER
from xbuild.model.relation import is_name
from xbuild.sandbox import run as sandboxes
from xbuild.twins import privatetree

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
cd "$1"
dpkg-deb --extract ../archives/*.deb .
dpkg-deb --show --showformat='${Package} ${Version}' ../archives/*.deb > version
"""

# As a merged root is laid out, and with the lists that dpkg would have written; scripts of packages do not run.
UNPACK_ALL = """
set -eu
cd "$1"
mkdir -p usr/bin usr/lib usr/lib64 usr/sbin var/lib/dpkg/info
for name in bin lib lib64 sbin; do ln -s "usr/$name" "$name"; done
for package in ../archives/*.deb; do
    dpkg-deb --fsys-tarfile "$package" > /tmp/files.tar
    tar --extract --verbose --keep-directory-symlink --file /tmp/files.tar > /tmp/files
    sed -e 's|^[.]||' -e 's|/$||' /tmp/files > "var/lib/dpkg/info/$(dpkg-deb --field "$package" Package).list"
done
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


def asked(packages: Iterable[str], profiles: Sequence[str] = ()) -> tuple[str, ...]:
    """The words for apt-get by which `packages` (`model.relation.Relation`) come into a root under these profiles.

    What reads Build-Depends itself is apt: alternatives, virtual packages, architectures and profiles are as it takes
    them for a source package.
    """
    words = tuple(packages)
    if all(map(is_name, words)):
        return ("install", *words)
    return ("satisfy", "-o", f"APT::Build-Profiles={','.join(profiles)}", *words)


def run_logged(
    staging: Path,
    sandbox: sandboxes.Sandbox,
    command: Sequence[str],
    complaint: str,
    hint: str = NETWORK,
    in_vain: process.InVain = process.never,
) -> None:
    """Run `command`; what it says goes to the file `log` of `staging`. Raises MachineError with `complaint`.

    in_vain: see `sandboxes.run`.
    """
    returncode, said = sandboxes.capture(sandbox, command, in_vain)
    (staging / "log").write_bytes(said)
    if returncode != 0:
        lines = said.decode(errors="replace").splitlines()
        if full := process.disk_full(lines):
            raise full
        raise MachineError(complaint, details=lines[-20:], hint=hint)
