"""A shell as a phase of the build would have it, or a command there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from xbuild.base import log
from xbuild.base.errors import LateError, SourceError, UsageError
from xbuild.build import outputs, phases
from xbuild.build.environment import VARIABLES, Job, Root, sandbox
from xbuild.build.ground import furnish, lay
from xbuild.build.late import require_nothing_late
from xbuild.build.prepared import prepared
from xbuild.build.standing import artifact
from xbuild.build.subject import Subject
from xbuild.build.work import in_use
from xbuild.sandbox import run as sandboxes
from xbuild.sandbox.attached import run_apart

_BASH = f"exec bash --rcfile {VARIABLES} -i"
# An imported root may lack bash; other shells read what ENV names.
_SHELL = ("sh", "-c", f"if command -v bash > /dev/null; then {_BASH}; else exec env ENV={VARIABLES} sh -i; fi")


def shell(subject: Subject, command: Sequence[str], *, with_artifact: bool = False, as_root: bool = False) -> int:
    """Run `command` (interactively a shell if it is empty) as a phase would run; give its exit code.

    with_artifact: lay the finished artifact over the root. as_root: as a phase that runs as root. Raises UsageError if
    there is no artifact, or no phase of the recipe runs as root; LateError, at the end, if a twin could not go on.
    """
    if as_root and not subject.recipe.build.as_root:
        raise UsageError(f"no phase of {subject.title} runs as root", hint="`build.as-root` names those that do")
    place, store = subject.place, subject.store
    lock = store.lock(place.path.name, wait=False, describe=f"builds {subject.title}")
    with in_use(subject), lock:
        place.make()
        place.set_variables(subject.assignments)
        place.complete()
        progress = phases.Progress(place)
        if progress.records:
            _tell_changed(subject)
        env = {**subject.variables(progress.epoch), "TERM": os.environ.get("TERM", "dumb")}
        over = (_artifact(subject),) if with_artifact else ()
        root = furnish(subject, lay(subject), place, record=False)
        code = _run(subject, root, Job(tuple(command), env, over=over, changes=True, root=as_root))
        late = _late(subject, root)
        if not progress.records and command:
            store.discard(place.path)
        if late is not None:
            raise late
        return code if code >= 0 else 128 - code


def _late(subject: Subject, root: Root) -> LateError | None:
    """There is no phase to begin again here: so the user is told, whatever the command made of it."""
    if root.private is None or root.machine is not None:
        return None
    where, way = f"shell of {subject.title}", "the same once more with  --emulate {}"
    try:
        require_nothing_late(subject.place.marks, where, way=way)
    except LateError as error:
        return error
    return None


def _artifact(subject: Subject) -> Path:
    entry = artifact(prepared(subject))
    if entry is None:
        hint = f"invoke build {subject.command_line()}"
        raise UsageError(f"there is no artifact of {subject.title}", hint=hint)
    return unpacked(subject, entry)


def unpacked(subject: Subject, entry: Path) -> Path:
    """A directory with what the artifact in `entry` holds, in the work place."""
    directory = subject.place.path / "artifact"
    subject.store.discard(directory)
    directory.mkdir()
    archive = entry / f"{subject.file_name}.tar.zst"
    sandboxes.run(sandboxes.machine_view(), ["tar", "--force-local", "--zstd", "-xf", archive, "-C", directory])
    outputs.make_readable(directory)
    return directory


def _tell_changed(subject: Subject) -> None:
    try:
        subject.require_sources()
    except SourceError as fault:
        # No reason not to look at the tree that is there.
        log.warn(f"{fault.message}; the tree here is of the older ones")


def _run(subject: Subject, root: Root, job: Job) -> int:
    if root.machine and job.command:
        code, said = root.machine.capture(subject.place, job)
        log.output_text(said.decode(errors="replace").removesuffix("\n"))
        return code
    if root.machine:
        log.warn("this shell is in a sandbox, under qemu-user; a command after `--` runs in the emulated machine")
    where = sandbox(root, subject.place, job.env, cwd=job.cwd, over=job.over, as_root=job.root)
    with log.paused():
        return run_apart(where, job.command or _SHELL)
