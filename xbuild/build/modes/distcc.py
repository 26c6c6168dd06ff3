"""Mode distcc: the emulated root, whose compilers hand their work to a native distccd beside the build.

The root's own distcc stands in for the compilers by coming first in PATH (distcc(1), "MASQUERADING"), behind a script
that keeps here what distcc gets wrong (`masquerade.py`). The server runs in the build's private network, in the native
root of the target's word size, so that no width shows in what it writes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from xbuild.base import log
from xbuild.base.digest import file_sha256
from xbuild.base.errors import MachineError
from xbuild.base.paths import BUILDER
from xbuild.build.environment import Root, WorkPlace
from xbuild.build.modes import masquerade
from xbuild.build.modes.mode import CLIENT_LOG, Mode, Site
from xbuild.formats.debian import Tree
from xbuild.model.native import here
from xbuild.model.toolchain import Toolchain
from xbuild.roots.distribution import Roots
from xbuild.sandbox.mounts import Bind
from xbuild.sandbox.run import ROOT_PATH, Service, give_tree
from xbuild.twins.privatetree import WORKPLACE, tool_sandbox

PACKAGE = "distcc"
PORT = 3632
"""What distccd listens on unless it is told otherwise (distccd(1))."""

MASQUERADE = "/run/distcc"
"""Where, inside, that lies which stands in for compilers. Debian's own directory lacks cc and c++."""

SERVER_LOG = "distccd.log"

NOBODY = 65534
_CLIENT_DIRECTORY = "/var/tmp/distcc"
_DAEMON = "/usr/bin/distccd"
_COMPILER = r"(?:{triplet}-)?(?:gcc|g\+\+)(?:-[0-9]+)?|cc|c\+\+"
_LINE = re.compile(r"distcc\[(\d+)\] (.*)")


@dataclass
class Summary:
    """What became of the calls of compilers, by count.

    remote: compiled by a server. fallback: could have been, but was compiled here; files: which. failed: a
    compile that failed there and here alike, such as a question of configure. local: links, questions, and whatever is
    not given away.
    """

    remote: int = 0
    fallback: int = 0
    failed: int = 0
    local: int = 0
    files: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"distcc: {self.remote} compiled by the server, {self.fallback} that should have been were compiled here, "
            f"{self.failed} failed everywhere, {self.local} were none for a server"
        )


def tree_for(toolchain: Toolchain, trees: Mapping[str, Path]) -> Path:
    """The native root, of `trees` by architecture, whose compilers have the target's word size."""
    return trees[here().architectures(toolchain.elf.elf_class)[-1]]


def variables(known: Mapping[str, str], servers: Sequence[str], jobs: int) -> dict[str, str]:
    """What the environment `known` of a build changes to in this mode."""
    return {
        "PATH": f"{MASQUERADE}:{known['PATH']}",
        "DISTCC_HOSTS": " ".join(servers) or f"127.0.0.1:{PORT}/{jobs}",
        "DISTCC_DIR": _CLIENT_DIRECTORY,
        "DISTCC_LOG": f"{_CLIENT_DIRECTORY}/{CLIENT_LOG}",
        "DISTCC_VERBOSE": "1",
    }


def prepare(place: WorkPlace, compilers: Sequence[str]) -> None:
    """Lay what stands in for `compilers`, and make the client's own directory.

    Without that directory the client compiles all by itself, and says so only in its log.
    """
    client = _client_directory(place)
    if not client.exists():
        client.mkdir()
        file = place.logs / CLIENT_LOG
        file.unlink(missing_ok=True)
        file.touch()
        file.chmod(0o644)
        (client / CLIENT_LOG).hardlink_to(file)
        give_tree(BUILDER, [client])
    masquerade.lay(place.scratch("run") / Path(MASQUERADE).name, MASQUERADE, compilers)


def service(
    toolchain: Toolchain, trees: Mapping[str, Path], compilers: Sequence[str], place: WorkPlace, jobs: int
) -> Service:
    """The server for the build at `place`. Raises MachineError if the native root has none."""
    return server(toolchain, trees, compilers, (place.path / "distccd", place.logs / SERVER_LOG), jobs)


def server(
    toolchain: Toolchain, trees: Mapping[str, Path], compilers: Sequence[str], places: tuple[Path, Path], jobs: int,
    level: str = "info",
) -> Service:  # fmt: skip
    """A server for whoever is in its network, of `trees` by architecture. places: a directory of its own, and its log.

    level: of what it logs (distccd(1)). Raises MachineError if the native root has none.
    """
    native, (folder, file) = tree_for(toolchain, trees), places
    if not (native / _DAEMON.lstrip("/")).exists():
        hint = f"add {PACKAGE} to native-root and word-size-root in toolchains/{toolchain.name}.yml"
        raise MachineError(f"the native root for {toolchain.name} has no {_DAEMON}", hint=hint)
    (folder / "bin").mkdir(parents=True, exist_ok=True)
    for name in compilers:
        plain = {"cc": "gcc", "c++": "g++"}.get(name, name).removeprefix(f"{toolchain.triplet}-")
        link = folder / "bin" / name
        if not link.is_symlink():
            link.symlink_to(f"/usr/bin/{toolchain.triplet}-{plain}")
    file.touch()
    file.chmod(0o644)
    path = {"PATH": f"{WORKPLACE}/bin:{ROOT_PATH}"}
    where = replace(tool_sandbox(native, (Bind(str(folder), WORKPLACE),), path), uid=NOBODY, gid=NOBODY)
    # Insecure means: any compiler that PATH has. Nobody else is in this network.
    command: tuple[str, ...] = (_DAEMON, "--no-detach", "--daemon", "--enable-tcp-insecure", "--log-stderr")
    command += ("--log-level", level, "--allow", "127.0.0.1", "--listen", "127.0.0.1")
    command += ("--port", str(PORT), "--jobs", str(jobs))
    return Service(where, command, PORT, file)


def _client_directory(place: WorkPlace) -> Path:
    return place.path / "scratch" / "var-tmp" / Path(_CLIENT_DIRECTORY).name


def compilers(target: Tree, toolchain: Toolchain, seen: Tree | None = None) -> list[str]:
    """The names of the compilers of `target`. seen: it with layers over it; what lies in these is no server's."""
    pattern = _COMPILER.format(triplet=re.escape(toolchain.triplet))
    found = sorted(name for name in target.names("/usr/bin") if re.fullmatch(pattern, name))
    return [
        name for name in found
        if seen is None or seen.located(f"/usr/bin/{name}") == target.located(f"/usr/bin/{name}")
    ]  # fmt: skip


def summary(place: WorkPlace) -> Summary:
    """What the client's log tells; messages as in its sources (compile.c, arg.c)."""
    file = place.logs / CLIENT_LOG
    found = Summary()
    states: dict[str, str] = {}
    for line in file.read_text(errors="replace").splitlines() if file.exists() else ():
        if match := _LINE.match(line):
            _follow(match[1], match[2], states, found)
    return found


def told(place: WorkPlace) -> dict[str, Any]:
    """The summary for the manifest; the user is told too."""
    found = summary(place)
    (log.warn if found.fallback else log.info)(str(found))
    return {PACKAGE: asdict(found)}


def _follow(pid: str, said: str, states: dict[str, str], found: Summary) -> None:
    """Take one line of the log; states: what each of the client's processes is about to do here."""
    if said.startswith("(dcc_scan_args) scanning"):
        states[pid] = "local"
    elif said.startswith(masquerade.KEPT):
        found.local += 1
    elif re.match(r"compile from .* to ", said):
        # It is one for a server: where it is compiled here after all, the client had to fall back.
        states[pid] = "fallback"
    elif re.match(r"compile .* on (?!localhost).* completed ok$", said):
        found.remote += 1
    elif match := re.match(r"(?:ERROR: )?compile (.*) on localhost (completed ok|failed.*)$", said):
        state = states.pop(pid, "local")
        if state == "local":
            found.local += 1
        elif match[2] == "completed ok":
            found.fallback += 1
            found.files.append(match[1])
        else:
            found.failed += 1


@dataclass(frozen=True)
class Distcc(Mode):
    """Compiling goes to a native server."""

    def inputs(self, roots: Roots, servers: Sequence[str]) -> dict[str, Any]:  # noqa: ARG002
        """The machines that are asked, and what is kept from them.

        A server of ours has the compilers of a native root, which every build names.
        """
        kept = {"masquerade": file_sha256(Path(masquerade.__file__))}
        return {**kept, "distcc-hosts": list(servers)} if servers else kept

    def variables(self, plain: Mapping[str, str], servers: Sequence[str], jobs: int) -> dict[str, str]:
        """The links for compilers come first in PATH, and the client is told of its servers."""
        return {**plain, **variables(plain, servers, jobs)}

    def equip(self, root: Root, place: WorkPlace, site: Site) -> Root:
        """With the server beside each phase, or with the network, where the user's own servers are."""
        toolchain = site.toolchain
        names = compilers(Tree(site.below), toolchain, Tree(site.layers) if site.staged else None)
        prepare(place, names)
        if site.servers:
            return replace(root, network=True)
        return replace(root, service=service(toolchain, site.roots.natives().trees, names, place, site.jobs))

    def told(self, place: WorkPlace) -> dict[str, Any]:
        """How much was compiled where."""
        return told(place)


MODE = Distcc("distcc", "a native server compiles", servers=True, packages=frozenset({PACKAGE}))
