"""What xbuild has changed on a machine, written down before it is changed: so it can be undone after a kill too."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from xbuild.base.errors import MachineError
from xbuild.binfmt.entry import Entry
from xbuild.binfmt.machine import Machine, Method

State = Literal["installing", "installed", "removing"]

_VERSION = 1


@dataclass(frozen=True)
class Installed:
    """One entry that is ours.

    entry: as it was registered. files: what we wrote, each with its sha256. directories: that we made for others to
    use too. mounted: whether we mounted binfmt_misc.
    """

    entry: Entry
    method: Method
    state: State
    files: dict[str, str] = field(default_factory=dict)
    directories: tuple[str, ...] = ()
    mounted: bool = False

    def as_json(self) -> dict[str, Any]:
        """As it is stored."""
        entry = {**asdict(self.entry), "magic": self.entry.magic.hex(), "mask": self.entry.mask.hex()}
        return {**asdict(self), "entry": entry, "version": _VERSION}


def write(machine: Machine, record: Installed) -> None:
    """Store `record`: on the disk before anything else happens."""
    machine.records.mkdir(parents=True, exist_ok=True)
    replace_file(machine.records / f"{record.entry.name}.json", json.dumps(record.as_json(), indent=1).encode() + b"\n")


def replace_file(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a file so that there is the old or the new one, never a part."""
    draft = path.with_name(f".{path.name}.new")
    with draft.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fchmod(stream.fileno(), mode)
        os.fsync(stream.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def load(machine: Machine, name: str) -> Installed | None:
    """The record of the entry `name`; None if xbuild has installed none. Raises MachineError for a broken one."""
    path = machine.records / f"{name}.json"
    if not path.exists():
        return None
    try:
        value = json.loads(path.read_text())
        known = value.pop("version")
        entry = value.pop("entry")
        if known != _VERSION:
            raise ValueError(f"version {known}")
        magic, mask = bytes.fromhex(entry.pop("magic")), bytes.fromhex(entry.pop("mask"))
        directories = tuple(value.pop("directories"))
        return Installed(entry=Entry(magic=magic, mask=mask, **entry), directories=directories, **value)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        hint = "it tells what xbuild has installed: read it, undo that by hand, and delete it"
        raise MachineError(f"{path}: cannot be understood: {error}", hint=hint) from error


def load_all(machine: Machine) -> Iterator[Installed]:
    """The records of all entries that are ours; broken ones are passed over."""
    for path in sorted(machine.records.glob("*.json")):
        with contextlib.suppress(MachineError):
            found = load(machine, path.stem)
            if found is not None:
                yield found


def forget(machine: Machine, name: str) -> None:
    """Remove the record of `name`, and the directories of xbuild that are empty then."""
    for path in (machine.records / f"{name}.json", machine.records / f".{name}.json.new"):
        path.unlink(missing_ok=True)
    for folder in (machine.records, machine.programs):
        for path in (folder, folder.parent):
            with contextlib.suppress(OSError):
                path.rmdir()
