"""What the tests of `invoke run` and `invoke shell` share: small programs for targets, and commands on a terminal."""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from pathlib import Path

from tests.e2e.command_line import CHECKOUT, Xbuild
from xbuild.base import paths
from xbuild.model.load import load_toolchain
from xbuild.sandbox.run import give_tree
from xbuild.session.run import roots_of
from xbuild.store.own import open_store
from xbuild.twins.privatetree import run_native

DATA = CHECKOUT / "tests/e2e/data"


def compile_hello(target: str, place: Path) -> None:
    """Make place/TARGET-static and place/TARGET-dynamic of hello.c, with the store's own cross compiler."""
    toolchain = load_toolchain(target, paths.PACKAGE.parent)
    natives = roots_of(toolchain, open_store()).natives()
    work = place / f"work-{target}"
    (work / "private").mkdir(parents=True)
    shutil.copy(DATA / "hello.c", work)
    give_tree(0, [work])
    script = f"{toolchain.triplet}-gcc -o dynamic hello.c; {toolchain.triplet}-gcc -static -o static hello.c"
    run_native(natives.trees["amd64"], work, script, {})
    for kind in ("static", "dynamic"):
        shutil.copy(work / kind, place / f"{target}-{kind}")


def prebuilt_hello(place: Path) -> None:
    """The same for riscv64, for which the store has no compiler: the root's own static program, and a finished one."""
    toolchain = load_toolchain("riscv64", paths.PACKAGE.parent)
    shutil.copy(DATA / "hello-riscv64", place / "riscv64-dynamic")
    shutil.copy(roots_of(toolchain, open_store()).base() / "usr/sbin/ldconfig", place / "riscv64-static")


def hear_the_terminal() -> None:
    """A test run in the background ignores ^C and company, and hands that on to all that it starts (signal(7))."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP):
        signal.signal(number, signal.SIG_DFL)


class Terminal:
    """`invoke WORDS` on a terminal of its own, as somebody sits at it."""

    def __init__(self, xbuild: Xbuild, words: Sequence[str], size: tuple[int, int] = (33, 101)) -> None:
        self.master, slave = os.openpty()
        self.name = os.ttyname(slave)
        self.said = ""
        self.resize(*size)

        def take_terminal() -> None:
            hear_the_terminal()
            os.login_tty(slave)

        self.process = subprocess.Popen(
            [sys.executable, "-m", "invoke", *words],
            cwd=CHECKOUT,
            env={**xbuild.environment(), "TERM": "xterm"},
            preexec_fn=take_terminal,
            pass_fds=(slave,),
        )
        os.close(slave)

    def resize(self, rows: int, columns: int) -> None:
        """Give the terminal another size."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        """Type `text`."""
        os.write(self.master, text.encode())

    def wait_for(self, text: str, seconds: float = 120) -> str:
        """Wait until `text` is on the terminal; give, and forget, all up to its end."""
        end = time.monotonic() + seconds
        while text not in self.said:
            assert time.monotonic() < end, f"no {text!r} within {seconds} s, but: {self.said!r}"
            if select.select([self.master], [], [], 1)[0]:
                try:
                    self.said += os.read(self.master, 65536).decode(errors="replace")
                except OSError:
                    raise AssertionError(f"it ended without {text!r}: {self.said!r}") from None
        before, _, self.said = self.said.partition(text)
        return before + text

    def ended(self) -> int:
        """The exit code, once it has ended."""
        while self.process.poll() is None:
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    self.said += os.read(self.master, 65536).decode(errors="replace")
                except OSError:
                    break
        code = self.process.wait(60)
        os.close(self.master)
        return code
