"""What the machine needs from its distribution, and how it gets there: by commands the user has agreed to."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from xbuild.base import log, process
from xbuild.base.errors import MachineError
from xbuild.sandbox import idmap

YES = "XBUILD_YES"
"""Set to 1, it answers every question here with yes."""

SUBUID = Path("/etc/subuid")
SUBGID = Path("/etc/subgid")
LISTS = Path("/var/lib/apt/lists")

FIRST_ID = 100_000
"""Where useradd starts to hand out subordinate ids (login.defs(5), SUB_UID_MIN)."""
LAST_ID = 600_100_000
"""Where it ends (SUB_UID_MAX)."""

LOCK_SECONDS = 300.0
"""How long another package manager is waited for: a new machine updates itself in its first minutes."""
LOCK_STEP = 3.0
"""Seconds between two tries."""
_LOCKED = re.compile(r"Could not get lock.*|cannot lock /etc/.*")
"""What apt-get and usermod say then."""
_STALE = re.compile(r"Unable to locate package|has no installation candidate|404 +Not Found|Failed to fetch")
"""What apt-get says where its lists are old, or lack a part."""

_UPDATE = ["apt-get", "update"]

_HINTS = (
    (r"dpkg was interrupted", "an earlier installation was cut off: as root, dpkg --configure -a"),
    (
        r"Sub-process \S*dpkg returned an error|unmet dependencies",
        "a package of this machine is not in order; the lines above name it. As root: dpkg --configure -a, "
        "then apt-get -f install",
    ),
    (_LOCKED.pattern, "another package manager runs on this machine: wait until it is done"),
    (r"Failed to fetch|Could not resolve|Could not connect|connect to", "is the network there?"),
    (
        r"Unable to locate package|no installation candidate",
        "the machine's apt sources do not offer it: Debian has it in main, Ubuntu in universe",
    ),
    (r"No space left|enough free space", "the disk is full: free some space"),
    (r"does not exist in /etc/passwd|does not exist", f"write a line into {SUBUID} and {SUBGID}, see subuid(5)"),
)


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


def as_root(command: Sequence[str]) -> list[str]:
    """`command`, with sudo before it unless we are root."""
    return [*([] if os.geteuid() == 0 else ["sudo"]), *command]


def own_command(words: Sequence[str]) -> str:
    """The line that runs a command of xbuild as root, with the program that was called now: root's PATH lacks it."""
    called = Path(sys.argv[0])
    program = [str(called)] if called.name in ("invoke", "inv", "xbuild") else ["invoke"]
    if called.name == "__main__.py":
        program = [sys.executable, "-m", called.parent.name]
    return process.show(as_root([*program, *words]))


def apt_words(packages: Iterable[str]) -> list[str]:
    """The command that installs `packages`, without sudo. Not what they recommend: that is not needed here."""
    return ["apt-get", "install", "-y", "--no-install-recommends", *packages]


@dataclass(frozen=True)
class Lack:
    """What the machine lacks for builds, and what mends it. packages: as `missing`. ids: whether ids are lacking."""

    packages: dict[str, tuple[str, ...]]
    ids: bool

    def __bool__(self) -> bool:
        return bool(self.packages) or self.ids

    def commands(self) -> list[list[str]]:
        """What root has to run, without sudo. Raises MachineError if no range of ids is free."""
        # A new machine or container has no package lists yet.
        found = [_UPDATE] if self.packages and not any(LISTS.glob("*_Packages*")) else []
        found += [apt_words(self.packages)] if self.packages else []
        if self.ids:
            # usermod takes no option for a file that is not there.
            absent = [str(file) for file in (SUBUID, SUBGID) if not file.exists()]
            # Not touch: sudo adds the user's umask to its own.
            found += [["install", "-m", "644", "/dev/null", file] for file in absent]
            found.append(subordinate_command())
        return found

    def described(self) -> str:
        """In words."""
        said = [f"packages {', '.join(self.packages)}"] if self.packages else []
        if self.ids:
            said.append(f"subordinate ids {self.commands()[-1][2]} for {_user()}")
        return "; ".join(said)

    def line(self, *, sudo: bool = True) -> str:
        """One line that mends all of it, to be pasted by the user; without sudo: by root."""
        if self.packages and shutil.which("apt-get") is None:
            named = " ".join(name for lacking in self.packages.values() for name in lacking)
            return f"there is no apt-get here: this machine's own package manager has to bring {named}"
        sudo = sudo and (os.geteuid() == 0 or shutil.which("sudo") is not None)
        line = " && ".join(process.show(as_root(words) if sudo else words) for words in self.commands())
        return line if sudo else f"as root: {line}"

    def obstacle(self) -> str | None:
        """Why we cannot mend it; None if we can, or if sudo can ask the user for his password."""
        if self.packages and shutil.which("apt-get") is None:
            return "there is no apt-get"
        if os.geteuid() == 0:
            return None
        if shutil.which("sudo") is None:
            return f"there is no sudo, and {_user()} is not root"
        if _terminal():
            return None
        # Asked of each program, for a rule may allow these alone.
        for program in dict.fromkeys(words[0] for words in self.commands()):
            done = process.run(["sudo", "-n", program, "--help"], capture=True, check=False)
            if done.returncode != 0:
                said = " ".join(done.stderr.decode(errors="replace").split("\n")[-2:]).strip()
                return f"sudo does not let {_user()} run {program} without a password ({said})"
        return None


def lack() -> Lack:
    """What is lacking here."""
    return Lack(missing(), needs_subordinate_ids())


def set_up(*, assume_yes: bool = False) -> None:
    """Install what is lacking, if the user agrees: by `assume_yes`, XBUILD_YES=1, or yes at the prompt.

    Being root alone is no agreement. Where nobody agrees nothing is done, nor said. Raises MachineError, with the
    line for the administrator, where the user agrees and may not, and for what fails.
    """
    lacking = lack()
    if not lacking or not (consented(assume_yes) or _terminal()):
        return
    if obstacle := lacking.obstacle():
        if consented(assume_yes):
            complaint = f"this machine lacks {lacking.described()}; {obstacle}"
            raise MachineError(complaint, hint=lacking.line(sudo=False))
        return
    log.info(f"xbuild needs on this machine: {lacking.described()}")
    if not consented(assume_yes):
        log.info(lacking.line())
    if confirm("run this now?", assume_yes=assume_yes):
        with log.paused():
            _mend(lacking)


def _mend(lacking: Lack) -> None:
    lists = ""
    for words in lacking.commands():
        code, said = _run(words)
        if code != 0 and not lists and words != _UPDATE and _STALE.search(said):
            # It ends with 0 even if some lists could not be had; what it says of them is the reason then.
            lists = _run(_UPDATE)[1]
            code, said = _run(words)
        if code != 0:
            # sudo's refusal above all has no other remedy.
            raise _failure(words, code, said, lists, otherwise=lacking.line(sudo=False))
        lists = said if words == _UPDATE else lists


def _run(words: Sequence[str]) -> tuple[int, str]:
    """Run a command as root; its returncode, and what it said. A lock that another one holds is waited for."""
    command = as_root(words)
    log.info(f"running: {process.show(command)}")
    if command[0] == "sudo" and not _terminal():
        command.insert(1, "-n")
    # What it says is looked at, and it can ask nobody: its stdin is /dev/null.
    env = {**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    until, told = time.monotonic() + LOCK_SECONDS, False
    while True:
        with _held_signals():
            done = process.run(command, env=env, capture=True, check=False)
        said = (done.stdout + done.stderr).decode(errors="replace")
        locked = _LOCKED.search(said)
        if done.returncode == 0 or locked is None or time.monotonic() >= until:
            return done.returncode, said
        if not told:
            log.info(f"waiting for another package manager, at most {log.human_time(LOCK_SECONDS)}: {locked[0]}")
            told = True
        time.sleep(LOCK_STEP)


def _failure(words: Sequence[str], code: int, said: str, before: str, *, otherwise: str) -> MachineError:
    """What to tell of a command that failed. before: what was said earlier. otherwise: the hint if none is known."""
    hint = next((hint for pattern, hint in _HINTS if re.search(pattern, before + said)), otherwise)
    complaint = f"{process.show(as_root(words))}: {process.describe_exit(code)}"
    lines = [line for line in said.splitlines() if not line.startswith("(Reading database ...")]
    return MachineError(complaint, details=lines[-20:], hint=hint)


@contextlib.contextmanager
def _held_signals() -> Iterator[None]:
    """Signals that would end us come after the block: dpkg must not be cut off, and sudo's children are not ours."""
    came: list[int] = []
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for number, handler in former.items():
        # Ignored stays ignored, for the children too.
        if handler is not signal.SIG_IGN:
            signal.signal(number, lambda number, _frame: came.append(number))
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def needs_subordinate_ids() -> bool:
    """Whether the caller has too few subordinate ids; root never has."""
    try:
        idmap.find(SUBUID, SUBGID)
    except MachineError:
        return True
    return False


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


def consented(assume_yes: bool) -> bool:
    """Whether the user has said yes beforehand."""
    return assume_yes or os.environ.get(YES) == "1"


def _terminal() -> bool:
    """Whether the user can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def confirm(question: str, *, assume_yes: bool = False) -> bool:
    """Whether the user says yes: by `assume_yes`, XBUILD_YES=1 or at the prompt; no where nobody can be asked."""
    if consented(assume_yes):
        return True
    if not _terminal():
        return False
    with log.paused():
        log.info(f"{question} [y/N]")
        return sys.stdin.readline().strip().lower() in ("y", "yes")
