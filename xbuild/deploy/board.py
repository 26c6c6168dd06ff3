"""A board, asked by ssh: what is there, and what is to be done, with no more than busybox has."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import shutil
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from xbuild.base import log, process
from xbuild.base.errors import MachineError, UsageError
from xbuild.base.walk import shown
from xbuild.deploy.plan import ABSENT, OTHER, UNREADABLE, Listed, State

LISTS = "var/lib/xbuild/deployed"
"""Where, below the directory that is deployed to, the lists of what was put there lie: one for each artifact."""

_UNREACHED = 255
"""How ssh ends if there was no connection (ssh(1), EXIT STATUS)."""
_WAIT = 20
"""Seconds for a connection to be made; TCP's own limit is two minutes."""
_STAY = 20
"""Seconds that a connection stays for the next question: a password is asked for once."""
_BOARD = "XBUILD_BOARD"

# One line each, for the shell that somebody has on a board may be no sh.
_HELLO = (
    'if [ -d "$1" ]; then cd -- "$1"; echo there; elif [ -e "$1" ]; then echo other; else echo absent; fi; '
    "if command -v rsync > /dev/null; then echo rsync; else echo tar; fi; "
    'if [ -e "$2" ] || [ -e "$1/$2" ]; then echo runs; else echo -; fi; '
    f'if [ -d "$1" ] && [ -d {LISTS} ]; then exec tar -cf - {LISTS}; fi'
)
_KINDS = (
    'cd -- "$1"; exec xargs -0 sh -c \'for p; do if [ -L "$p" ]; then '
    'if [ -d "$p" ]; then printf "ld "; else printf "l "; fi; readlink "$p" | sha256sum; '
    'elif [ -d "$p" ]; then echo d; elif [ -f "$p" ]; then if [ -r "$p" ]; then echo f; else echo u; fi; '
    "elif [ -e \"$p\" ]; then echo o; else echo -; fi; done' sh"
)
_SUMS = 'cd -- "$1"; exec xargs -0 sh -c \'echo "$#"; stat -c %a "$@"; sha256sum "$@"\' sh'
_SUM = 'cd -- "$1"; exec xargs -0 sh -c \'for p; do echo 1; stat -c %a "$p"; sha256sum < "$p"; done\' sh'
_LIST = (
    f'mkdir -p -- "$1"; cd -- "$1"; mkdir -p {LISTS}; cat > "{LISTS}/.$2.new"; mv "{LISTS}/.$2.new" "{LISTS}/$2"'
)
_UNPACK = 'cd -- "$1"; exec tar -xpf -'
_CHMOD = 'cd -- "$1"; exec xargs -0 chmod "$2"'
_REMOVE = 'cd -- "$1"; exec xargs -0 rm -f'
_EMPTY = "cd -- \"$1\"; exec xargs -0 sh -c 'for p; do rmdir \"$p\" 2> /dev/null || :; done' sh"

_HINTS = (
    (r"[Pp]ermission denied|not permitted", "log in as one who may write there (root@BOARD), or --prefix DIR"),
    (r"No space left", "free some space there"),
    (r"Read-only file system", "make it writable there (mount -o remount,rw), or --prefix DIR"),
)


@dataclass(frozen=True)
class Hello:
    """What a board says first. there: whether the directory is. rsync: whether it has that. loader: and this.

    lists: of what was put there, by the name of the artifact.
    """

    there: bool
    rsync: bool
    loader: bool
    lists: Mapping[str, Listed]


class Board:
    """A board. name: as ssh has it. directory: on the board, what is deployed to. scratch: a directory of our own, by a
    short path; control: where in it ssh keeps the connection.
    """

    def __init__(self, name: str, directory: str, scratch: Path) -> None:
        self.name = name
        self.directory = directory
        self.control = scratch / "c"

    @property
    def _ssh(self) -> list[str]:
        options = {
            "ConnectTimeout": str(_WAIT),
            "ControlMaster": "auto",
            "ControlPath": str(self.control),
            "ControlPersist": str(_STAY),
        }
        return ["ssh", "-T", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]

    def close(self) -> None:
        """End the connection."""
        if self.control.exists():
            process.run([*self._ssh, "-O", "exit", "--", self.name], capture=True, check=False)
            # ssh removes it when it comes to it, which may be while the directory is being removed.
            self.control.unlink(missing_ok=True)

    def hello(self, loader: str) -> Hello:
        """Ask for what comes before all else. loader: the target's. Raises MachineError if it cannot be reached."""
        said = self._ask(_HELLO, words=[loader])
        there, tool, runs, rest = (*said.split(b"\n", 3), b"", b"", b"", b"")[:4]
        self._require(there in (b"there", b"other", b"absent") and tool in (b"rsync", b"tar"))
        if there == b"other":
            raise UsageError(f"{self.directory} on {self.name} is no directory", hint="name another one by --prefix")
        return Hello(there == b"there", tool == b"rsync", runs == b"runs", dict(self._lists(rest)))

    def _lists(self, packed: bytes) -> Iterator[tuple[str, Listed]]:
        if not packed:
            return
        with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
            for member in tar:
                stream = tar.extractfile(member) if member.isreg() and member.name.endswith(".json") else None
                if stream is None:
                    continue
                try:
                    yield Path(member.name).name, Listed.of(json.load(stream))
                except (ValueError, KeyError, TypeError, AttributeError):
                    log.warn(f"{self.name}: {shown(member.name)} is damaged, or another version's, and was ignored")

    def states(self, paths: Sequence[str]) -> dict[str, State]:
        """What is at each of these paths."""
        said = self._ask(_KINDS, paths).decode(errors="replace").splitlines() if paths else []
        self._require(len(said) == len(paths))
        kinds = dict(zip(paths, said, strict=True))
        files = [path for path, kind in kinds.items() if kind == "f"]
        # sha256sum has an escape for names with a backslash or newline, and busybox has none.
        plain = [path for path in files if not re.search(r"[\\\n]", path)]
        odd = [path for path in files if path not in set(plain)]
        sums = {**self._sums(_SUMS, plain), **self._sums(_SUM, odd)}
        return {path: sums[path] if kind == "f" else _state(kind) for path, kind in kinds.items()}

    def _sums(self, script: str, paths: Sequence[str]) -> dict[str, State]:
        lines = iter(self._ask(script, paths).decode(errors="replace").splitlines() if paths else ())
        found: list[State] = []
        for count in lines:
            number = int(count) if count.isdigit() else 0
            modes = [next(lines, "") for _ in range(number)]
            sums = [next(lines, "")[:64] for _ in range(number)]
            self._require(all(re.fullmatch(r"[0-7]+", mode) for mode in modes))
            found += [State("file", digest=sum, mode=int(mode, 8)) for mode, sum in zip(modes, sums, strict=True)]
        self._require(len(found) == len(paths))
        return dict(zip(paths, found, strict=True))

    def _require(self, sensible: bool) -> None:
        if not sensible:
            hint = "it needs sh, xargs -0, stat, sha256sum and tar, and a login that prints nothing by itself"
            raise MachineError(f"the answer of {self.name} cannot be read", hint=hint)

    def write_list(self, name: str, listed: Listed) -> None:
        """Let the board keep the list for the artifact `name`; the directory is made if it is not there."""
        text = json.dumps(listed.as_json(), indent=1) + "\n"
        self._ask(_LIST, words=[name], data=text.encode())

    def unpack(self, tar: Path, odd: Mapping[int, Sequence[str]]) -> None:
        """Unpack it there. odd: paths with modes that not every tar gives to files: set-uid, set-gid, sticky."""
        with tar.open("rb") as stream:
            self._ask(_UNPACK, data=stream)
        for mode, paths in odd.items():
            self._ask(_CHMOD, paths, words=[f"{mode:o}"])

    def rsync(self, tree: Path, paths: Sequence[str], scratch: Path) -> None:
        """Send these paths of the directory `tree`. Directories that are there stay as they are, links to some too."""
        names = scratch / "names"
        names.write_bytes(b"".join(os.fsencode(path) + b"\0" for path in paths))
        # rsync has a syntax of its own for names of machines; ours goes past it.
        remote = f"sh -c 'shift; exec {shlex.join(self._ssh)} -- \"${_BOARD}\" \"$@\"' sh"
        command = [
            "rsync", "--from0", f"--files-from={names}", "--links", "--perms", "--times", "--hard-links",
            "--omit-dir-times", "--ignore-times", "--no-implied-dirs", "--keep-dirlinks", "--protect-args",
            "-e", remote, f"{tree}/", f"board:{self.directory.rstrip('/')}/",
        ]  # fmt: skip
        self._run(command, env={**os.environ, _BOARD: self.name})

    def remove(self, files: Sequence[str], directories: Sequence[str]) -> None:
        """Remove files and links, and then directories that are empty."""
        for script, paths in ((_REMOVE, files), (_EMPTY, directories)):
            if paths:
                self._ask(script, paths)

    def _ask(
        self, script: str, paths: Sequence[str] = (), *, words: Sequence[str] = (), data: bytes | IO[bytes] = b""
    ) -> bytes:
        """What the board says. script: one line of sh; its words are the directory and `words`. paths: for xargs -0."""
        remote = shlex.join(["exec", "sh", "-euc", script, "sh", self.directory, *words])
        return self._run([*self._ssh, "--", self.name, remote], data=_ended(paths) if paths else data)

    def _run(
        self, command: Sequence[str], *, data: bytes | IO[bytes] = b"", env: Mapping[str, str] | None = None
    ) -> bytes:
        # It may ask for a password, on the terminal.
        with log.paused():
            done = process.run(command, capture=True, check=False, input=data, env=env)
        if done.returncode == 0:
            return done.stdout
        lines = done.stderr.decode(errors="replace").splitlines()[-10:]
        if done.returncode == _UNREACHED or "Host key verification failed." in lines:
            hint = f"try it: {shlex.join(['ssh', self.name, 'true'])}"
            raise MachineError(f"{self.name} cannot be reached by ssh", details=lines, hint=hint)
        hints = [hint for pattern, hint in _HINTS if any(re.search(pattern, line) for line in lines)]
        what = process.describe_exit(done.returncode)
        raise MachineError(f"a command on {self.name} failed ({what})", details=lines, hint=next(iter(hints), None))


def _state(kind: str) -> State:
    word, _, digest = kind.partition(" ")
    known = {"d": State("directory", directory=True), "u": State(UNREADABLE), "o": State(OTHER), "-": State(ABSENT)}
    return State("link", word == "ld", digest[:64]) if word in ("l", "ld") else known.get(word, State(OTHER))


def _ended(paths: Sequence[str]) -> bytes:
    # None of them begins with a dash then.
    return b"".join(b"./" + os.fsencode(path) + b"\0" for path in paths)


@contextlib.contextmanager
def connected(name: str, directory: str, scratch: Path) -> Iterator[Board]:
    """The board `name`; the connection ends with the block. scratch: a directory, for its socket.

    Raises UsageError if that is no name, MachineError.
    """
    if not name or name.startswith("-") or not name.isprintable() or re.search(r"\s", name):
        hint = "as ssh has it: BOARD, USER@BOARD, or a name of ~/.ssh/config"
        raise UsageError(f"{shown(name)!r} is no board", hint=hint)
    if not directory or "\0" in directory or "\n" in directory:
        raise UsageError(f"--prefix {shown(directory)!r} is no directory")
    if shutil.which("ssh") is None:
        raise MachineError("program not found: ssh", hint="its package is openssh-client")
    folder = os.open(scratch, os.O_PATH | os.O_DIRECTORY)
    try:
        # Wherever the store lies: the path of a socket has 108 bytes, and ssh needs some of them for itself.
        board = Board(name, directory, Path(f"/proc/{os.getpid()}/fd/{folder}"))
        try:
            yield board
        finally:
            board.close()
    finally:
        os.close(folder)
