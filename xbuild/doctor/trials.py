"""Questions that are answered by doing, in throw-away namespaces and a throw-away directory."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from xbuild.base import log, process
from xbuild.base.errors import MachineError, XbuildError
from xbuild.binfmt import magic_mask, registration, serving
from xbuild.doctor import programs
from xbuild.doctor.probe import Probe
from xbuild.formats.elf import ElfError, read_elf
from xbuild.model.native import here
from xbuild.sandbox import idmap, seccomp
from xbuild.sandbox import run as sandboxes
from xbuild.sandbox.mounts import Overlay

FREE = 8 * 10**9
"""Bytes: roots, layers and twins of one target take about half of it, a build of CPython the rest."""

SECONDS = 20
"""How long one trial may take; each takes well below one second on a machine where it works."""

_ENTRY = "xbuild-doctor"
_BINFMT = "/proc/sys/fs/binfmt_misc"
_ANOTHER_PLACE = "name another directory by XBUILD_CACHE, on a local file system such as ext4, xfs or btrfs"

_DELETE_LOWER = """
cd "$1"
rm -r directory
mkdir directory
test -z "$(ls directory)"
echo changed > file
"""


def not_tried(name: str, needs: str) -> Probe:
    """The answer to a question that can only be asked once `needs` works."""
    return Probe(name, "warn", f"not tried: it needs {needs}")


@contextlib.contextmanager
def scrap(store_root: Path) -> Iterator[Path]:
    """A directory on the file system of the cache, owned by root inside, removed at the end.

    It lies in the cache itself, or where that would be made. Raises OSError if it cannot be made.
    """
    nearest = next(place for place in (store_root, *store_root.parents) if place.exists())
    # Without links on the way: the sandbox refuses those.
    path = Path(tempfile.mkdtemp(prefix=".xbuild-doctor-", dir=nearest.resolve()))
    try:
        yield _own(path)
    finally:
        try:
            sandboxes.remove_tree(path)
        except XbuildError:
            # Without a sandbox, nothing in it is anybody else's.
            shutil.rmtree(path)


def _own(path: Path) -> Path:
    """As idmap.own, but leaves `path` ours where no id can be had: then no sandbox starts anyway."""
    with contextlib.suppress(MachineError, OSError):
        idmap.own(path)
    return path


def user_namespace() -> Probe:
    """Can we make one, with mounts of its own?"""
    name = "user namespaces"
    if not _maps_can_be_had():
        return _plain_user_namespace()
    try:
        returncode, said = _capture(sandboxes.machine_view(), ["true"])
    except MachineError as error:
        return Probe(name, "fail", error.message, "see the settings and the confinement in this list")
    except OSError as error:
        # Root writes the maps himself.
        text = f"ids cannot be mapped: {error.strerror}"
        return Probe(name, "fail", text, "root of this container has too few ids: run xbuild outside of it")
    if returncode != 0:
        text = f"`true` in one: {process.describe_exit(returncode)}: {_tail(said)}"
        return Probe(name, "fail", text, "see the confinement in this list")
    return Probe(name, "ok", "made one, with mounts, processes and network of its own")


def _maps_can_be_had() -> bool:
    try:
        idmap.find()
    except MachineError:
        return False
    return os.geteuid() == 0 or shutil.which("newuidmap") is not None


def _plain_user_namespace() -> Probe:
    # Without a range of ids no sandbox starts; but the settings must not be blamed for that.
    name = "user namespaces"
    try:
        done = process.run(["unshare", "--user", "true"], capture=True, check=False)
    except MachineError as error:
        return not_tried(name, f"ids to map; {error.message}")
    if done.returncode == 0:
        text = "can be made, but are of no use without subordinate ids and newuidmap"
        return Probe(name, "warn", text)
    return Probe(name, "fail", _tail(done.stderr), "see the settings and the confinement in this list")


def id_maps() -> Probe:
    """Do the ids inside stand for those that they are to stand for?"""
    maps = sandboxes.id_map_of(sandboxes.machine_view())
    command = ["cat", "/proc/self/uid_map", "/proc/self/gid_map"]
    try:
        _, said = _capture(sandboxes.machine_view(), command)
    except MachineError as error:
        return Probe("id maps", "fail", error.message, error.hint)
    lines = [tuple(int(word) for word in line.split()) for line in said.decode().splitlines()]
    if lines == [*maps.uids, *maps.gids]:
        return Probe("id maps", "ok", f"{idmap.IDS} uids and gids; root inside is uid {maps.root[0]}")
    return Probe("id maps", "fail", f"wanted {[*maps.uids, *maps.gids]}, got {lines}")


def private_binfmt() -> Probe:
    """Can a namespace have its own binfmt_misc, with an entry?"""
    # In a namespace that is thrown away: one that ever had an instance no longer sees its ancestors'.
    name = "private binfmt_misc"
    if serving.way() == "system":
        return Probe(name, "ok", "not needed: builds use the machine's own")
    sandbox = replace(sandboxes.machine_view(), registrations=(_line("/bin/true", "F"),))
    try:
        returncode, said = _capture(sandbox, ["cat", f"{_BINFMT}/{_ENTRY}"])
    except MachineError as error:
        return Probe(name, "fail", error.message, "see kernel and fs.binfmt_misc in this list")
    if returncode != 0 or not said.startswith(b"enabled"):
        return Probe(name, "fail", f"an entry was registered and is not there: {_tail(said)}")
    return Probe(name, "ok", "mounted one and registered an entry")


def foreign_name() -> str:
    """What `foreign_program` calls itself."""
    return f"{programs.foreign().kind} programs"


def partner_name() -> str:
    """What `partner_program` calls itself."""
    return f"{here().partner.summary} programs"


def foreign_program(place: Path, store_root: Path) -> Probe:
    """Does a foreign program run, or, without any qemu, reach the registered program? place: from `scrap`."""
    name = foreign_name()
    program = _write(place / "foreign", programs.foreign().data)
    qemu = find_qemu(store_root)
    try:
        line = _line("/bin/echo", "FP") if qemu is None else _line(str(qemu), "F")
        private = serving.way() == "private"
        lines = (line,) if private else ()
        sandbox = replace(sandboxes.machine_view(), registrations=lines)
        returncode, said = _capture(sandbox, [program])
    except MachineError as error:
        return Probe(name, "fail", error.message, error.hint)
    if (qemu is not None or not private) and returncode == programs.EXIT:
        return Probe(name, "ok", f"ran one with {qemu if private else 'the entry of the machine'}")
    if qemu is None and returncode == 0 and str(program).encode() in said:
        text = "one reaches the registered program; not run: no qemu yet (the first build brings one)"
        return Probe(name, "ok", text)
    text = f"with {qemu or '/bin/echo'} registered: {process.describe_exit(returncode)}: {_tail(said)}"
    return Probe(name, "fail", text, "`invoke clean --roots` makes the store's qemu anew" if qemu else None)


def find_qemu(store_root: Path) -> Path | None:
    """A static qemu of a native root in the store for `foreign_program`, else the machine's own, else None."""
    name = programs.foreign().qemu
    for candidate in sorted((store_root / "roots").glob(f"*/root/usr/bin/{name}")):
        # One that needs libraries would take the machine's, not its root's.
        with contextlib.suppress(OSError, ElfError):
            if read_elf(candidate).is_static:
                return candidate.resolve()
    found = shutil.which(f"{name}-static") or shutil.which(name)
    return Path(found) if found else None


def partner_program(place: Path) -> Probe:
    """Do programs of the machine's other word size run? place: from `scrap`."""
    name = partner_name()
    program = _write(place / "partner", programs.partner())
    try:
        returncode = process.run([program], capture=True, check=False).returncode
    except OSError as error:
        text = f"{error.strerror}: the target armhf needs them, for its compiler's twins"
        return Probe(name, "fail", text, here().partner.remedy)
    if returncode != programs.EXIT:
        text = f"one that exits with {programs.EXIT} gave: {process.describe_exit(returncode)}"
        return Probe(name, "fail", text)
    return Probe(name, "ok", "ran one")


def begin_again() -> Probe:
    """Can a native tool begin again emulated in the middle of its work (dispatcher/late.h)?"""
    name = "system call dispatch"
    try:
        seccomp.try_dispatch()
    except OSError as error:
        lack = "a native tool that asks for a module of the target cannot begin again emulated by itself"
        text = f"{error.strerror}: {lack}; the whole build then begins again, with that tool emulated"
        hint = "a kernel from Linux 5.11 on, on x86-64, in a container whose seccomp filter lets prctl(2) pass"
        return Probe(name, "warn", text, hint)
    return Probe(name, "ok", "a native tool can begin again emulated")


def overlay(place: Path) -> Probe:
    """Does an overlay work in the cache, even when a lower directory is deleted? place: from `scrap`."""
    for name in ("lower/directory", "upper", "work", "merged"):
        (place / name).mkdir(parents=True)
    for name in ("lower/directory/old", "lower/file"):
        (place / name).write_text("old\n")
    for path in place.rglob("*"):
        idmap.own(path)
    merged = str(place / "merged")
    layer = Overlay((str(place / "lower"),), str(place / "upper"), str(place / "work"), merged)
    view = sandboxes.machine_view()
    sandbox = replace(view, mounts=(*view.mounts, layer))
    try:
        returncode, said = _capture(sandbox, ["sh", "-euc", _DELETE_LOWER, "sh", merged])
    except MachineError as error:
        return Probe("overlay", "fail", error.message, _ANOTHER_PLACE)
    if returncode != 0 or (place / "lower/file").read_text() != "old\n":
        return Probe("overlay", "fail", f"changing files in it failed: {_tail(said)}", _ANOTHER_PLACE)
    return Probe("overlay", "ok", "mounted one in the cache and deleted a lower directory")


def cache_refused(store_root: Path, error: OSError) -> Probe:
    """The answer to `cache` when there can be no directory for trials."""
    return Probe("cache directory", "fail", f"{store_root}: {error.strerror}", _ANOTHER_PLACE)


def cache(store_root: Path, place: Path, *, works: bool) -> Probe:
    """Is the store's directory of use? place: from `scrap`. works: whether user namespaces do."""
    name = "cache directory"
    if os.statvfs(place).f_flag & os.ST_NOEXEC:
        return Probe(name, "fail", f"{store_root} is on a file system mounted noexec", _ANOTHER_PLACE)
    if works:
        script = 'cd "$1" && : > probe && rm probe'
        try:
            returncode, said = _capture(sandboxes.machine_view(), ["sh", "-c", script, "sh", place])
        except MachineError as error:
            return Probe(name, "fail", f"{store_root}: {error.message}", _ANOTHER_PLACE)
        if returncode != 0:
            text = f"{store_root}: root of a sandbox cannot write there: {_tail(said)}"
            hint = "open every directory above it to others (chmod o+x), or name another by XBUILD_CACHE"
            return Probe(name, "fail", text, hint)
    free = shutil.disk_usage(place).free
    text = f"{store_root}: {log.human_size(free)} free"
    if free < FREE:
        hint = "free some space (`invoke clean`), or name another directory by XBUILD_CACHE"
        return Probe(name, "warn", f"{text}; a target and a large build want {log.human_size(FREE)}", hint)
    return Probe(name, "ok", text)


def _capture(sandbox: sandboxes.Sandbox, command: Sequence[str | Path]) -> tuple[int, bytes]:
    # As sandboxes.capture, but a trial that hangs is an answer too.
    with tempfile.TemporaryFile() as output:
        with sandboxes.started(sandbox, command, output=output) as running:
            if running.child.wait(SECONDS) is None:
                raise MachineError(f"no answer within {SECONDS} s from {process.show(command)}")
            returncode = running.result()
        output.seek(0)
        return returncode, output.read()


def _line(interpreter: str, flags: str) -> str:
    magic, mask = magic_mask(programs.foreign().elf)
    return registration(_ENTRY, magic, mask, interpreter, flags)


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    path.chmod(0o755)
    return path


def _tail(said: bytes) -> str:
    return " ".join(said.decode(errors="replace").split())[-300:] or "it said nothing"
