"""The task that begins a recipe for one's own project."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from xbuild.base import log
from xbuild.base.errors import PhaseError, UsageError, called
from xbuild.build.request import Request
from xbuild.build.result import Result
from xbuild.build.subject import Subject, read
from xbuild.cli.guard import guarded
from xbuild.cli.task import Context, task
from xbuild.doctor.install import confirm
from xbuild.projects import add_packages, write_recipe
from xbuild.projects.missing import offers
from xbuild.store.own import open_store


def completed(request: Request, subject: Subject, build: Callable[[], Result], *, assume_yes: bool) -> Result:
    """What `build` gives; what it says is missing is installed, if the user agrees, and it begins once more.

    Raises what `build` raises, with the packages that would help.
    """
    while True:
        try:
            return build()
        except PhaseError as error:
            found = offers(subject, error.log) if error.log else []
            if not found:
                raise
            names = " ".join(offer.package for offer in found)
            lines = [*error.details, "", *map(str, found)]
            told = PhaseError(error.message, details=lines, hint=f"with --yes the build has {names} too")
            told.log = error.log
            for offer in found:
                log.info(str(offer))
            if not confirm(f"build with {names}?", assume_yes=assume_yes):
                raise told from None
            add_packages(Path(request.recipe), [offer.package for offer in found])
            subject = read(request, subject.store)


@task(
    positional=["directory"],
    help={
        "directory": "of the project (default: the working directory)",
        "preset": "use this build system, where it has several",
    },
)
@guarded
def init(_c: Context, directory: str, preset: str = "") -> None:
    """Write a recipe, with comments, for the project in a directory; it goes to recipes/ there."""
    log.configure()
    if not Path(directory).is_dir():
        raise UsageError(f"{directory}: there is no such directory")
    file = write_recipe(Path(directory), open_store(), preset or None)
    log.output(str(file))
    log.info(called(f"edit it, then: invoke build {file.stem}"))
