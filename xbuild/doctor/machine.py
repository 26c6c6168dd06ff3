"""Questions that are answered by looking: cheap enough for the start of every build, but for the mirror."""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from xbuild.base import paths, process
from xbuild.base.errors import MachineError, XbuildError
from xbuild.binfmt import kernel as binfmt_misc
from xbuild.binfmt import serving
from xbuild.doctor import install
from xbuild.doctor.probe import Probe
from xbuild.model import native
from xbuild.model.load import load_toolchain, toolchain_names
from xbuild.roots import mirror
from xbuild.sandbox import idmap

TESTED = {("debian", "12"), ("debian", "13"), ("ubuntu", "24.04")}
"""ID and VERSION_ID, as in os-release(5), of the distributions that xbuild is tested on."""


def parse_os_release(text: str) -> dict[str, str]:
    """The assignments of a file as in os-release(5)."""
    found = {}
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and not name.startswith("#"):
            try:
                found[name] = "".join(shlex.split(value))
            except ValueError:
                found[name] = value
    return found


def distribution(files: tuple[Path, ...] = (Path("/etc/os-release"), Path("/usr/lib/os-release"))) -> Probe:
    """Is it one that xbuild is tested on?"""
    text = next((file.read_text(errors="replace") for file in files if file.exists()), "")
    values = parse_os_release(text)
    name = values.get("PRETTY_NAME") or values.get("ID") or "unknown"
    if (values.get("ID"), values.get("VERSION_ID")) in TESTED:
        return Probe("distribution", "ok", name)
    hint = "Debian 12, Debian 13 and Ubuntu 24.04 are supported; elsewhere packages may have other names"
    return Probe("distribution", "warn", f"{name}: not tested", hint)


def kernel(release: str | None = None) -> Probe:
    """Is it new enough for a private binfmt_misc? release: as `uname -r` says it; None: this machine's."""
    release = os.uname().release if release is None else release
    if serving.way(release) == "private":
        version = serving.parse_kernel(release)
        if version is not None and version >= serving.KERNEL:
            return Probe("kernel", "ok", f"Linux {release}")
        return Probe("kernel", "warn", f"Linux {release}: a private binfmt_misc needs {_needed()}")
    served = served_targets()
    if served:
        return Probe("kernel", "ok", f"Linux {release}; the machine's own binfmt_misc serves {', '.join(served)}")
    if os.environ.get(serving.SETTING):
        lacking = f"{serving.SETTING}=system, and no entry of the machine serves builds"
    else:
        lacking = f"a private binfmt_misc needs {_needed()}"
    own = native.here().name
    text = f"Linux {release}: {lacking}; so only the target {own} can be built"
    command = install.own_command(["binfmt.install", "armhf", "--system", "--dispatcher"])
    hint = (
        f"{command}; or a newer kernel: Debian 13 and Ubuntu 24.04 have one, "
        f"Debian 12 in bookworm-backports (linux-image-{own})"
    )
    return Probe("kernel", "fail", text, hint)


def _needed() -> str:
    return ".".join(map(str, serving.KERNEL))


def served_targets() -> list[str]:
    """The project's targets whose programs an entry of the machine hands to a build's dispatcher."""
    state = binfmt_misc.look(others=False)
    found = []
    for name in toolchain_names(paths.project()):
        toolchain = load_toolchain(name, paths.project())
        if not toolchain.native and serving.entry_for(toolchain.elf, state) is not None:
            found.append(name)
    return found


def architecture(machine: str | None = None) -> Probe:
    """Is it one that xbuild runs on? machine: as `uname -m` says it; None: this machine's."""
    known = native.find(machine)
    name = machine or platform.machine()
    if known is not None:
        return Probe("architecture", "ok", name)
    return Probe("architecture", "fail", f"{name}: xbuild does not run on such a machine", native.supported())


def programs() -> Probe:
    """Are the programs and files there that every build needs?"""
    missing = install.missing()
    if not missing:
        return Probe("programs", "ok", " ".join(need.package for need in install.NEEDS))
    text = "; ".join(f"no {', '.join(lacking)} (package {package})" for package, lacking in missing.items())
    return Probe("programs", "fail", text, install.Lack(missing, ids=False).line())


def git() -> Probe:
    """Is git there, which only recipes with a git source need?"""
    if not install.GIT.lacking():
        return Probe("git", "ok", "there, for recipes with a git source")
    text = "not there; only recipes with a git source need it"
    lacking = install.Lack({install.GIT.package: install.GIT.programs}, ids=False)
    return Probe("git", "warn", text, lacking.line())


def subordinate_ids() -> Probe:
    """Has the caller a range of ids that is wide enough for a root?"""
    try:
        ids = idmap.find(install.SUBUID, install.SUBGID)
    except MachineError as error:
        try:
            hint = install.Lack({}, ids=True).line()
        except MachineError as nothing_free:
            hint = f"{nothing_free.message}: {nothing_free.hint}"
        return Probe("subordinate ids", "fail", error.message, hint)
    (uid, uids), (gid, gids) = ids.uids[0][1:], ids.gids[0][1:]
    return Probe("subordinate ids", "ok", f"{uids} uids from {uid}, {gids} gids from {gid}")


@dataclass(frozen=True)
class _Setting:
    """A kernel setting. bad: the value that stands in the way. remedy: the one that does not.

    root_too: whether it also binds root.
    """

    name: str
    bad: str
    remedy: str
    root_too: bool = False

    def probe(self, proc: Path, *, works: bool) -> Probe | None:
        file = proc / "sys" / self.name.replace(".", "/")
        try:
            value = file.read_text().strip()
        except OSError:
            return None
        text = f"{self.name} = {value}"
        if value != self.bad or (os.geteuid() == 0 and not self.root_too):
            return Probe("setting", "ok", text)
        if works:
            return Probe("setting", "ok", f"{text}, yet user namespaces work here")
        command = process.show(install.as_root(["sysctl", "-w", f"{self.name}={self.remedy}"]))
        hint = f"{command}; to keep it, write {self.name}={self.remedy} into /etc/sysctl.d/60-xbuild.conf"
        return Probe("setting", "fail", f"{text} forbids user namespaces", hint)


_SETTINGS = (
    _Setting("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
    _Setting("kernel.unprivileged_userns_clone", "0", "1"),
    # What the kernel allows depends on its memory; any number well above one per sandbox will do.
    _Setting("user.max_user_namespaces", "0", "10000", root_too=True),
)


def settings(*, works: bool, proc: Path = Path("/proc")) -> list[Probe]:
    """The kernel settings that can stand in the way of user namespaces, with their values.

    works: whether user namespaces were found to work, so that no setting can be at fault.
    proc: where /proc is.
    """
    return [probe for setting in _SETTINGS if (probe := setting.probe(proc, works=works))]


def binfmt_module(*, works: bool, proc: Path = Path("/proc")) -> Probe:
    """Does the kernel know binfmt_misc? works: whether a private one works. proc: where /proc is."""
    known = "binfmt_misc" in (proc / "filesystems").read_text().split()
    if known or works:
        return Probe("fs.binfmt_misc", "ok", "the kernel has it")
    text = "the kernel has no binfmt_misc, or its module is not loaded"
    return Probe("fs.binfmt_misc", "fail", text, process.show(install.as_root(["modprobe", "binfmt_misc"])))


def confinement(*, works: bool, proc: Path = Path("/proc"), root: Path = Path("/")) -> Probe:
    """Does a container, a seccomp filter or no_new_privs hold us?

    works, proc: as in `settings`. root: where / is.
    """
    status = dict(
        line.split(":\t", 1) for line in (proc / "self/status").read_text().splitlines() if ":\t" in line
    )
    held = _containers(root, os.environ)
    if status.get("Seccomp") == "2":
        held.append("seccomp filter")
    if status.get("NoNewPrivs") == "1":
        held.append("no_new_privs")
    if not held:
        return Probe("confinement", "ok", "none: no container, no seccomp filter")
    text = ", ".join(held)
    if works:
        return Probe("confinement", "ok", f"{text}, yet user namespaces work here")
    hint = (
        "start the container with --security-opt seccomp=unconfined --security-opt apparmor=unconfined "
        "--security-opt systempaths=unconfined, and without no-new-privileges"
    )
    # No more than a guess: the answer that counts is that of the trial.
    return Probe("confinement", "warn", f"{text}: may be what forbids user namespaces", hint)


def _containers(root: Path, environment: Mapping[str, str]) -> list[str]:
    markers = {"docker container": ".dockerenv", "podman container": "run/.containerenv"}
    found = [name for name, file in markers.items() if (root / file).exists()]
    if not found and (kind := environment.get("container")):
        found.append(f"{kind} container")
    return found


def package_mirror() -> Probe:
    """Does a package mirror that we know of serve what the toolchains ask for? Uses the network."""
    served: list[str] = []
    missing: list[str] = []
    try:
        for name in toolchain_names(paths.project()):
            toolchain = load_toolchain(name, paths.project())
            suite, wanted = toolchain.distribution.suite, toolchain.architecture
            address = mirror.find(suite, wanted)
            # An address from the setting is taken without asking.
            found = address is not None and mirror.serves(address, suite, wanted)
            (served if found else missing).append(f"{suite} for {wanted}")
    except XbuildError as error:
        return Probe("package mirror", "warn", f"not asked: {error.message}", error.hint)
    if not missing:
        return Probe("package mirror", "ok", f"serves {', '.join(served)}")
    if os.environ.get(mirror.SETTING):
        text = f"{mirror.SETTING} does not serve {', '.join(missing)}, or does not answer"
        return Probe("package mirror", "warn", text, f"name another by {mirror.SETTING}, or unset it")
    text = f"no mirror in the machine's apt sources serves {', '.join(missing)}"
    text += ": mmdebstrap's default is used, not tried"
    return Probe("package mirror", "warn", text, f"{mirror.SETTING}=ADDRESS names a mirror to use")
