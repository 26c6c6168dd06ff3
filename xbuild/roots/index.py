"""The signed index of an archive, as apt has it: fetched once, kept in the store, asked without a network."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xbuild.base import log, process
from xbuild.base.errors import MachineError, UsageError
from xbuild.roots import apt, enclosed, mirror
from xbuild.sandbox import idmap
from xbuild.sandbox.run import take_back
from xbuild.store.local import Store

KIND = "indexes"
"""The store's kind of entry."""

SOURCES, LISTS, STATUS = "sources.list", "lists", "status"
"""What apt is told: where packages come from, what there is, what is installed. Files and a directory."""

# All paths are relative to the working directory: apt takes none with a quote in it.
CONFIG = """
Dir ".";
Dir::State ".";
Dir::State::lists "{lists}";
Dir::State::status "status";
Dir::State::extended_states "/dev/null";
Dir::Etc ".";
Dir::Etc::sourcelist "sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::Etc::main "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::Cache ".";
Dir::Cache::archives ".";
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Install-Recommends "false";
Acquire::ForceHash "SHA256";
Acquire::Languages "none";
Debug::NoLocking "true";
"""
_ADDRESS = re.compile(r"^'[^']+' \S+ [0-9]+ SHA256:([0-9a-f]{64})$", re.MULTILINE)
_NOTHING = "does not have a Release file"
"""What apt says of a suite that an archive does not have."""
_NOT_FOUND = "404 "
"""What apt says of a file that a machine of the network does not have. Where none answers, it says `_NOTHING` too."""
_SUITE = re.compile(r"[a-z][a-z0-9.-]*")
_REMOVED = re.compile(r"^The following packages will be REMOVED:\n((?:  .*\n)+)", re.MULTILINE)


class Unresolved(MachineError):
    """apt finds no way to install what it was asked for. details: all that it says."""


@dataclass(frozen=True)
class Archive:
    """Where packages come from. snapshot: the address of a past state.

    mirror: gives the mirror to ask, None for mmdebstrap's own. What was resolved by one stays valid for another.
    Raises UsageError for what can be no suite.
    """

    suite: str
    components: tuple[str, ...]
    snapshot: str | None
    mirror: Callable[[], str | None]

    def __post_init__(self) -> None:
        # Of a toolchain's file its model has seen to it; it becomes a part of addresses, and a word for mmdebstrap.
        if _SUITE.fullmatch(self.suite) is None:
            raise UsageError(f"{self.suite!r} can be no release's name", hint="for example --suite bookworm")

    def value(self, architecture: str) -> dict[str, Any]:
        """What is asked for, as JSON."""
        return {
            "suite": self.suite,
            "components": list(self.components),
            "architecture": architecture,
            "snapshot": self.snapshot,
        }


@dataclass(frozen=True)
class Stanza:
    """What an index says of one package. text: all of it, without the empty line behind it. file: of the lists."""

    name: str
    version: str
    architecture: str
    sha256: str
    text: str
    file: str

    @classmethod
    def read(cls, text: str, file: str = "") -> Stanza:
        """One from its text, as in a Packages file (deb822(5))."""
        fields = dict(re.findall(r"^(Package|Version|Architecture|SHA256): *(\S+)", text, re.MULTILINE))
        return cls(fields["Package"], fields["Version"], fields["Architecture"], fields.get("SHA256", ""), text, file)

    @property
    def dependencies(self) -> list[str]:
        """The parts of its Depends and Pre-Depends, each `NAME (>= VERSION)`; several with bars are one."""
        fields = re.findall(r"^(?:Pre-)?Depends: *(.*(?:\n .*)*)", self.text, re.MULTILINE)
        return [" ".join(part.split()) for field in fields for part in field.split(",")]

    @property
    def depends(self) -> list[str]:
        """The names of what it depends on, alternatives too, in the order of its field."""
        return re.findall(r"(?:^|[\n|])\s*([a-z0-9][a-z0-9+.-]*)", "\n".join(self.dependencies))


def newest(
    store: Store, archive: Archive, architecture: str, *, renew: bool = False, lines: Sequence[str] = ()
) -> Path:
    """The index of the archive in the store, fetched if there is none. renew: fetch it in any case.

    lines: what says where it is fetched from, as in sources.list(5); none: what the archive does.
    Raises MachineError if it cannot be had, or is not signed by the distribution.
    """
    wanted = {"what": "index", **archive.value(architecture)}
    with store.lock(f"index-{architecture}", describe=f"fetches the index of {archive.suite} for {architecture}"):
        for place, _, value in () if renew else store.finished(KIND):
            if {**value, "time": None} == {**wanted, "time": None}:
                return place
        value = {**wanted, "time": time.time_ns()}

        def make(staging: Path) -> None:
            with log.step(f"index: {archive.suite} for {architecture}"):
                fetch(staging, archive, architecture, lines)
                store.discard(staging / "root")

        return store.ensure(KIND, value, f"the index of {archive.suite} for {architecture}", make)


def fetch(
    staging: Path, archive: Archive, architecture: str, lines: Sequence[str] = (), options: Sequence[str] = ()
) -> None:
    """As mmdebstrap itself does before it makes a root: the same sources, the same check of signatures.

    What comes lies in SOURCES and LISTS below `staging`. options: of apt, for what it is to fetch besides.
    """
    idmap.own(staging)
    command = ["mmdebstrap", "--mode=root", "--simulate", "--variant=custom"]
    command += [] if lines else [f"--architectures={architecture}"]
    command += [f"--components={','.join(archive.components)}", "--format=directory"]
    command += ["--skip=cleanup/apt/lists,check/qemu"]
    # What a past state says of its own validity has run out.
    command += ['--aptopt=Acquire::Check-Valid-Until "false"'] if archive.snapshot else []
    address = None if lines else archive.snapshot or archive.mirror()
    command += [f"--aptopt={line}" for line in (*enclosed.transport(), *options)]
    command += [archive.suite, f"{enclosed.STAGING}/root", *([address] if address else lines)]
    addresses = [address] if address else mirror.of_sources("\n".join(lines))
    sandbox = enclosed.fetching(staging, addresses)
    try:
        apt.run_logged(staging, sandbox, command, "the index of packages could not be fetched")
    except MachineError as error:
        if archive.snapshot:
            raise _no_snapshot(archive, error) from error
        if not lines and all(any(text in line for line in error.details) for text in (_NOTHING, _NOT_FOUND)):
            raise _no_release(archive.suite, address, error) from error
        raise
    take_back(staging)
    root = staging / "root"
    (staging / SOURCES).write_bytes((root / "etc/apt/sources.list").read_bytes())
    (staging / LISTS).mkdir()
    for file in sorted((root / "var/lib/apt/lists").iterdir()):
        if file.is_file() and file.name != "lock":
            shutil.copyfile(file, staging / LISTS / file.name)


def _no_release(suite: str, address: str | None, error: MachineError) -> MachineError:
    """What to say where the archive was asked and has no such release."""
    where = f" at {address}" if address else " in the distribution's archive"
    hint = "is its name right? old releases have moved to archives of their own, which XBUILD_MIRROR can name"
    return MachineError(f"there is no release {suite}{where}", details=error.details, hint=hint)


def _no_snapshot(archive: Archive, error: MachineError) -> MachineError:
    """What to say where the index of a past state did not come: the archive has none, or could not be asked."""
    if any(_NOTHING in line for line in error.details):
        message = f"there is no snapshot of {archive.suite} at {archive.snapshot}"
        hint = "was the release there on that day? another DATE may be it; or is XBUILD_SNAPSHOTS another archive's?"
    else:
        message = f"the archive of snapshots gave no index of {archive.suite}: {archive.snapshot}"
        hint = "is the network there, and does it answer? XBUILD_SNAPSHOTS names another one, with {date} in it"
    return MachineError(message, details=error.details, hint=hint)


def packages_files(lists: Path) -> list[Path]:
    """The files of `lists` that name packages."""
    return sorted(file for file in lists.iterdir() if file.name.endswith("_Packages"))


def with_sums(lists: Path, wanted: set[str]) -> list[Stanza]:
    """Those whose sha256 is among `wanted`, each once."""
    found: dict[str, Stanza] = {}
    for file in packages_files(lists):
        for text in file.read_text(errors="surrogateescape").split("\n\n"):
            at = text.find("\nSHA256: ")
            sha256 = text[at + 9 : at + 73]
            if at >= 0 and sha256 in wanted and sha256 not in found:
                found[sha256] = Stanza.read(text.strip("\n"), file.name)
    return list(found.values())


def named(lists: Path, wanted: Container[str]) -> list[Stanza]:
    """Those of packages whose names are among `wanted`."""
    found = []
    for file in packages_files(lists):
        for text in file.read_text(errors="surrogateescape").split("\n\n"):
            name = text[: text.find("\n")].removeprefix("Package: ")
            if name in wanted:
                found.append(Stanza.read(text.strip("\n"), file.name))
    return found


def read_stanzas(text: str) -> list[Stanza]:
    """All of a list of packages, or of dpkg's status file."""
    return [Stanza.read(part) for part in text.split("\n\n") if part.strip()]


def read_answer(said: str) -> tuple[set[str], list[str]]:
    """From what `apt-get --print-uris` says: the sha256 of what it would fetch, the names of what it would remove."""
    removed = _REMOVED.search(said)
    return {*_ADDRESS.findall(said)}, removed[1].split() if removed else []


class Apt:
    """apt in the directory `place`, over an index: it says what it would do, and does nothing."""

    def __init__(self, place: Path, index: Path, architecture: str) -> None:
        self.place = place
        self.lists = index / LISTS
        shutil.copyfile(index / SOURCES, place / SOURCES)
        (place / LISTS).symlink_to(self.lists)
        (place / "apt.conf").write_text(CONFIG.format(lists=LISTS, architecture=architecture))
        self.install(())

    def install(self, installed: Iterable[str]) -> None:
        """From now on, what these stanzas say is installed."""
        texts = [f"{text}\nStatus: install ok installed\n\n" for text in installed]
        (self.place / STATUS).write_text("".join(texts), errors="surrogateescape")

    def would(self, *words: str) -> tuple[list[Stanza], list[str]]:
        """What `apt-get` with these words would install, and the names of what it would remove.

        Raises Unresolved if there is no such package, or what it depends on is not there; OSError for a full disk.
        """
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "APT_CONFIG": "apt.conf"}
        command = ["apt-get", "--print-uris", "--yes", "-q", *words]
        done = process.run(command, env=env, cwd=self.place, capture=True, check=False)
        said = done.stdout.decode(errors="replace")
        if done.returncode:
            lines = [*said.splitlines(), *done.stderr.decode(errors="replace").splitlines()]
            if full := process.disk_full(lines):
                raise full
            raise Unresolved("what is to be installed cannot be resolved", details=lines)
        sums, removed = read_answer(said)
        return with_sums(self.lists, sums), removed
