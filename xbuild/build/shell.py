"""A shell as a phase of the build would have it, or a command there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from xbuild.base import log
from xbuild.base.errors import LateError, MachineError, SourceError, UsageError, called
from xbuild.base.paths import BUILD
from xbuild.build import outputs, phases
from xbuild.build.artifact import ARCHIVE
from xbuild.build.build import provide
from xbuild.build.environment import VARIABLES, Job, Root, sandbox
from xbuild.build.ground import furnish, lay
from xbuild.build.late import require_nothing_late
from xbuild.build.plan import directory_of
from xbuild.build.prepared import prepared
from xbuild.build.standing import artifact, built, not_built
from xbuild.build.subject import Subject
from xbuild.build.work import in_use
from xbuild.model.phases import UNPACK
from xbuild.sandbox import run as sandboxes
from xbuild.sandbox.attached import run_apart

_BASH = f"exec bash --rcfile {VARIABLES} -i"
# An imported root may lack bash; other shells read what ENV names.
_SHELL = ("sh", "-c", f"if command -v bash > /dev/null; then {_BASH}; else exec env ENV={VARIABLES} sh -i; fi")


def shell(subject: Subject, command: Sequence[str], *, with_artifact: bool = False, as_root: bool = False) -> int:
    """Run `command` (interactively a shell if it is empty) as the last phase did that ran; give its exit code.

    with_artifact: lay the finished artifact over the root. as_root: as a phase that runs as root. Raises UsageError if
    there is no artifact, or no phase of the recipe runs as root; LateError, at the end, if a twin could not go on.
    """
    if as_root and not subject.recipe.build.as_root:
        raise UsageError(f"no phase of {subject.title} runs as root", hint="`build.as-root` names those that do")
    provide(subject)
    place, store = subject.place, subject.store
    lock = store.lock(place.path.name, wait=False, describe=f"builds {subject.title}")
    with in_use(subject), lock:
        place.make()
        place.set_variables(subject.assignments)
        place.complete()
        progress = phases.Progress(place)
        if progress.records:
            _tell_changed(subject, progress)
        elif built(subject):
            _tell_gone(subject)
        env = {**subject.variables(progress.epoch), "TERM": os.environ.get("TERM", "dumb")}
        over = (_artifact(subject),) if with_artifact else ()
        root = furnish(subject, lay(subject), place, record=False)
        # Where the last phase was that ran.
        where = directory_of(subject.recipe, progress.records[-1].name) if progress.records else BUILD
        code = _run(subject, root, Job(tuple(command), env, where, over=over, changes=True, root=as_root))
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
        raise not_built(subject)
    return unpacked(subject, entry)


def unpacked(subject: Subject, entry: Path) -> Path:
    """A directory with what the artifact in `entry` holds, in the work place."""
    directory = subject.place.path / "artifact"
    subject.store.discard(directory)
    directory.mkdir()
    archive = entry / f"{subject.file_name}{ARCHIVE}"
    sandboxes.run(sandboxes.machine_view(), ["tar", "--force-local", "--zstd", "-xf", archive, "-C", directory])
    outputs.make_readable(directory)
    return directory


def _tell_changed(subject: Subject, progress: phases.Progress) -> None:
    try:
        unpacked = prepared(subject).steps[0]
    except SourceError as fault:
        # No reason not to look at the tree that is there.
        log.warn(f"{fault.message}; the tree here was made of an older source")
    except MachineError:
        return
    else:
        if progress.records[0].key != unpacked.key and any(source.path for source in subject.recipe.sources):
            log.warn(f"{subject.title}: its inputs changed; the tree here was made of the old ones")


def _tell_gone(subject: Subject) -> None:
    log.info(f"{subject.title} is built, and its tree is gone with that: what follows begins with an empty /build")
    log.info(called(f"to keep the tree: invoke build {subject.command_line()} --from {UNPACK} --keep"))


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
