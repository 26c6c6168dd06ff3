"""What the user asked of a build, and what the build gave."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xbuild.digest import file_sha256
from xbuild.environment import Mode


@dataclass(frozen=True)
class Options:
    """What the user asked for. jobs: compilers at once. start: phase to begin with. keep: keep the work place."""

    mode: Mode = "substituted"
    suite: str | None = None
    jobs: int = 0
    start: str | None = None
    keep: bool = False


@dataclass
class Result:
    """What a build gave. seconds: of every part that took any, phases and preparations, in order."""

    recipe: str
    version: str
    target: str
    mode: str
    status: str
    artifact: Path
    manifest: Path
    parts: list[tuple[str, float]] = field(default_factory=list)
    phases: list[tuple[str, float]] = field(default_factory=list)

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
            "phases": [{"name": name, "seconds": round(seconds, 3)} for name, seconds in self.phases],
            "parts": [{"name": name, "seconds": round(seconds, 3)} for name, seconds in self.parts],
        }
