"""Builds Debian packages, and hands out the files."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from xbuild.base.digest import file_sha256
from xbuild.base.errors import PhaseError, called
from xbuild.build.build import build
from xbuild.build.request import Request
from xbuild.build.result import Result
from xbuild.build.subject import Subject, read
from xbuild.formats.deb import SUFFIXES
from xbuild.packages import flat
from xbuild.packages.collect import collect, require_true
from xbuild.packages.source import SourcePackage
from xbuild.store.local import Store
from xbuild.store.own import open_store

_TESTS = re.compile(r"\bdh_auto_test\b|\*\*\* \[.*\b(?:check|test)s?\b|^FAILED \(|^# FAIL: +[1-9]", re.MULTILINE)
"""What a log says where tests failed: debhelper's step, make's target, the sums of unittest and of automake."""
_OF_RECIPES = {
    "put the package that has it into depends.packages": "the package that has it belongs into Build-Depends",
    "put its -dev package into depends.packages": "its -dev package belongs into Build-Depends",
    "put its package into depends.packages": "its package belongs into Build-Depends",
    "only `build.fetch` has": "a package must not need one (Debian Policy 4.9)",
}
"""Hints that speak of a recipe (build/phases.py), and what they are for who has a package."""
_RETRY = "retry:  "
"""How the line begins that names the command for a recipe (build/work.py)."""
_TAIL = 20_000
"""Characters of the end of a log that are searched for it."""


@dataclass(frozen=True)
class Built:
    """What came of a source package for one target. files: copies of all that the build gave, by name; the log too.

    subject: what was built, and in which roots.
    """

    package: SourcePackage
    subject: Subject
    result: Result
    files: tuple[Path, ...]

    @property
    def debs(self) -> tuple[Path, ...]:
        """The packages among the files."""
        return tuple(file for file in self.files if file.suffix in SUFFIXES)

    def as_json(self) -> dict[str, Any]:
        """For --json."""
        files = [
            {"file": str(file), "bytes": file.stat().st_size, "sha256": file_sha256(file)} for file in self.files
        ]
        return {"package": self.package.name, "version": self.package.version, "files": files,
                "build": self.result.as_json()}  # fmt: skip


def build_deb(
    package: SourcePackage,
    request: Request,
    output: Path | None = None,
    store: Store | None = None,
    command: str | None = None,
) -> Built:
    """Build `package` as `request` says, whose recipe is what `recipe_of` gave.

    output: the directory that the files come to; None: `dist/NAME_VERSION_ARCHITECTURE` of the project, which is a
    repository then. command: what asks for it, for people: `deb less --target armhf`. Raises as
    `xbuild.build.build.build`.
    """
    subject = read(request, store or open_store())
    try:
        result = build(replace(request, here=replace(request.here, publish=False)), subject.store)
    except PhaseError as error:
        known = f"deb {package.origin} --target {subject.toolchain.name} {request.options()}".rstrip()
        raise _explained(error, subject, command or known) from None
    dist = subject.project / "dist"
    files = collect(result.stored.artifact, result.records.with_name("logs"), output, dist, subject.store)
    held = subject.roots.tree(subject.packages).packages
    versions = {name: installed.version for name, installed in held.items()}
    require_true(files, subject.toolchain.architecture, versions)
    if output is None:
        flat.index(files[0].parent, files)
    flat.tell_not_taken(subject.roots.resolver.repositories, subject.toolchain.architecture, versions)
    return Built(package, subject, result, tuple(sorted(files)))


def _explained(error: PhaseError, subject: Subject, command: str) -> PhaseError:
    """The error with the commands that help; where tests may have failed, with what to ask about these."""
    lines = [line for line in error.details if not line.startswith(_RETRY)]
    again = [f"{_RETRY}invoke {command}    ({error.next_time})"]
    if error.log is not None and _TESTS.search(error.log.read_text(errors="replace")[-_TAIL:]):
        again.append(f"tests:  invoke {command} --nocheck    (without the package's own tests)")
        if subject.mode.twins:
            again.append(f"tests:  invoke {command} --mode emulated    (do they fail emulated, too?)")
    for recipes, own in _OF_RECIPES.items():
        error.hint = error.hint and error.hint.replace(recipes, own)
    error.details = (*lines, *map(called, again))
    return error
