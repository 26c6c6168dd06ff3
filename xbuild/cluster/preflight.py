"""Whether a machine may work for a cluster: what it is, and what is in the way."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import shutil
import socket
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from xbuild.base import paths, process
from xbuild.base.errors import MachineError
from xbuild.build.papers.inputs import own_version
from xbuild.doctor import examine
from xbuild.model.load import toolchain_names

SLOW = 60.0
"""Seconds that clocks may differ: certificates and signatures go by them."""
LEAST = 256 << 20
"""Bytes that have to be free on the disk of the store: the tree of a small build, and a log."""
_OURS = ("*.py", "*.yml", "*.json", "*.c", "*.h", "*.j2")


@dataclass(frozen=True)
class Versions:
    """What has to be the same on all machines. own: xbuild's version, and a digest of its files."""

    own: str
    python: str
    dask: str
    distributed: str

    @classmethod
    @functools.cache
    def here(cls) -> Versions:
        """Of this process, as it was when it was first asked: files may change under it."""
        from importlib.metadata import version

        python = ".".join(platform.python_version_tuple()[:2])
        return cls(f"{own_version()} ({digest()[:12]})", python, version("dask"), version("distributed"))

    def differences(self, other: Mapping[str, Any]) -> list[str]:
        """In which they differ from `other`, there, in words."""
        names = {"own": "xbuild"}
        return [
            f"{names.get(name, name)} is {value} here, and {other.get(name)} there"
            for name, value in asdict(self).items()
            if value != other.get(name)
        ]


def digest() -> str:
    """The sha256 over all files of this xbuild that decide what it does."""
    found = hashlib.sha256()
    for file in sorted(file for pattern in _OURS for file in paths.PACKAGE.rglob(pattern)):
        found.update(f"{file.relative_to(paths.PACKAGE)}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()


@dataclass(frozen=True)
class Worker:
    """What a worker has. name: the machine's, for people. slots: builds at once. jobs: of all together.

    memory: bytes. targets: names of those that it builds for.
    """

    name: str
    slots: int
    jobs: int
    memory: int
    targets: tuple[str, ...]

    @classmethod
    def here(cls, name: str = "", slots: int = 0, jobs: int = 0, memory: int = 0, targets: str = "") -> Worker:
        """This machine; what is 0 or empty is found out."""
        jobs = jobs or len(os.sched_getaffinity(0))
        named = tuple(filter(None, targets.split(","))) or tuple(toolchain_names(paths.PACKAGE))
        return cls(name or socket.gethostname(), slots or jobs, jobs, memory or process.memory_available(), named)

    def numbered(self, number: str) -> Worker:
        """It as one of several of this machine."""
        return replace(self, name=f"{self.name}-{number}")

    def resources(self) -> dict[str, float]:
        """As Dask counts them."""
        return {"memory": float(self.memory), **{resource_of(target): float(1 << 20) for target in self.targets}}


def resource_of(target: str) -> str:
    """What Dask calls being able to build for it."""
    return f"target-{target}"


def obstacles(store_root: Path, *, offline: bool = True) -> list[str]:
    """Why this machine cannot build, in words; empty if it can."""
    found = [probe.line() for probe in examine(store_root, offline=offline) if probe.status == "fail"]
    existing = next(place for place in (store_root, *store_root.absolute().parents) if place.exists())
    if (free := shutil.disk_usage(existing).free) < LEAST:
        found.append(f"{store_root} has {free >> 20} MiB free; a worker needs {LEAST >> 20}")
    return found


def strangeness(other: Mapping[str, Any]) -> list[str]:
    """Why the scheduler, which has said `other`, is none for this machine: versions, the clock."""
    found = Versions.here().differences(other.get("versions") or {})
    apart = time.time() - float(other.get("time") or 0.0)
    if abs(apart) > SLOW:
        found.append(f"this clock is {abs(apart):.0f} seconds {'ahead' if apart > 0 else 'behind'}")
    return found


class RefusedError(MachineError):
    """This machine may not work for the cluster."""


def refusal(reasons: list[str]) -> RefusedError:
    """The error of a machine that may not work for the cluster."""
    hint = "`invoke doctor` tells more of the machine; versions: install the same on all machines"
    return RefusedError(f"this machine cannot work for the cluster: {reasons[0]}", details=reasons[1:], hint=hint)
