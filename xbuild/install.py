"""What the machine needs from its distribution, and how it gets there: by commands the user has agreed to."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from xbuild import log, process
from xbuild.errors import MachineError
from xbuild.sandbox import idmap

YES = "XBUILD_YES"
"""Set to 1, it answers every question here with yes."""

SUBUID = Path("/etc/subuid")
SUBGID = Path("/etc/subgid")

FIRST_ID = 100_000
"""Where useradd starts to hand out subordinate ids (login.defs(5), SUB_UID_MIN)."""
LAST_ID = 600_100_000
"""Where it ends (SUB_UID_MAX)."""


@dataclass(frozen=True)
class Need:
    """Something that a package of Debian and Ubuntu brings.

    programs: all must be in PATH. files: one of them must be there. user_only: root does without.
    """

    package: str
    programs: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    user_only: bool = False

    def lacking(self) -> tuple[str, ...]:
        """What of it is not there: names of programs, or the first of the files."""
        if self.user_only and os.geteuid() == 0:
            return ()
        programs = tuple(name for name in self.programs if shutil.which(name) is None)
        absent = self.files and not any(Path(file).exists() for file in self.files)
        return (*programs, *(self.files[:1] if absent else ()))


NEEDS = (
    Need("mmdebstrap", ("mmdebstrap",)),
    Need("uidmap", ("newuidmap", "newgidmap"), user_only=True),
    Need("zstd", ("zstd",)),
    Need("apt", ("apt-get",)),
    Need("dpkg", ("dpkg",)),
    Need("tar", ("tar",)),
    Need(
        "debian-archive-keyring",
        files=(
            "/usr/share/keyrings/debian-archive-keyring.gpg",
            "/usr/share/keyrings/debian-archive-keyring.pgp",
        ),
    ),
    Need("ca-certificates", files=("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")),
)
"""What every build needs."""

GIT = Need("git", ("git",))
"""What only recipes with a git source need."""


def missing() -> dict[str, tuple[str, ...]]:
    """The packages that every build needs and that are not there, each with what is lacking of it."""
    return {need.package: lacking for need in NEEDS if (lacking := need.lacking())}


def missing_packages() -> list[str]:
    """The names of the packages to install."""
    return list(missing())


def as_root(command: Sequence[str]) -> list[str]:
    """`command`, with sudo before it unless we are root."""
    return [*([] if os.geteuid() == 0 else ["sudo"]), *command]


def own_command(words: Sequence[str]) -> str:
    """The line that runs a command of xbuild as root, with the program that was called now: root's PATH lacks it."""
    called = Path(sys.argv[0])
    program = str(called) if called.name in ("invoke", "inv", "xbuild") else "invoke"
    return process.show(as_root([program, *words]))


def apt_command(packages: Sequence[str]) -> str:
    """The line that installs `packages`, to be shown and pasted."""
    return process.show(as_root(["apt-get", "install", *packages]))


def offer(packages: Sequence[str], *, assume_yes: bool = False) -> bool:
    """Install `packages` if the user agrees; whether that was done.

    Agreement is `assume_yes`, XBUILD_YES=1, or yes at the prompt; being root alone is none. Without it the
    command is shown. Raises MachineError if apt-get fails.
    """
    if not packages:
        return True
    shown = apt_command(packages)
    if not _agreed(f"install {' '.join(packages)}", shown, assume_yes=assume_yes):
        return False
    install = as_root(["apt-get", "install", "-y", *packages])
    with log.paused():
        if process.run(install, check=False).returncode == 0:
            return True
        # A new machine or container has no package lists yet, or old ones.
        process.run(as_root(["apt-get", "update"]), check=False)
        returncode = process.run(install, check=False).returncode
    if returncode != 0:
        hint = "apt-get said above what is wrong"
        raise MachineError(f"{shown}: {process.describe_exit(returncode)}", hint=hint)
    return True


def needs_subordinate_ids() -> bool:
    """Whether the caller has too few subordinate ids; root never has."""
    try:
        idmap.find(SUBUID, SUBGID)
    except MachineError:
        return True
    return False


def offer_subordinate_ids(*, assume_yes: bool = False) -> bool:
    """Give the caller subordinate ids if he agrees, as in `offer`; whether he has them now.

    Raises MachineError if usermod fails, or if no range is free.
    """
    if not needs_subordinate_ids():
        return True
    command = as_root(subordinate_command())
    shown = process.show(command)
    if not _agreed("give you subordinate user and group ids", shown, assume_yes=assume_yes):
        return False
    with log.paused():
        returncode = process.run(command, check=False).returncode
    if returncode != 0:
        hint = f"a user who is not in /etc/passwd needs a line in {SUBUID} and {SUBGID}, see subuid(5)"
        raise MachineError(f"{shown}: {process.describe_exit(returncode)}", hint=hint)
    return True


def subordinate_command() -> list[str]:
    """The usermod command, without sudo, that gives the caller a range that is free in both files."""
    users = (entry.pw_uid for entry in pwd.getpwall())
    groups = (entry.gr_gid for entry in grp.getgrall())
    first = free_range([_text(SUBUID), _text(SUBGID)], [*users, *groups])
    ids = f"{first}-{first + idmap.IDS - 1}"
    return ["usermod", "--add-subuids", ids, "--add-subgids", ids, _user()]


def free_range(files: Iterable[str], used: Iterable[int] = ()) -> int:
    """The first id of 65536 that nobody has: the lowest place where useradd itself would look.

    files: contents of /etc/subuid and the like. used: further ids in use, of real users and groups.
    Raises MachineError if there is none.
    """
    taken = [(number, number) for number in used]
    for text in files:
        for line in text.splitlines():
            _, _, rest = line.partition(":")
            begin, _, count = rest.partition(":")
            if begin.isdigit() and count.isdigit() and int(count):
                taken.append((int(begin), int(begin) + int(count) - 1))
    start = FIRST_ID
    for first, last in sorted(taken):
        if first < start + idmap.IDS and last >= start:
            start = last + 1
    if start + idmap.IDS - 1 > LAST_ID:
        raise MachineError(
            f"no {idmap.IDS} free subordinate ids between {FIRST_ID} and {LAST_ID}",
            hint=f"remove ranges that nobody uses from {SUBUID} and {SUBGID}",
        )
    return start


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def may_offer(*, assume_yes: bool = False) -> bool:
    """Whether `offer` can do more than show: we can become root, and have a yes or can ask for it."""
    if os.geteuid() != 0 and shutil.which("sudo") is None:
        return False
    return _consented(assume_yes) or (sys.stdin.isatty() and sys.stderr.isatty())


def _consented(assume_yes: bool) -> bool:
    return assume_yes or os.environ.get(YES) == "1"


def confirm(question: str, *, assume_yes: bool = False) -> bool:
    """Whether the user says yes: by `assume_yes`, XBUILD_YES=1 or at the prompt; no where nobody can be asked."""
    if _consented(assume_yes):
        return True
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    with log.paused():
        log.info(f"{question} [y/N]")
        return sys.stdin.readline().strip().lower() in ("y", "yes")


def _agreed(what: str, shown: str, *, assume_yes: bool) -> bool:
    if may_offer(assume_yes=assume_yes):
        if _consented(assume_yes):
            log.info(f"running: {shown}")
            return True
        with log.paused():
            log.info(f"xbuild would {what}: {shown}")
            log.info("run this now? [y/N]")
            return sys.stdin.readline().strip().lower() in ("y", "yes")
    log.info(f"to {what}, run: {shown}")
    return False
