"""Makes an entry for the whole machine that survives a reboot, and undoes that completely.

Each change is shown before it is made, and written down before it is begun; all steps can be repeated, so that what a
kill has left half done is finished or undone by giving the command again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from xbuild.base import process
from xbuild.base.errors import MachineError, UsageError
from xbuild.binfmt import architectures, record
from xbuild.binfmt.entry import WINDOW, Entry, escaped, register_line
from xbuild.binfmt.formats import parse
from xbuild.binfmt.machine import Machine
from xbuild.binfmt.record import Installed
from xbuild.binfmt.render import entry_notes, is_static, render

Make = Callable[[Path], bytes]
"""Makes the interpreter that is to be installed from the path of a plain one."""


@dataclass
class Change:
    """What is to be done. steps: in order, each with its text. notes: what the user should know."""

    title: str
    steps: list[tuple[str, Callable[[], None]]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, text: str, act: Callable[[], None]) -> None:
        """One step more."""
        self.steps.append((text, act))

    def carry_out(self) -> None:
        """Do it."""
        for _, act in self.steps:
            act()


class Installer:
    """Installs and removes entries of one machine."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._record: Installed | None = None

    def current(self, name: str) -> Entry | None:
        """The kernel's entry of this name, whoever made it."""
        path = self._machine.mount_point / name
        if not path.is_file():
            return None
        return parse(path.read_bytes(), name, str(path), "proc")[1][0]

    def install(self, entry: Entry, make: Make | None = None) -> Change:
        """What makes `entry`; no steps if it is there.

        make: what is registered is not the entry's interpreter, but what this makes of it. Raises UsageError for an
        entry that must not be, MachineError if somebody else has one of this name.
        """
        machine, name = self._machine, entry.name
        plain = Path(entry.interpreter)
        self._check(entry, plain)
        change = Change(f"install the entry {name}")
        # binfmt-support cannot say O, without which a build's dispatcher does not know the file.
        method, warning = machine.method() if make is None else ("binfmt.d", machine.method("binfmt.d")[1])
        if make is not None:
            entry = replace(entry, interpreter=str(machine.programs / name))
        if method == "binfmt-support" and "O" in entry.flags and "C" not in entry.flags:
            entry = replace(entry, flags=entry.flags.replace("O", ""))
            change.notes.append("binfmt-support knows no flag O: programs that may not be read do not run")
        known = record.load(machine, name)
        if known is not None:
            self._again(known, entry, change)
            self._record = replace(known, entry=entry, state="installing")
        else:
            self._refuse_others(name)
            self._record = Installed(entry, method, "installing")
        if make is not None:
            self._program(change, Path(entry.interpreter), make(plain))
        if not machine.is_mounted():
            change.add(f"mount binfmt_misc at {machine.mount_point}", self._mount)
        self._boot(change, self._record)
        if change.steps or known is None or known.state != "installed":
            note = (f"write down in {machine.records / (name + '.json')} what is done", self._begin)
            change.steps = [note, *change.steps]
            change.add(f"check that the kernel has {name}", self._finish)
        change.notes += [*([warning] if warning else []), *(entry_notes(entry) if make is None else [])]
        return change

    def _check(self, entry: Entry, interpreter: Path) -> None:
        render(entry)
        name = entry.architecture
        if name is not None and architectures.runs_natively(name, os.uname().machine):
            raise UsageError(f"this machine runs programs for {name} by itself: an entry would take them all")
        if not interpreter.is_absolute():
            raise UsageError(f"the interpreter must be an absolute path, not {entry.interpreter!r}")
        if not (interpreter.is_file() and os.access(interpreter, os.X_OK)):
            hint = "apt-get install qemu-user-static (Debian 13: qemu-user), or name a static qemu by --interpreter"
            raise MachineError(f"no program {interpreter}", hint=hint)
        with interpreter.open("rb") as stream:
            if entry.takes(stream.read(WINDOW), str(interpreter)):
                raise UsageError(f"the entry would take its own interpreter, {interpreter}, so nothing could run it")
        with Path("/proc/self/exe").open("rb") as stream:
            if entry.takes(stream.read(WINDOW), "/proc/self/exe"):
                raise UsageError("the entry would take the machine's own programs")
        self._machine.require_trusted(interpreter.resolve())
        if "F" in entry.flags and entry.kind == "M" and is_static(interpreter) is False and entry.architecture:
            hint = "a static one, such as of qemu-user-static (Debian 13: qemu-user)"
            raise MachineError(f"{interpreter} is dynamic: it could not run in chroots and containers", hint=hint)

    def _again(self, known: Installed, entry: Entry, change: Change) -> None:
        if known.state == "installed" and not known.entry.same_effect(entry):
            hint = f"`invoke binfmt.remove {entry.name} --system`, then install it anew"
            message = f"xbuild has installed {entry.name} already, with other settings: {_short(known.entry)}"
            raise UsageError(message, hint=hint)
        if known.state != "installed":
            change.notes.append(f"an earlier command was interrupted while {known.state} it: that is finished now")
        there = self.current(entry.name)
        if there is not None and not (there.same_effect(known.entry) or there.same_effect(entry)):
            raise _foreign(entry.name, [_short(there)])

    def others(self, name: str) -> list[str]:
        """Who else than xbuild has an entry of this name: one line each."""
        if record.load(self._machine, name) is not None:
            return []
        there = self.current(name)
        found = [f"the kernel has it: {_short(there)}"] if there is not None else []
        return found + [f"{path} makes it at boot" for path in self._machine.owners_of_name(name)]

    def _refuse_others(self, name: str) -> None:
        others = self.others(name)
        if (boot := self._machine.boot_file(name)).exists():
            others.append(f"{boot} is there, but xbuild has no record of it")
        if others:
            raise _foreign(name, others)

    def _begin(self) -> None:
        assert self._record is not None
        record.write(self._machine, self._record)

    def _note(self, **changes: object) -> None:
        assert self._record is not None
        self._record = replace(self._record, **changes)  # type: ignore[arg-type]
        record.write(self._machine, self._record)

    def _write(self, path: Path, data: bytes, mode: int) -> None:
        assert self._record is not None
        missing = [str(folder) for folder in (path.parent, *path.parent.parents) if not folder.exists()]
        own = (self._machine.programs, self._machine.programs.parent)
        others = tuple(folder for folder in missing[::-1] if Path(folder) not in own)
        files = {**self._record.files, str(path): hashlib.sha256(data).hexdigest()}
        self._note(files=files, directories=(*self._record.directories, *others))
        path.parent.mkdir(parents=True, exist_ok=True)
        record.replace_file(path, data, mode)

    def _program(self, change: Change, path: Path, program: bytes) -> None:
        if not path.exists() or path.read_bytes() != program:
            change.add(f"write {path} ({len(program)} bytes)", lambda: self._write(path, program, 0o755))

    def _mount(self) -> None:
        # Before, for nobody else would undo it after a kill.
        self._note(mounted=True)
        self._machine.attach()

    def _boot(self, change: Change, known: Installed) -> None:
        machine, entry = self._machine, known.entry
        there = self.current(entry.name)
        lacking = there is None or not there.same_effect(entry) or not there.enabled or bool(change.steps)
        if known.method == "binfmt-support":
            command = _update_binfmts(machine, entry)
            if lacking:
                change.add(process.show(command), lambda: _run(command))
            return
        path, data = machine.boot_file(entry.name), render(entry).binfmt_d.encode()
        if not path.exists() or path.read_bytes() != data:
            change.add(f"write {path}:\n{data.decode().rstrip()}", lambda: self._write(path, data, 0o644))
        if lacking or change.steps:
            register = machine.mount_point / "register"
            change.add(f"write to {register}: {register_line(entry)}", lambda: self._register(entry))

    def _register(self, entry: Entry) -> None:
        there = self._machine.mount_point / entry.name
        if there.is_file():
            there.write_bytes(b"-1")
        try:
            (self._machine.mount_point / "register").write_bytes(os.fsencode(register_line(entry)))
        except OSError as error:
            hint = f"`invoke binfmt.remove {entry.name} --system` undoes what has been done so far"
            raise MachineError(f"the kernel refuses the entry {entry.name}: {error.strerror}", hint=hint) from error

    def _finish(self) -> None:
        assert self._record is not None
        entry = self._record.entry
        there = self.current(entry.name)
        if there is None or not there.same_effect(entry):
            said = _short(there) if there is not None else "no such entry"
            hint = f"`invoke binfmt.remove {entry.name} --system` undoes it"
            raise MachineError(f"the kernel does not have {entry.name} as it was registered: {said}", hint=hint)
        self._note(state="installed")

    def remove(self, name: str) -> Change:
        """What undoes `install`. Raises UsageError if xbuild has installed no such entry."""
        known = record.load(self._machine, name)
        if known is None:
            if others := self.others(name):
                raise UsageError(f"{name} was not installed by xbuild, so it stays", details=others)
            names = ", ".join(found.entry.name for found in record.load_all(self._machine)) or "none"
            hint = f"entries that xbuild has installed: {names}"
            raise UsageError(f"there is nothing to remove: no entry {name}", hint=hint)
        self._record = known
        change = Change(f"remove the entry {name}")
        if known.state != "installed":
            change.notes.append(f"an earlier command was interrupted while {known.state} it")
        path = self._machine.records / f"{name}.json"
        change.add(f"write down in {path} what is done", lambda: self._note(state="removing"))
        self._remove_entry(change, known)
        for text, digest in known.files.items():
            self._remove_file(change, Path(text), digest)
        if known.mounted:
            change.add(f"unmount {self._machine.mount_point}, if no other entry is left", self._unmount)
        change.add("remove the record, and directories that were made for this and are empty", self._end)
        return change

    def _remove_entry(self, change: Change, known: Installed) -> None:
        machine, name = self._machine, known.entry.name
        if known.method == "binfmt-support" and (machine.root / "var/lib/binfmts" / name).exists():
            command = [machine.update_binfmts() or "update-binfmts", "--remove", name, known.entry.interpreter]
            change.add(process.show(command), lambda: _run(command))
            return
        there = self.current(name)
        if there is None:
            return
        if there.same_effect(known.entry):
            change.add(f"write -1 to {machine.mount_point / name}", lambda: self._unregister(name))
        else:
            change.notes.append(f"the kernel's entry {name} is another one now, so it stays: {_short(there)}")

    def _unregister(self, name: str) -> None:
        (self._machine.mount_point / name).write_bytes(b"-1")

    def _remove_file(self, change: Change, path: Path, digest: str) -> None:
        draft = path.with_name(f".{path.name}.new")
        if draft.exists():
            change.add(f"delete {draft}", lambda: draft.unlink(missing_ok=True))
        if not path.exists():
            return
        if hashlib.sha256(path.read_bytes()).hexdigest() == digest:
            change.add(f"delete {path}", lambda: path.unlink(missing_ok=True))
        else:
            change.notes.append(f"{path} was changed by somebody, so it stays")

    def _end(self) -> None:
        known = self._record
        assert known is not None
        machine = self._machine
        others = [found for found in record.load_all(machine) if found.entry.name != known.entry.name]
        left = []
        for folder in known.directories[::-1]:
            try:
                Path(folder).rmdir()
            except FileNotFoundError:
                continue
            except OSError:
                left.append(folder)
        keeps = known.mounted and machine.is_mounted()
        if others and (left or keeps):
            # Whoever of ours is removed last undoes what the first one had made for all.
            heir = others[0]
            merged = (*left[::-1], *heir.directories)
            record.write(machine, replace(heir, directories=merged, mounted=heir.mounted or keeps))
        record.forget(machine, known.entry.name)

    def _unmount(self) -> None:
        machine = self._machine
        if machine.is_mounted() and {path.name for path in machine.mount_point.iterdir()} <= {"register", "status"}:
            machine.detach()


def _short(entry: Entry) -> str:
    taken = entry.architecture or (f".{entry.extension}" if entry.kind == "E" else f"bytes {entry.magic.hex()}")
    return f"{taken}, {entry.interpreter}, flags {entry.flags or '-'}"


def _foreign(name: str, details: list[str]) -> MachineError:
    hint = "if it does what you want, nothing needs to be done; else --name gives ours another name, which then counts"
    return MachineError(f"there is an entry {name} that xbuild has not made", details=details, hint=hint)


def _update_binfmts(machine: Machine, entry: Entry) -> list[str]:
    command = [machine.update_binfmts() or "update-binfmts", "--install", entry.name, entry.interpreter]
    if entry.kind == "E":
        command += ["--extension", entry.extension]
    else:
        command += ["--magic", escaped(entry.magic), "--mask", escaped(entry.mask), "--offset", str(entry.offset)]
    for option, flag in (("credentials", "C"), ("preserve", "P"), ("fix-binary", "F")):
        command += [f"--{option}", "yes" if flag in entry.flags else "no"]
    return command


def _run(command: list[str]) -> None:
    done = process.run(command, capture=True, check=False)
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()
        raise MachineError(f"{process.show(command)}: {process.describe_exit(done.returncode)}: {said}")
