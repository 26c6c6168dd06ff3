"""What of the machine a system-wide entry touches: where its files lie, who reads them at boot, whom it may trust."""

from __future__ import annotations

import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from xbuild.base import process
from xbuild.base.errors import MachineError
from xbuild.binfmt import kernel

Method = Literal["binfmt.d", "binfmt-support"]

_SYSTEMD = ("usr/lib/systemd/systemd-binfmt", "lib/systemd/systemd-binfmt")
_BINFMT_D = ("etc/binfmt.d", "run/binfmt.d", "usr/local/lib/binfmt.d", "usr/lib/binfmt.d", "lib/binfmt.d")


@dataclass(frozen=True)
class Machine:
    """root: what its paths are below. mount_point: of binfmt_misc. trusted: ids of users who may own an interpreter."""

    root: Path = Path("/")
    mount_point: Path = Path(kernel.MOUNT_POINT)
    trusted: frozenset[int] = frozenset({0})

    @property
    def records(self) -> Path:
        """What xbuild has installed, one file for each entry."""
        return self.root / "var/lib/xbuild/binfmt"

    @property
    def programs(self) -> Path:
        """Interpreters that xbuild has made."""
        return self.root / "usr/local/lib/xbuild/binfmt"

    def boot_file(self, name: str) -> Path:
        """The file for systemd-binfmt. Its own name sorts behind the distribution's: the entry made last counts."""
        return self.root / "etc/binfmt.d" / f"xbuild-{name}.conf"

    def method(self, wanted: Method | None = None) -> tuple[Method, str]:
        """Who makes the entry again at boot, and a warning, or "", where nobody does; wanted: nobody else will do."""
        systemd = any((self.root / path).exists() for path in _SYSTEMD)
        if systemd and (self.root / "run/systemd/system").is_dir():
            return "binfmt.d", ""
        if self.update_binfmts() and wanted is None:
            return "binfmt-support", ""
        lacking = "there is neither systemd nor binfmt-support"
        why = "systemd is there, but has not started this machine" if systemd else lacking
        return "binfmt.d", f"{why}: after a reboot, give the same command again"

    def update_binfmts(self) -> str | None:
        """The program of binfmt-support, if it is installed."""
        return shutil.which("update-binfmts", path="/usr/sbin:/usr/bin:/sbin:/bin")

    def is_mounted(self) -> bool:
        """Whether binfmt_misc is."""
        return (self.mount_point / "register").exists()

    def attach(self) -> None:
        """Mount it. Raises MachineError."""
        command = ["mount", "-t", "binfmt_misc", "binfmt_misc", str(self.mount_point)]
        done = process.run(command, capture=True, check=False)
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip()
            raise MachineError(f"binfmt_misc cannot be mounted: {said}", hint="as root: modprobe binfmt_misc")

    def detach(self) -> None:
        """Undo `attach`, unless somebody uses it."""
        process.run(["umount", self.mount_point], capture=True, check=False)

    def owners_of_name(self, name: str) -> list[Path]:
        """Files, of others than xbuild, that make an entry of this name at boot."""
        found = [self.root / folder / name for folder in ("usr/share/binfmts", "var/lib/binfmts")]
        for folder in _BINFMT_D:
            found += sorted((self.root / folder).glob("*.conf"))
        wanted = f"{name}:"
        return [path for path in found if path != self.boot_file(name) and path.exists() and _makes(path, name, wanted)]

    def require_trusted(self, interpreter: Path) -> None:
        """Raise MachineError if anybody but root could change what the entry starts, for every user of the machine."""
        for path in (interpreter, *interpreter.parents):
            status = path.stat()
            sticky = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
            if status.st_uid not in self.trusted or (status.st_mode & 0o022 and not sticky):
                raise MachineError(
                    f"{interpreter} cannot serve all users: others than root may write to {path}",
                    hint="install a static qemu as root: apt-get install qemu-user-static (Debian 13: qemu-user)",
                )


def _makes(path: Path, name: str, wanted: str) -> bool:
    try:
        if path.name == name:
            return True
        lines = path.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return False
    return any(line.strip()[1:].startswith(wanted) for line in lines if line.strip()[:1] not in ("#", ";", ""))
