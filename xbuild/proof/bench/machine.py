"""What a benchmark ran on, in words that a reader can compare with his own machine."""

from __future__ import annotations

import os
import platform
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PROC = Path("/proc")


def processor(text: str) -> str:
    """The first processor's name in the text of /proc/cpuinfo."""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else "unknown processor"


def memory(text: str) -> int:
    """Bytes of memory, from the text of /proc/meminfo (its unit is 1024 bytes)."""
    found = re.search(r"^MemTotal:\s*(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def describe(jobs: int) -> dict[str, Any]:
    """This machine as it is now, its load the average of the last minute.

    jobs: compilers at once; 0: as many as there are cores.
    """
    cores = len(os.sched_getaffinity(0))
    try:
        system = platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        system = "Linux"
    return {
        "cpu": processor((PROC / "cpuinfo").read_text(errors="replace")),
        "cores": cores,
        "memory": memory((PROC / "meminfo").read_text(errors="replace")),
        "kernel": os.uname().release,
        "system": system,
        "jobs": jobs or cores,
        "load": round(os.getloadavg()[0], 2),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
