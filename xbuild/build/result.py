"""What a build gave, as files of this machine."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xbuild.base.digest import file_sha256


@dataclass
class Result:
    """What a build gave. seconds: of every part that took any, phases and preparations, in order.

    records: the directory with the record of execs, a file a step. fallback: why the build asked for failed, where this
    is the one that took its place. told: what the mode tells, by name. anew: as in `Outcome`. began_again: how often
    programs began natively and again emulated, and ran natively, by real path in the root.
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
    anew: tuple[tuple[str, tuple[str, ...]], ...] = ()
    began_again: dict[str, tuple[int, int]] = field(default_factory=dict)

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
            "anew": [{"phase": phase, "programs": list(programs)} for phase, programs in self.anew],
            "began_again": {path: again for path, (again, _) in self.began_again.items()},
            "phases": [{"name": name, "seconds": round(seconds, 3)} for name, seconds in self.phases],
            "parts": [{"name": name, "seconds": round(seconds, 3)} for name, seconds in self.parts],
        }
