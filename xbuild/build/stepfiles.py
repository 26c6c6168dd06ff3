"""The files that belong to a step of a build, by name: 02-compile.sh, logs/02-compile.log, records/02-compile."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_ENDINGS = (".cpu.json", ".console", ".log", ".marks", ".sh")
_NUMBERED = re.compile(r"([0-9]{2,})-(.+)")


@dataclass(frozen=True)
class StepFiles:
    """The names of a step's files. number: its place in the build, from 0; None for what is no step of one.

    What is no step has files of such names too: distccd.log, and check-sandbox.log of a check that is run once more.
    """

    number: int | None
    step: str

    @classmethod
    def named(cls, file: str) -> StepFiles:
        """Those of which `file`, a name without a directory, is one."""
        name = next((file.removesuffix(ending) for ending in _ENDINGS if file.endswith(ending)), file)
        match = _NUMBERED.fullmatch(name)
        return cls(int(match[1]), match[2]) if match else cls(None, name)

    @property
    def name(self) -> str:
        """What all of them begin with; in the order of the steps if sorted."""
        return self.step if self.number is None else f"{self.number:02d}-{self.step}"

    @property
    def script(self) -> str:
        """Its shell text."""
        return f"{self.name}.sh"

    @property
    def log(self) -> str:
        """What it said."""
        return f"{self.name}.log"

    @property
    def console(self) -> str:
        """What Linux said on the console of an emulated machine, beside the log."""
        return f"{self.name}.console"

    @property
    def record(self) -> str:
        """What it executed (xbuild.formats.record)."""
        return self.name

    @property
    def marks(self) -> str:
        """What it executed, where only twins that could not go on are asked for: no record of a step."""
        return f"{self.name}.marks"

    @property
    def accounts(self) -> str:
        """The CPU time by program (sandbox/sampler.py), beside the record."""
        return f"{self.name}.cpu.json"


def recorded(records: Path) -> list[StepFiles]:
    """Those of which a build's directory of records has a record of execs, in order."""
    return _sorted(records, "record")


def logged(logs: Path) -> list[StepFiles]:
    """Those of which a build's directory of logs has a log, in order; what is no step comes last."""
    return _sorted(logs, "log")


def accounted(records: Path) -> list[StepFiles]:
    """Those of which a build's directory of records has the CPU time, in order."""
    return _sorted(records, "accounts")


def _sorted(folder: Path, kind: str) -> list[StepFiles]:
    names = [file.name for file in folder.iterdir()] if folder.is_dir() else []
    steps = [files for name in names if getattr(files := StepFiles.named(name), kind) == name]
    return sorted(steps, key=lambda files: files.name)
