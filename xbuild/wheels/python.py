"""The python of a target: what decides which files of an index are for it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from xbuild.base.errors import UsageError
from xbuild.formats.deb822 import without_epoch
from xbuild.model.load import load_presets
from xbuild.roots.distribution import Roots

PRESET = "wheel"
_UPSTREAM = re.compile(r"[0-9]+(?:\.[0-9]+)*")
OLDEST = 17
"""The glibc 2.N of manylinux2014, the oldest one that 32-bit ARM and aarch64 have a policy for (PEP 599)."""


@dataclass(frozen=True)
class Python:
    """version: `3.13.5`. glibc: the 2.N of the C library. machine: as `uname -m` says it. packages: versions of the
    distribution's packages that builds have, by name.
    """

    version: str
    glibc: int
    machine: str
    packages: Mapping[str, str]

    @property
    def short(self) -> str:
        """`3.13`."""
        return ".".join(self.version.split(".")[:2])

    @property
    def environment(self) -> dict[str, str]:
        """The environment markers that differ between machines (dependency specifiers, "Environment Markers")."""
        return {
            "implementation_name": "cpython",
            "implementation_version": self.version,
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_system": "Linux",
            "python_full_version": self.version,
            "python_version": self.short,
            "sys_platform": "linux",
        }

    @property
    def platforms(self) -> list[str]:
        """The platform tags of compiled wheels that run there, the newest first (PEP 600)."""
        many = [f"manylinux_2_{minor}_{self.machine}" for minor in range(self.glibc, OLDEST - 1, -1)]
        return [*many, f"manylinux2014_{self.machine}", f"linux_{self.machine}"]


def python_of(roots: Roots, packages: tuple[str, ...] = ()) -> Python:
    """The python of a target's distribution. packages: further ones whose versions are asked.

    Raises UsageError if the distribution has none that can be read.
    """
    names = (*load_presets()[PRESET].packages, *packages)
    held = roots.resolver.packages(roots.layer_question(names))
    versions = {name: _UPSTREAM.match(without_epoch(text.partition(" ")[0])) for name, text in held.items()}
    known = {name: match[0] for name, match in versions.items() if match}
    if "python3" not in known or "libc6" not in known:
        raise UsageError(f"the distribution of {roots.toolchain.name} has no python3")
    glibc = int(known["libc6"].split(".")[1])
    return Python(known["python3"], glibc, roots.toolchain.uname_machine, known)
