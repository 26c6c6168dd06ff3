"""Runs in a user namespace of its own, whose binfmt_misc stands for the machine's: installs and removes entries.

    python binfmt_installing.py QEMU

QEMU: a static qemu-arm. Files lie below a directory of their own. Ends with 0 if all is as it should be.
"""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from xbuild.base.errors import MachineError, UsageError, XbuildError
from xbuild.binfmt import kernel, record
from xbuild.binfmt.entry import Entry, register_line
from xbuild.binfmt.install import Installer
from xbuild.binfmt.machine import Machine
from xbuild.binfmt.render import for_architecture
from xbuild.doctor import programs
from xbuild.sandbox.idmap import IDS

BINFMT = Path(kernel.MOUNT_POINT)


def snapshot(machine: Machine) -> tuple[list[str], list[str], bool]:
    """All that an installation could change."""
    files = [f"{path} {path.stat().st_mode:o}" for path in sorted(machine.root.rglob("*"))]
    entries = sorted(path.name for path in BINFMT.iterdir())
    return files, entries, machine.is_mounted()


def expect(fault: type[XbuildError], said: str, act: Callable[[], object]) -> None:
    """`act` must fail so."""
    with pytest.raises(fault) as caught:
        act()
    text = "\n".join([caught.value.message, *caught.value.details])
    assert said in text, text
    assert caught.value.hint or caught.value.details or fault is UsageError, text


def killed_after(count: int, installer: Installer, entry: Entry | None, name: str) -> bool:
    """Begin an installation (or removal, without an entry), and die after `count` steps; False if it has fewer."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            change = installer.install(entry) if entry is not None else installer.remove(name)
            if count < len(change.steps):
                code = 0
                for _, act in change.steps[:count]:
                    act()
                os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def install_and_remove(machine: Machine, entry: Entry, program: Path) -> None:
    """The usual way; everything that was made is gone afterwards."""
    before = snapshot(machine)
    installer = Installer(machine)
    expect(UsageError, "there is nothing to remove: no entry qemu-arm", lambda: installer.remove("qemu-arm"))
    change = installer.install(entry)
    assert snapshot(machine) == before, "a change that is only shown changes nothing"
    change.carry_out()
    assert subprocess.run([program], check=False).returncode == programs.EXIT
    boot = machine.boot_file("qemu-arm").read_text()
    assert boot.splitlines()[1] == register_line(entry)
    assert Installer(machine).install(entry).steps == [], "it is there already"
    # After a reboot without systemd: the files are there, the entry is not.
    (BINFMT / "qemu-arm").write_bytes(b"-1")
    Installer(machine).install(entry).carry_out()
    assert subprocess.run([program], check=False).returncode == programs.EXIT
    other = for_architecture("arm", interpreter=entry.interpreter, flags="F")
    said = "xbuild has installed qemu-arm already, with other settings"
    expect(UsageError, said, lambda: Installer(machine).install(other))
    Installer(machine).remove("qemu-arm").carry_out()
    assert snapshot(machine) == before, (snapshot(machine), before)


def two_share_what_was_made(machine: Machine, entry: Entry, second: Entry) -> None:
    """Whichever goes last undoes what the first one made for both."""
    before = snapshot(machine)
    for order in ((entry, second), (second, entry)):
        Installer(machine).install(entry).carry_out()
        Installer(machine).install(second).carry_out()
        for one in order:
            Installer(machine).remove(one.name).carry_out()
        assert snapshot(machine) == before, (snapshot(machine), before)


def what_is_not_ours_stays(machine: Machine, entry: Entry) -> None:
    """Entries, files and changes of others."""
    machine.attach()
    line = register_line(for_architecture("arm", interpreter="/bin/true", flags=""))
    (BINFMT / "register").write_text(line)
    expect(MachineError, "the kernel has it: arm, /bin/true", lambda: Installer(machine).install(entry))
    expect(UsageError, "was not installed by xbuild, so it stays", lambda: Installer(machine).remove("qemu-arm"))
    assert (BINFMT / "qemu-arm").exists()
    (BINFMT / "qemu-arm").write_bytes(b"-1")
    theirs = machine.root / "usr/lib/binfmt.d/qemu-arm-static.conf"
    theirs.parent.mkdir(parents=True)
    theirs.write_text(f"# Debian's\n{line}\n")
    expect(MachineError, f"{theirs} makes it at boot", lambda: Installer(machine).install(entry))
    theirs.unlink()
    Installer(machine).install(entry).carry_out()
    (BINFMT / "qemu-arm").write_bytes(b"-1")
    (BINFMT / "register").write_text(line)
    boot = machine.boot_file("qemu-arm")
    boot.write_text("# changed by hand\n")
    change = Installer(machine).remove("qemu-arm")
    assert any("is another one now, so it stays" in note for note in change.notes)
    assert any("was changed by somebody, so it stays" in note for note in change.notes)
    change.carry_out()
    assert (BINFMT / "qemu-arm").exists()
    assert boot.exists()
    (BINFMT / "qemu-arm").write_bytes(b"-1")
    boot.unlink()
    machine.detach()


def what_must_not_be(machine: Machine, entry: Entry) -> None:
    """Entries that would break the machine, or give it away."""
    for word, said in (("x86_64", "runs programs for x86_64 by itself"), ("i386", "runs programs for i386 by itself")):
        wrong = for_architecture(word, interpreter=entry.interpreter)
        expect(UsageError, said, functools.partial(Installer(machine).install, wrong))
    elf = Entry("all", "M", entry.interpreter, "", magic=b"\x7fELF", mask=b"\xff" * 4)
    expect(UsageError, "would take its own interpreter", lambda: Installer(machine).install(elf))
    absent = for_architecture("arm", interpreter="/nowhere/qemu")
    expect(MachineError, "no program /nowhere/qemu", lambda: Installer(machine).install(absent))
    dynamic = for_architecture("arm", interpreter=os.path.realpath("/bin/true"))
    expect(MachineError, "is dynamic", lambda: Installer(machine).install(dynamic))
    free = machine.root / "qemu"
    free.write_bytes(Path(entry.interpreter).read_bytes())
    free.chmod(0o777)
    shared = for_architecture("arm", interpreter=str(free))
    expect(MachineError, f"others than root may write to {free}", lambda: Installer(machine).install(shared))
    free.unlink()
    record.write(machine, record.Installed(entry, "binfmt.d", "installed"))
    (machine.records / "qemu-arm.json").write_text('{"version": 1')
    expect(MachineError, "cannot be understood", lambda: Installer(machine).remove("qemu-arm"))
    record.forget(machine, "qemu-arm")


def killed_anywhere(machine: Machine, entry: Entry, program: Path) -> None:
    """After a kill in any step, the same command finishes and the other one undoes."""
    before = snapshot(machine)
    for finish in (True, False):
        count = 0
        while killed_after(count, Installer(machine), entry, entry.name):
            if finish:
                Installer(machine).install(entry).carry_out()
                assert subprocess.run([program], check=False).returncode == programs.EXIT
            if count or finish:
                change = Installer(machine).remove(entry.name)
                assert finish or "interrupted while installing" in str(change.notes)
                change.carry_out()
            assert snapshot(machine) == before, (count, snapshot(machine), before)
            count += 1
        assert count > 3
        if list(BINFMT.iterdir()):
            raise AssertionError("still mounted")
    count = 0
    while True:
        Installer(machine).install(entry).carry_out()
        if not killed_after(count, Installer(machine), None, entry.name):
            break
        Installer(machine).remove(entry.name).carry_out()
        assert snapshot(machine) == before, (count, snapshot(machine), before)
        count += 1
    assert count > 3
    Installer(machine).remove(entry.name).carry_out()


def main() -> None:
    """Do it."""
    with tempfile.TemporaryDirectory() as name:
        # Files of the machine's root have no owner in this namespace; the store, which has qemu, is the user's.
        machine = Machine(Path(name), trusted=frozenset({0, 65534, IDS}))
        (machine.root / "usr/lib/systemd").mkdir(parents=True)
        (machine.root / "usr/lib/systemd/systemd-binfmt").touch()
        for folder in ("run/systemd/system", "var/lib", "usr/local/lib"):
            (machine.root / folder).mkdir(parents=True)
        entry = for_architecture("arm", interpreter=sys.argv[1])
        second = for_architecture("hexagon", interpreter=sys.argv[1])
        with tempfile.NamedTemporaryFile(delete=False) as stream:
            stream.write(programs.arm())
        program = Path(stream.name)
        program.chmod(0o755)
        try:
            install_and_remove(machine, entry, program)
            two_share_what_was_made(machine, entry, second)
            killed_anywhere(machine, entry, program)
            what_must_not_be(machine, entry)
            what_is_not_ours_stays(machine, entry)
        finally:
            program.unlink()


if __name__ == "__main__":
    main()
