"""By whose entry the kernel finds the dispatcher of a build: one of the sandbox's own, or the machine's."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final, Literal

from xbuild.base.errors import MachineError, UsageError
from xbuild.base.yamlfile import did_you_mean
from xbuild.binfmt import kernel
from xbuild.binfmt.architectures import Elf, magic_mask
from xbuild.binfmt.entry import Entry
from xbuild.dispatcher.preamble import MARK

SETTING: Final = "XBUILD_BINFMT"
"""Names it: private (an instance of the sandbox's own) or system (the machine's entry). Else the kernel decides."""

KERNEL: Final = (6, 7)
"""The first Linux whose user namespaces have a binfmt_misc of their own (its commit 21ca59b365c0)."""

Way = Literal["private", "system"]
_WAYS: tuple[Way, ...] = ("private", "system")

_NEEDED = frozenset("FPO")


def parse_kernel(release: str) -> tuple[int, int] | None:
    """(6, 12) of `6.12.43+deb13-amd64`; None if it does not start so."""
    found = re.match(r"(\d+)\.(\d+)", release)
    return (int(found[1]), int(found[2])) if found else None


def way(release: str | None = None) -> Way:
    """How builds reach their dispatcher here; release: as `uname -r` says it, by default this machine's.

    Raises UsageError if the setting names no such way.
    """
    wanted = os.environ.get(SETTING, "")
    for known in _WAYS:
        if known == wanted:
            return known
    if wanted:
        raise UsageError(f"{SETTING}={wanted}: unknown{did_you_mean(wanted, _WAYS)}", hint="private or system")
    version = parse_kernel(os.uname().release if release is None else release)
    return "private" if version is None or version >= KERNEL else "system"


def serves(entry: Entry) -> bool:
    """Whether the dispatcher of a build can be reached by this entry."""
    return bool(entry.enabled) and set(entry.flags) >= _NEEDED and has_preamble(Path(entry.interpreter))


def has_preamble(program: Path) -> bool:
    """Whether it is a program that xbuild has put the preamble before."""
    try:
        with program.open("rb") as stream:
            stream.seek(-len(MARK), os.SEEK_END)
            return stream.read() == MARK
    except OSError:
        return False


def entry_for(elf: Elf, state: kernel.State) -> Entry | None:
    """The entry that takes the programs of a target, if builds can use it."""
    magic, mask = magic_mask(elf)
    instance = state.effective
    entries = instance.entries if instance is not None and instance.enabled else ()
    # What the kernel would do with a program of the target: the newest entry that fits counts.
    start = bytes(a & b for a, b in zip(magic, mask, strict=True))
    taken = next((entry for entry in entries if entry.enabled and entry.takes(start, "")), None)
    return taken if taken is not None and serves(taken) else None


def require(elf: Elf, target: str) -> None:
    """Raise MachineError if the machine's entry for the programs of `target` does not serve builds."""
    if entry_for(elf, kernel.look(others=False)) is None:
        raise MachineError(
            f"the machine has no entry of binfmt_misc that serves builds for {target}",
            hint=f"as root: invoke binfmt.install {target} --system --dispatcher",
        )
