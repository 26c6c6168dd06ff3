"""What the user asked of a build, and what the build gave."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xbuild.base.digest import file_sha256
from xbuild.build.modes.table import DEFAULT


@dataclass(frozen=True)
class Options:
    """What the user asked for.

    jobs: compilers at once. start: phase to begin with. keep: keep the work place. without: real paths, in the root, of
    programs that are to have no twin. grouped: tools of a group switch together. servers: machines of the user's own,
    in distcc's words (distcc(1), "HOST SPECIFICATIONS"); () is a server of ours. publish: put a copy into dist/. root:
    name or path of an imported root, instead of the recipe's.
    """

    mode: str = DEFAULT.name
    suite: str | None = None
    jobs: int = 0
    start: str | None = None
    keep: bool = False
    without: frozenset[str] = frozenset()
    grouped: bool = True
    servers: tuple[str, ...] = ()
    publish: bool = True
    root: str | None = None


@dataclass
class Result:
    """What a build gave. seconds: of every part that took any, phases and preparations, in order.

    records: the directory with the record of execs, a file a step. fallback: why the build asked for failed, where this
    is the one that took its place. told: what the mode tells, by name.
    """

    recipe: str
    version: str
    target: str
    mode: str
    status: str
    artifact: Path
    manifest: Path
    records: Path
    parts: list[tuple[str, float]] = field(default_factory=list)
    phases: list[tuple[str, float]] = field(default_factory=list)
    told: dict[str, Any] = field(default_factory=dict)
    fallback: dict[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """For --json."""
        return {
            "recipe": self.recipe,
            "version": self.version,
            "target": self.target,
            "mode": self.mode,
            "status": self.status,
            "artifact": str(self.artifact),
            "sha256": file_sha256(self.artifact),
            "bytes": self.artifact.stat().st_size,
            "manifest": str(self.manifest),
            "records": str(self.records),
            **self.told,
            **({"fallback": self.fallback} if self.fallback else {}),
            "phases": [{"name": name, "seconds": round(seconds, 3)} for name, seconds in self.phases],
            "parts": [{"name": name, "seconds": round(seconds, 3)} for name, seconds in self.parts],
        }
