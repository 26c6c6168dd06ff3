"""Canaries: before the first build, do in the target root what emulators and file systems are known to get wrong.

Once for each root, emulator, kernel and file system; what passed is remembered in the store.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from xbuild.base import log
from xbuild.base.digest import file_sha256, json_contents, key_of
from xbuild.base.errors import MachineError, UsageError
from xbuild.build.canary.cases import CASES
from xbuild.build.canary.examine import SOURCE, Examined, cage, examine
from xbuild.build.environment import FIXED_VARIABLES, WorkPlace
from xbuild.dispatcher.table import Entry
from xbuild.model.toolchain import Toolchain
from xbuild.roots.distribution import Roots
from xbuild.sandbox.run import remove_tree
from xbuild.store.local import Store

KIND = "canaries"
"""The store's kind of entry."""

_FINDINGS = "findings.json"

_PROGRAMS = ("cat", "mkdir")
"""What canaries that builds need run in a root, beside its shell."""


def run(store: Store, roots: Roots, entries: Sequence[Entry], work: Path) -> tuple[Examined, ...]:
    """The canaries of the target of `roots`, run if they were not yet; none for a target without an emulator.

    entries: the twins of the build, which compile the canaries' program. work: directory outside that work places lie
    in. The caller holds the store's lock IN_USE. Raises MachineError, with the remedy, if one failed that builds need;
    UsageError as `require_programs`.
    """
    require_programs(roots)
    if roots.toolchain.native:
        return ()
    work.mkdir(parents=True, exist_ok=True)
    value = inputs(roots, work)
    # A work place as any other to `invoke clean`, which leaves it alone while the lock of this entry is held.
    place = WorkPlace(work / f"{KIND}-{store.entry(KIND, key_of(value)).name}")

    def make(staging: Path) -> None:
        try:
            with log.step(f"canaries for {roots.toolchain.name}"):
                # ldconfig is glibc's.
                cases = [case for case in CASES if case.name != "ldconfig" or roots.libc in (None, "glibc")]
                found = examine(cage(roots, entries, place), place, cases=cases)
                for finding in found:
                    log.detail(f"canary {finding}")
        finally:
            remove_tree(place.path)
        require(found, roots.toolchain)
        text = json.dumps([asdict(finding) for finding in found], indent=1)
        (staging / _FINDINGS).write_text(text + "\n")

    entry = store.ensure(KIND, value, f"the canaries for {roots.toolchain.name}", make)
    findings = tuple(Examined(**known) for known in json_contents(entry / _FINDINGS))
    for finding in findings:
        if finding.status == "failed":
            log.detail(f"a build that needs this fails: {finding.proves}; {finding.remedy}")
    return findings


def require_programs(roots: Roots) -> None:
    """Raise UsageError if an imported root lacks programs that every build runs: then no emulator is at fault."""
    if roots.imported is None:
        return
    tree, folders = roots.tree(()), FIXED_VARIABLES["PATH"].split(":")
    missing = [name for name in _PROGRAMS if not any(tree.real_path(f"{folder}/{name}") for folder in folders)]
    if missing:
        raise UsageError(
            f"imported root {roots.imported.name} lacks {', '.join(missing)}, so nothing can be built in it",
            hint="put coreutils into it, or busybox with its links, and import it once more with --replace",
        )


def require(findings: Sequence[Examined], toolchain: Toolchain) -> None:
    """Raise MachineError if a finding says that builds for `toolchain` must not start."""
    failed = [finding for finding in findings if finding.status == "failed" and finding.required]
    if failed:
        first, *others = failed
        raise MachineError(
            f"programs for {toolchain.name} do not run correctly here: canary {first.name}: {first.detail}",
            details=[f"canary {other.name}: {other.detail}; {other.remedy}" for other in others],
            hint=first.remedy,
        )


def inputs(roots: Roots, work: Path) -> dict[str, Any]:
    """All that decides what canaries find, as JSON."""
    makers = sorted(Path(__file__).parent.glob("*.py"))
    return {
        "what": "canaries",
        "sources": {file.name: file_sha256(file) for file in (SOURCE, *makers)},
        "root": roots.base_value(),
        # The same root made anew later may have newer packages; an imported one is what it is.
        **({} if roots.imported else {"packages": file_sha256(roots.base() / "var/lib/dpkg/status")}),
        "qemu": file_sha256(roots.natives().private / "qemu"),
        "kernel": os.uname().release,
        "file-system": file_system(work),
    }


def file_system(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> dict[str, str]:
    """Type, device and source of the file system that `path` is on. mounts: a file as /proc/PID/mountinfo (proc(5))."""
    real = os.fsencode(path.resolve()) + b"/"
    best, found = -1, {"type": "?", "device": "?", "source": "?"}
    for line in mounts.read_bytes().splitlines():
        # 36 35 98:0 /root /mount/point rw,noatime master:1 - ext3 /dev/root rw
        before, _, after = line.partition(b" - ")
        _, _, device, _, point, *_ = before.split(b" ")
        kind, source, *_ = after.split(b" ")
        place = re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), point).rstrip(b"/") + b"/"
        # Of several at one place the last one lies over the others.
        if len(place) >= best and real.startswith(place):
            best = len(place)
            found = {"type": kind.decode(), "device": device.decode(), "source": source.decode(errors="replace")}
    return found
