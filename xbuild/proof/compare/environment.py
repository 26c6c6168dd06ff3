"""What took part in the builds of a comparison, in words."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_ROWS: tuple[tuple[str, str, str], ...] = (
    ("gcc", r"gcc-\d+", r"gcc-\d+(-.*)?"),
    ("binutils", r"binutils", r"binutils(-.*)?"),
    ("C library", r"libc6", r"libc6"),
    ("make", r"make", r"make"),
    ("dash", r"dash", r"dash"),
    ("bash", r"bash", r"bash"),
    ("coreutils", r"coreutils", r"coreutils"),
    ("distcc", r"distcc", r"distcc"),
)
"""What is shown: a name, the pattern of its package in the target root, and that of its native package."""


def rows(manifests: Sequence[Mapping[str, Any]], qemu: str) -> list[tuple[str, str, str]]:
    """Tool, version in the target root, version of the twins; qemu: version of the emulator."""
    root: dict[str, str] = {}
    native: dict[str, set[str]] = {}
    kernels = set()
    for manifest in manifests:
        inputs = manifest["inputs"]
        root |= {name: text.split()[0] for name, text in inputs["target root"].items()}
        for twin in manifest["twins"]:
            native.setdefault(twin["package"], set()).add(f"{twin['version']} {twin['architecture']}")
        kernels |= {text for name, text in inputs.get("mode", {}).items() if name == "kernel"}
    found = []
    for name, in_root, in_native in _ROWS:
        target = sorted({version for package, version in root.items() if re.fullmatch(in_root, package)})
        twins = sorted(set().union(*(known for package, known in native.items() if re.fullmatch(in_native, package))))
        if target or twins:
            found.append((name, ", ".join(target), ", ".join(twins)))
    # What differs in which twins there were, though no input says so.
    late = {path for manifest in manifests for path in manifest.get("emulated-late", ())}
    if late:
        found.append(("emulated, for its twin could not go on", ", ".join(sorted(late)), ""))
    if qemu:
        found.append(("qemu-user", "", qemu))
    if kernels:
        found.append(("Linux (mode system)", ", ".join(sorted(kernels)), ""))
    return found


def machine() -> str:
    """What this machine is, and the date: `2 x AMD EPYC, Linux 6.18.5, 2025-01-31 12:00 UTC`."""
    info = Path("/proc/cpuinfo")
    match = re.search(r"^model name\s*:\s*(.+)$", info.read_text() if info.exists() else "", re.MULTILINE)
    cores = len(os.sched_getaffinity(0))
    now = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    return f"{cores} x {match[1] if match else platform.machine()}, Linux {platform.release()}, {now}"
