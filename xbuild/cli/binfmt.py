"""The tasks about binfmt_misc."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from xbuild.base import log
from xbuild.base.errors import EXIT_USAGE, MachineError, UsageError
from xbuild.binfmt import kernel
from xbuild.binfmt.architectures import find
from xbuild.binfmt.entry import Entry, explained_flags, unescaped
from xbuild.binfmt.explain import Explainer, which
from xbuild.binfmt.formats import parse, parse_file
from xbuild.binfmt.install import Change, Installer
from xbuild.binfmt.machine import Machine
from xbuild.binfmt.record import load_all
from xbuild.binfmt.render import DEFAULT_FLAGS, Rendered, for_architecture, render
from xbuild.cli.guard import guarded
from xbuild.cli.task import Context, task
from xbuild.dispatcher.preamble import compiled, prefixed
from xbuild.doctor.install import confirm, own_command

_JSON = {"json": "write one JSON object to stdout, and nothing else"}


def _rows(entries: tuple[Entry, ...] | list[Entry]) -> list[tuple[object, ...]]:
    states = {True: "enabled", False: "disabled", None: ""}
    return [
        (
            entry.name,
            states[entry.enabled],
            entry.architecture or (f".{entry.extension}" if entry.kind == "E" else f"bytes {entry.magic.hex()}"),
            entry.flags or "-",
            entry.interpreter,
        )
        for entry in entries
    ]


def _table(entries: tuple[Entry, ...] | list[Entry]) -> None:
    log.table(("entry", "", "takes", "flags", "interpreter"), _rows(entries))


@task(name="list", help=_JSON)
@guarded
def list_(_c: Context, json: bool = False) -> None:
    """List the kernel's entries: those that count here, and those of other user namespaces."""
    log.configure(json=json)
    state = kernel.look()
    if json:
        log.result(state.as_json())
        return
    if state.remark:
        log.output(f"note: {state.remark}")
    for instance in (*((state.effective,) if state.effective else ()), *state.others):
        log.output(instance.title())
        if instance.entries:
            _table(instance.entries)
        else:
            log.output("  no entries")


@task(
    positional=["file"],
    help={**_JSON, "file": "a program or script", "root": "the directory that the program has for / (a chroot)"},
)
@guarded
def explain(_c: Context, file: str, root: str = "/", json: bool = False) -> None:
    """Tell what would start a file, and why it does not run, byte by byte."""
    log.configure(json=json)
    _no_option("file", file)
    place = Path(root).resolve()
    if not place.is_dir():
        raise UsageError(f"--root {root}: no such directory")
    if str(place) == "/":
        name = which(file)
    else:
        below = Path(file).absolute()
        name = "/" + str(below.relative_to(place)) if below.is_relative_to(place) else "/" + file.lstrip("/")
    answer = Explainer(kernel.look(others=False), place).explain(name)
    for line in [] if json else answer.lines():
        log.output(line)
    log.result(answer.as_json())


def _no_option(what: str, word: str) -> None:
    # invoke takes any word for the first argument as long as there is none.
    if word.startswith("-") and word != "-":
        raise UsageError(f"there is no {what} before {word!r}", hint="`--help COMMAND` shows what a command takes")


_ENTRY = {
    "arch": "an architecture (arm, armhf, riscv64 ...); with --magic or --extension any name",
    "interpreter": "the program that runs the files (default: the machine's qemu for the architecture)",
    "flags": "flags of the entry, letters of POCF (default: FPO)",
    "name": "name of the entry (default: qemu-ARCH)",
    "magic": "type M: the first bytes, in hex or with \\xHH",
    "mask": "which bits of them count (default: all)",
    "offset": "where the magic stands in a file",
    "extension": "type E: what the files' names end in, without the dot",
}


def entry_of(arch: str, **given: str) -> Entry:
    """The entry that the command line means."""
    flags = given["flags"] or None
    if not given["magic"] and not given["extension"]:
        if given["mask"] or given["offset"]:
            raise UsageError("--mask and --offset belong to --magic")
        return for_architecture(arch, name=given["name"], interpreter=given["interpreter"], flags=flags)
    if given["magic"] and given["extension"]:
        raise UsageError("an entry has either a --magic or an --extension")
    if not given["interpreter"]:
        raise UsageError("an entry with --magic or --extension needs an --interpreter")
    name = given["name"] or arch
    common: dict[str, Any] = {"interpreter": given["interpreter"], "flags": flags or ""}
    if given["extension"]:
        return Entry(name, "E", extension=given["extension"].removeprefix("."), **common)
    magic = _bytes("--magic", given["magic"])
    mask = _bytes("--mask", given["mask"]) or b"\xff" * len(magic)
    if given["offset"] and not given["offset"].isdigit():
        raise UsageError(f"--offset is a number of bytes, not {given['offset']!r}")
    return Entry(name, "M", magic=magic, mask=mask, offset=int(given["offset"] or 0), **common)


def _bytes(option: str, text: str) -> bytes:
    try:
        return unescaped(text) if "\\x" in text else bytes.fromhex(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}", hint="for example 7f454c46, or \\x7f\\x45\\x4c\\x46") from error


def show(rendered: Rendered) -> None:
    """All forms of an entry, for people."""
    entry = rendered.entry
    if entry.kind == "M":
        log.output_text(f"magic {entry.magic.hex()}\nmask  {entry.mask.hex()}")
    log.output_text(f"\nto be written to {kernel.MOUNT_POINT}/register:\n{rendered.register}")
    log.output_text(f"\nfor systemd-binfmt, /etc/binfmt.d/{entry.name}.conf:\n{rendered.binfmt_d}")
    log.output_text(f"for binfmt-support, /usr/share/binfmts/{entry.name}:\n{rendered.binfmt_support}")
    for line in rendered.explanation:
        log.output(line)
    for note in rendered.notes:
        log.output(f"note: {note}")


@task(name="render", positional=["arch"], help={**_JSON, **_ENTRY})
@guarded
def render_(
    _c: Context,
    arch: str,
    interpreter: str = "",
    flags: str = "",
    name: str = "",
    magic: str = "",
    mask: str = "",
    offset: str = "",
    extension: str = "",
    json: bool = False,
) -> None:
    """Write an entry in every format: for the kernel, for binfmt.d, for binfmt-support; with its flags explained."""
    log.configure(json=json)
    _no_option("architecture", arch)
    words = {"interpreter": interpreter, "flags": flags, "name": name, "magic": magic, "mask": mask, "offset": offset}
    rendered = render(entry_of(arch, **words, extension=extension))
    if json:
        log.result(rendered.as_json())
    else:
        show(rendered)


@task(
    name="parse",
    positional=["file"],
    help={
        **_JSON,
        "file": "a file with entries; - is standard input",
        "format": "register, binfmt.d, proc, binfmts (/usr/share/binfmts) or admin (/var/lib/binfmts)",
    },
)
@guarded
def parse_(_c: Context, file: str, format: str = "", json: bool = False) -> None:
    """Read entries from a file of any format; tell what they do."""
    log.configure(json=json)
    _no_option("file", file)
    if file == "-":
        form, entries = parse(sys.stdin.buffer.read(), "stdin", "standard input", format)
    else:
        form, entries = parse_file(Path(file), format)
    if json:
        log.result({"format": form, "entries": [entry.as_json() for entry in entries]})
        return
    log.output(f"format: {form}")
    _table(entries)
    for entry in entries:
        for flag, text in explained_flags(entry.flags):
            log.output(f"{entry.name}: {flag}: {text}")


def _with_preamble(qemu: Path) -> bytes:
    return prefixed(qemu.read_bytes(), compiled())


_SYSTEM = {
    "system": "change the whole machine, as root; without this, nothing is changed",
    "yes": "do it without asking",
    "plan": "only show what would be done",
}


def _carry_out(change: Change, *, yes: bool, plan: bool, json: bool) -> int:
    """Show the change, ask, do it; the exit code."""
    if not change.steps:
        log.info(f"nothing to do to {change.title}")
    for text, _ in change.steps:
        log.info(f"- {text}")
    for note in change.notes:
        log.info(f"note: {note}")
    done = not plan and (not change.steps or confirm(f"{change.title}?", assume_yes=yes))
    if done:
        change.carry_out()
    if json:
        steps = [text for text, _ in change.steps]
        log.result({"title": change.title, "done": done, "steps": steps, "notes": change.notes})
    elif done:
        log.output(f"done: {change.title}")
    if not done and not plan:
        log.info("nothing was changed; --yes does it without asking")
    return 0 if done or plan else EXIT_USAGE


def _given() -> list[str]:
    """The words of the command line, without the options of invoke before the task."""
    first = next((place for place, word in enumerate(sys.argv) if word.startswith("binfmt.")), len(sys.argv))
    return sys.argv[first:]


def _require_system(system: bool, command: str, *, plan: bool) -> None:
    if not system:
        raise UsageError(
            f"binfmt.{command} changes the whole machine: say --system",
            hint="builds, `run` and `shell` need no such entry: they have one of their own",
        )
    if os.geteuid() != 0 and not plan:
        raise MachineError("only root can change the machine's entries", hint=own_command(_given()))


@task(
    positional=["arch"],
    help={**_JSON, **_ENTRY, **_SYSTEM, "dispatcher": "also serve xbuild's builds: kernels before Linux 6.7 need it"},
)
@guarded
def install(
    _c: Context,
    arch: str,
    system: bool = False,
    dispatcher: bool = False,
    interpreter: str = "",
    flags: str = "",
    name: str = "",
    magic: str = "",
    mask: str = "",
    offset: str = "",
    extension: str = "",
    yes: bool = False,
    plan: bool = False,
    json: bool = False,
) -> int:
    """Make an entry for the whole machine that survives a reboot; shows what it changes, and asks."""
    log.configure(json=json)
    _no_option("architecture", arch)
    _require_system(system, "install", plan=plan)
    words = {"interpreter": interpreter, "flags": flags, "name": name, "magic": magic, "mask": mask, "offset": offset}
    entry = entry_of(arch, **words, extension=extension)
    if dispatcher and (entry.architecture is None or set(entry.flags) != set(DEFAULT_FLAGS)):
        raise UsageError(f"--dispatcher is for an architecture, with the flags {DEFAULT_FLAGS} and no others")
    installer = Installer(Machine())
    if dispatcher and not name and installer.others(entry.name):
        # The distribution's plain one may stay: the newer entry counts.
        entry = replace(entry, name=f"xbuild-{entry.architecture}")
    change = installer.install(entry, _with_preamble if dispatcher else None)
    return _carry_out(change, yes=yes, plan=plan, json=json)


@task(
    positional=["name"],
    help={**_JSON, **_SYSTEM, "name": "name of the entry, or the architecture that it was installed for"},
)
@guarded
def remove(
    _c: Context, name: str, system: bool = False, yes: bool = False, plan: bool = False, json: bool = False
) -> int:
    """Undo binfmt.install completely."""
    log.configure(json=json)
    _no_option("name", name)
    _require_system(system, "remove", plan=plan)
    machine = Machine()
    ours = [known.entry.name for known in load_all(machine)]
    if name not in ours:
        with contextlib.suppress(UsageError):
            found = find(name)[0]
            usual = [f"qemu-{found}", f"xbuild-{found}"]
            name = next((known for known in usual if known in ours), name)
    return _carry_out(Installer(machine).remove(name), yes=yes, plan=plan, json=json)


TASKS = (list_, explain, render_, parse_, install, remove)
