"""What a build gave, as files of this machine."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from xbuild.build.executor import Answers
from xbuild.build.publish import Handed


@dataclass
class Result:
    """What a build gave. seconds: of every part that took any, phases and preparations, in order.

    handed: the files. stored: the same in the store, whatever form these have. fallback: why the build that was asked
    for failed, where this is the one that took its place. told: what the mode tells, by name. anew: as in `Outcome`.
    began_again: how often programs began natively and again emulated, and ran natively, by real path in the root.
    cache: as in `Outcome`.
    """

    recipe: str
    version: str
    target: str
    mode: str
    status: str
    handed: Handed
    stored: Handed
    parts: list[tuple[str, float]] = field(default_factory=list)
    phases: list[tuple[str, float]] = field(default_factory=list)
    told: dict[str, Any] = field(default_factory=dict)
    fallback: dict[str, Any] | None = None
    anew: tuple[tuple[str, tuple[str, ...]], ...] = ()
    began_again: dict[str, tuple[int, int]] = field(default_factory=dict)
    cache: Answers | None = None

    @property
    def records(self) -> Path:
        """The directory with the record of execs, a file a step."""
        return self.stored.manifest.with_name("records")

    def as_json(self) -> dict[str, Any]:
        """For --json."""
        return {
            "recipe": self.recipe,
            "version": self.version,
            "target": self.target,
            "mode": self.mode,
            "status": self.status,
            "artifact": str(self.handed.artifact),
            "sha256": self.handed.described["sha256"],
            "bytes": self.handed.described["bytes"],
            "manifest": str(self.handed.manifest),
            **({"debug": str(self.handed.debug)} if self.handed.debug else {}),
            **{name: str(file) for name, file in self.handed.papers.items()},
            "records": str(self.records),
            **self.told,
            **({"fallback": self.fallback} if self.fallback else {}),
            **({"compiler_cache": asdict(self.cache)} if self.cache else {}),
            "anew": [{"phase": phase, "programs": list(programs)} for phase, programs in self.anew],
            "began_again": {path: again for path, (again, _) in self.began_again.items()},
            "phases": [{"name": name, "seconds": round(seconds, 3)} for name, seconds in self.phases],
            "parts": [{"name": name, "seconds": round(seconds, 3)} for name, seconds in self.parts],
        }
