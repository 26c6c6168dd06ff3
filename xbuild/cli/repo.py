"""The task that makes apt repositories of packages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xbuild.base import log, paths
from xbuild.cli.arguments import names
from xbuild.cli.guard import guarded
from xbuild.cli.task import Context, task
from xbuild.model.load import load_toolchain
from xbuild.packages import repo as repositories


@task(
    positional=["directory"],
    iterable=["add"],
    help={
        "directory": "the repository; it is made if it is not there",
        "add": "a .deb file, a .changes file or a directory with packages",
        "sign": "sign with this key of gpg: a fingerprint, or an address",
        "suite": "the name of the repository's release",
        "target": "make it also for these targets, separated by commas, besides those of its packages",
        "json": "write one JSON object to stdout, and nothing else",
    },
)
@guarded
def repo(
    _c: Context,
    directory: str,
    add: Sequence[str] | None = None,
    sign: str = "",
    suite: str = repositories.SUITE,
    target: str = "",
    json: bool = False,
) -> None:
    """Add packages to an apt repository of your own; files, .changes files or directories stand after its name."""
    log.configure(json=json)
    project = paths.project()
    architectures = [load_toolchain(name, project).architecture for name in names("--target", target)] if target else []
    words = [Path(word) for word in add or ()]
    more: dict[str, Any] = {"suite": suite, "architectures": architectures, "key": sign or None}
    made = repositories.publish(Path(directory).absolute(), words, **more)
    packages = [dict(zip(("name", "version", "architecture"), one.identity, strict=True)) for one in made.packages]
    log.result(
        {
            "repository": str(made.place),
            "suite": made.suite,
            "architectures": list(made.architectures),
            "packages": packages,
            "added": list(made.added),
            "signed": made.signed,
            "line": made.line,
        }
    )
    if not json:
        log.output(f"{len(made.added)} added, {len(made.packages)} in all, for {' '.join(made.architectures)}")
        log.output(made.line)
