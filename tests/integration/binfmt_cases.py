"""Runs in a user namespace of its own: starts files of all sorts, and tells for each what xbuild says and what is so.

    python binfmt_cases.py QEMU ARM_ROOT

QEMU: a static qemu-arm. ARM_ROOT: an armhf root. Writes one JSON object: by name of the case, cause and verdict of the
explanation, and what the kernel did: the errno of execve, else how the program ended.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xbuild.binfmt import kernel
from xbuild.binfmt.entry import Entry, register_line
from xbuild.binfmt.explain import Explainer
from xbuild.binfmt.render import for_architecture
from xbuild.doctor import programs
from xbuild.formats.elf import with_interpreter

BINFMT = Path(kernel.MOUNT_POINT)
SECONDS = 20


def really(path: str, root: Path) -> dict[str, Any]:
    """What comes of execve(path) in `root`: {"errno": NAME} or {"ended": returncode}."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            nothing = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(nothing, descriptor)
            signal.alarm(SECONDS)
            os.chroot(root)
            os.chdir("/")
            os.execve(path, [path], {"PATH": "/usr/bin:/bin"})
        except OSError as error:
            os.write(writing, str(error.errno).encode())
        os._exit(99)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        said = stream.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return {"errno": errno.errorcode[int(said)]} if said else {"ended": status}


class Cases:
    """The cases so far."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.found: dict[str, dict[str, Any]] = {}

    def ask(self, name: str, path: Path | str, root: Path = Path("/")) -> None:
        """What xbuild says of `path`, and what is so."""
        environ = {"PATH": "/usr/bin:/bin"}
        answer = Explainer(kernel.look(others=False), root, environ=environ).explain(str(path))
        self.found[name] = {**answer.as_json(), "real": really(str(path), root)}

    def write(self, name: str, data: bytes, mode: int = 0o755) -> Path:
        """A file."""
        path = self.place / name
        path.write_bytes(data)
        path.chmod(mode)
        return path

    @contextmanager
    def entry(self, entry: Entry) -> Iterator[None]:
        """Inside the block, the kernel has it."""
        (BINFMT / "register").write_bytes(register_line(entry).encode())
        yield
        (BINFMT / entry.name).write_bytes(b"-1")


def machine(program: bytes, number: int, *, big: bool = False) -> bytes:
    """The header of `program` changed to another machine."""
    changed = bytearray(program)
    if big:
        changed[5] = 2
        struct.pack_into(">HH", changed, 16, 2, number)
    else:
        struct.pack_into("<H", changed, 18, number)
    return bytes(changed)


def foreign(cases: Cases) -> None:
    """Programs for machines without an entry, and with one that does not count."""
    arm = programs.arm()
    cases.ask("no entry", cases.write("riscv", machine(arm, 243)))
    cases.ask("other byte order", cases.write("armeb", machine(arm, 40, big=True)))
    cases.ask("static", cases.write("arm", arm))
    (BINFMT / "qemu-arm").write_bytes(b"0")
    cases.ask("entry disabled", cases.place / "arm")
    (BINFMT / "qemu-arm").write_bytes(b"1")
    (BINFMT / "status").write_bytes(b"0")
    cases.ask("all disabled", cases.place / "arm")
    (BINFMT / "status").write_bytes(b"1")
    cases.ask("cut in the header", cases.write("riscv-cut", machine(arm, 243)[:40]))
    cases.ask("cut, and taken", cases.write("arm-cut", arm[:40]))
    cases.ask("cut in its code", cases.write("arm-half", arm[:-6]))
    cases.ask("object", cases.write("object", arm[:16] + b"\1\0" + arm[18:]))
    cases.ask("native object", cases.write("x86-object", machine(programs.i386(), 3)[:16] + b"\1\0" + arm[18:]))


def files(cases: Cases) -> None:
    """What is wrong before anything is loaded."""
    arm = programs.arm()
    cases.ask("mode 0644", cases.write("plain", arm, 0o644))
    cases.ask("not there", cases.place / "nothing")
    (cases.place / "dangling").symlink_to("nothing")
    (cases.place / "circle").symlink_to("circle")
    (cases.place / "link").symlink_to("arm")
    cases.ask("dangling link", cases.place / "dangling")
    cases.ask("circle of links", cases.place / "circle")
    cases.ask("link", cases.place / "link")
    cases.ask("directory", cases.place)
    cases.ask("behind a file", cases.place / "arm/x")
    cases.ask("empty", cases.write("empty", b""))
    cases.ask("data", cases.write("data", b"\0\1\2\3" * 20))
    tmpfs = cases.place / "noexec"
    tmpfs.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "noexec", "tmpfs", tmpfs], check=True)
    shutil.copy(cases.place / "arm", tmpfs)
    cases.ask("noexec", tmpfs / "arm")


def scripts(cases: Cases) -> None:
    """`#!`, right and wrong."""
    arm = cases.place / "arm"
    cases.ask("script", cases.write("s", b"#!/bin/sh\nexit 7\n"))
    cases.ask("script of an ARM program", cases.write("sa", b"#! %s  a b\n" % os.fsencode(arm)))
    cases.ask("script without a last line end", cases.write("sn", b"#!/bin/sh"))
    cases.ask("carriage returns", cases.write("crlf", b"#!/bin/sh\r\nexit 7\r\n"))
    cases.ask("no such interpreter", cases.write("si", b"#!/nowhere/sh\n"))
    cases.ask("interpreter not executable", cases.write("sx", b"#!%s\n" % os.fsencode(cases.place / "plain")))
    cases.ask("nothing behind #!", cases.write("s0", b"#!  \nexit\n"))
    cases.ask("a long line", cases.write("sl", b"#!/" + b"x" * 300 + b"\n"))
    cases.ask("long arguments", cases.write("sla", b"#!/bin/true " + b"x" * 300 + b"\n"))
    cases.ask("byte order mark", cases.write("bom", b"\xef\xbb\xbf#!/bin/sh\n"))
    cases.ask("no #!", cases.write("text", b"echo hello\n"))
    cases.ask("env", cases.write("env", b"#!/usr/bin/env no-such-program-here\n"))
    last = cases.write("c0", b"#!/bin/true\n")
    for number in range(1, 6):
        last = cases.write(f"c{number}", b"#!%s\n" % os.fsencode(last))
        if number == 4:
            cases.ask("five interpreters", last)
    cases.ask("six interpreters", last)


def native(cases: Cases) -> None:
    """Programs of the machine itself, in roots that lack something."""
    true = Path(os.path.realpath(shutil.which("true") or "/bin/true")).read_bytes()
    cases.ask("native", "/bin/true")
    root = cases.place / "root"
    (root / "bin").mkdir(parents=True)
    cases.write("root/bin/true", true)
    cases.ask("loader missing", "/bin/true", root)
    loader = Path(os.path.realpath("/lib64/ld-linux-x86-64.so.2"))
    (root / "lib64").mkdir()
    shutil.copy(loader, root / "lib64/ld-linux-x86-64.so.2")
    cases.ask("library missing", "/bin/true", root)
    (root / "lib64/ld-linux-x86-64.so.2").write_text("no loader\n")
    cases.ask("loader is short", "/bin/true", root)
    (root / "lib64/ld-linux-x86-64.so.2").write_text("no loader\n" * 20)
    cases.ask("loader is no ELF file", "/bin/true", root)
    (root / "lib64/ld-linux-x86-64.so.2").chmod(0o644)
    cases.ask("loader not executable", "/bin/true", root)
    cases.ask("cut native program", cases.write("true-cut", true[: len(true) // 2]))
    cases.ask("other loader", cases.write("true-ld", with_interpreter(true, "/no/ld.so")))


def emulated(cases: Cases, arm_root: Path) -> None:
    """Dynamic ARM programs, in their root and outside of it."""
    cases.ask("dynamic in its root", "/usr/bin/true", arm_root)
    cases.ask("script in its root", "/usr/bin/ldd", arm_root)
    shutil.copy(arm_root / "usr/bin/true", cases.place / "arm-true")
    cases.ask("dynamic outside of its root", cases.place / "arm-true")
    shutil.copy(cases.place / "arm", cases.place / "arm-setuid")
    (cases.place / "arm-setuid").chmod(0o4755)
    cases.ask("setuid", cases.place / "arm-setuid")


def entries(cases: Cases, qemu: Path) -> None:
    """Flags, order, extensions, interpreters that fail."""
    arm_root = cases.place / "chroot"
    arm_root.mkdir()
    cases.write("chroot/arm", programs.arm())
    cases.ask("static in a chroot", "/arm", arm_root)
    with cases.entry(for_architecture("arm", name="without-f", interpreter=str(qemu), flags="P")):
        cases.ask("without F", cases.place / "arm")
        cases.ask("without F in a chroot", "/arm", arm_root)
    gone = cases.write("gone", qemu.read_bytes())
    with cases.entry(for_architecture("arm", name="gone", interpreter=str(gone), flags="F")):
        gone.unlink()
        cases.ask("F, and the interpreter is gone", cases.place / "arm")
    with cases.entry(for_architecture("arm", name="missing", interpreter="/nowhere/qemu", flags="")):
        cases.ask("interpreter missing", cases.place / "arm")

    def by_magic(name: str, interpreter: str, flags: str = "") -> Entry:
        return Entry(name, "M", interpreter, flags, magic=b"XBT1", mask=b"\xff" * 4)

    cases.write("xbt", b"XBT1 and more")
    cases.write("chroot/xbt", b"XBT1 and more")
    with cases.entry(by_magic("older", "/bin/false")), cases.entry(by_magic("newer", "/bin/true")):
        cases.ask("the newest counts", cases.place / "xbt")
    with cases.entry(by_magic("dynamic", os.path.realpath("/bin/true"), "F")):
        cases.ask("F and a dynamic interpreter", cases.place / "xbt")
        cases.ask("F and a dynamic interpreter, in a chroot", "/xbt", arm_root)
    with cases.entry(by_magic("script", str(cases.write("handler", b"#!/bin/sh\nexit 3\n")))):
        cases.ask("the interpreter is a script", cases.place / "xbt")
    with cases.entry(by_magic("itself", str(cases.place / "xbt"))):
        cases.ask("its own interpreter", cases.place / "xbt")
    with cases.entry(by_magic("plain", str(cases.place / "plain"))):
        cases.ask("interpreter is not executable", cases.place / "xbt")
    with cases.entry(Entry("extension", "E", "/bin/true", "", extension="xbe")):
        cases.ask("extension", cases.write("file.xbe", b"anything"))
        cases.ask("other extension", cases.write("file.xbf", b"anything\n"))
    with cases.entry(Entry("tail", "M", "/bin/true", "", offset=1, magic=b"b\n\0\1", mask=b"\xff\xff\xff\xfe")):
        cases.ask("zeros behind the end of the file", cases.write("short", b"ab\n"))


def main() -> None:
    """Do it."""
    qemu, arm_root = Path(sys.argv[1]), Path(sys.argv[2])
    with tempfile.TemporaryDirectory() as name:
        cases = Cases(Path(name))
        cases.place.chmod(0o755)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", name], check=True)
        with cases.entry(for_architecture("arm", interpreter=str(qemu), flags="FPO")):
            foreign(cases)
            files(cases)
            scripts(cases)
            native(cases)
            emulated(cases, arm_root)
            entries(cases, qemu)
        subprocess.run(["umount", "-l", cases.place / "noexec", name], check=True)
    json.dump(cases.found, sys.stdout)


if __name__ == "__main__":
    main()
