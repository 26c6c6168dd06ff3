"""What the user asks of a build: plain words, which can be written as JSON and read back anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import PlainSerializer

from xbuild.base import process
from xbuild.build.modes.table import DEFAULT
from xbuild.model.handing import Form


@dataclass(frozen=True)
class Here:
    """What concerns only the machine that builds, and decides about no byte of the result.

    jobs: compilers at once; 0: as many as there are cores. start: step to begin with. keep: keep the work place.
    publish: put a copy into dist/. format, sbom, provenance: of that copy, instead of the recipe's. cache: bytes that
    the compiler cache may take, 0 for its own measure; None: there is none.
    """

    jobs: int = 0
    start: str | None = None
    keep: bool = False
    publish: bool = True
    format: Form | None = None
    sbom: bool = False
    provenance: bool = False
    cache: int | None = None


@dataclass(frozen=True)
class Request:
    """One recipe for one target, and all options that decide about what comes out; `here`: those that do not.

    recipe, target: names of files of the project, or paths. snapshot: a day, or a time, whose archive is taken. root:
    name or path of an imported root, instead of the recipe's. without: real paths, in the root, of programs that are to
    have no twin. emulate: as the recipe's `twins: {remove: [...]}`, besides. grouped: tools of a group switch together.
    servers: machines of the user's own, in distcc's words (distcc(1), "HOST SPECIFICATIONS"); () is a server of ours.
    locked: the recipe's lock file counts. repositories: directories with packages of the user's own, which build
    dependencies may come from too. strip: instead of the recipe's.
    """

    recipe: str
    target: str
    mode: str = DEFAULT.name
    suite: str | None = None
    snapshot: str | None = None
    root: str | None = None
    without: Annotated[frozenset[str], PlainSerializer(sorted, return_type=Sequence[str])] = frozenset()
    emulate: Annotated[frozenset[str], PlainSerializer(sorted, return_type=Sequence[str])] = frozenset()
    grouped: bool = True
    servers: tuple[str, ...] = ()
    locked: bool = True
    repositories: tuple[str, ...] = ()
    strip: bool | Literal["debug-package"] | None = None
    here: Here = field(default_factory=Here)

    def options(self) -> str:
        """What is not the default, as on the command line after recipe and target."""
        words = ["--mode", self.mode] if self.mode != DEFAULT.name else []
        words += ["--suite", self.suite] if self.suite else []
        words += ["--snapshot", self.snapshot] if self.snapshot else []
        words += ["--root", self.root] if self.root else []
        words += ["--without", ",".join(sorted(self.without))] if self.without else []
        words += ["--emulate", ",".join(sorted(self.emulate))] if self.emulate else []
        words += ["--distcc-hosts", " ".join(self.servers)] if self.servers else []
        words += ["--strip", str(self.strip).lower()] if self.strip is not None else []
        words += [word for place in self.repositories for word in ("--repo", place)]
        return process.show(words)
