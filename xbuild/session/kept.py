"""Named systems: what a user changed in a shell, as a layer over the target root, kept until he removes it."""

from __future__ import annotations

import contextlib
import datetime
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from xbuild.base import log
from xbuild.base.digest import file_sha256, read_json
from xbuild.base.errors import MachineError, UsageError
from xbuild.base.yamlfile import did_you_mean
from xbuild.formats.debian import Tree
from xbuild.sandbox import run as sandboxes
from xbuild.sandbox.run import give_tree
from xbuild.store.local import LAYOUT, Store

DIRECTORY = "kept"
"""Where in the store they lie: nobody but the user can make them anew."""

_STATUS = "var/lib/dpkg/status"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_UNFINISHED = re.compile(
    r"^Package: (\S+)\n(?:(?!Status:)\S.*\n)*Status: \S+ \S+ (?:half-installed|unpacked|half-configured|triggers-\S+)$",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Kept:
    """A kept system. path: its directory. root: the store's entry that its changes are over.

    base: digest of the package database there. created, used: ISO 8601, UTC. layout: the store's, see there.
    """

    name: str
    path: Path
    target: str
    suite: str
    root: str
    base: str
    created: str
    used: str
    layout: int = 1

    @property
    def upper(self) -> Path:
        """The layer of changes."""
        return self.path / "upper"

    def as_json(self) -> dict[str, Any]:
        """What a machine wants to know of it."""
        return {name: str(value) for name, value in asdict(self).items() if name not in ("root", "base", "layout")}


def valid_name(name: str) -> str:
    """`name`. Raises UsageError if it is no name for a kept system."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is no name for a kept system", hint="small letters, digits, `.`, `_`, `-`; at most 64"
        )
    return name


def all_kept(store: Store) -> list[Kept]:
    """Those that there are, by name."""
    folder = store.root / DIRECTORY
    places = (_read(path) for path in sorted(folder.iterdir())) if folder.is_dir() else ()
    return [one for one in places if one is not None]


def _read(path: Path) -> Kept | None:
    try:
        return Kept(name=path.name, path=path, **read_json(path / "about.json"))
    except (OSError, ValueError, TypeError):
        return None


def _write(kept: Kept) -> None:
    # By a rename: a session that is killed while it writes must not make the system unreadable.
    value = {name: text for name, text in asdict(kept).items() if name not in ("name", "path")}
    new = kept.path / "about.json.new"
    new.write_text(json.dumps(value, indent=1) + "\n")
    new.rename(kept.path / "about.json")


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _lock_name(name: str) -> str:
    return f"{DIRECTORY}-{name}"


@contextlib.contextmanager
def opened(store: Store, name: str, target: str, suite: str, base: Path) -> Iterator[Kept]:
    """The kept system `name` for the block, made if there is none; nobody else has it meanwhile.

    base: the root that its changes are over. Raises MachineError if somebody has it, or if the root is another one by
    now, UsageError if it is one of another target.
    """
    lock = _lock_name(valid_name(name))
    with store.lock(lock, wait=False, describe=f"uses the kept system {name}"):
        kept = _read(store.root / DIRECTORY / name) or _make(store, name, target, suite, base)
        _check(kept, target, suite, base)
        kept = replace(kept, used=_now())
        _write(kept)
        tell_unfinished(kept, base)
        yield kept


@contextlib.contextmanager
def read_only(store: Store, name: str, target: str, suite: str, base: Path) -> Iterator[Kept]:
    """As `opened`, but for who only looks: several may. Raises UsageError if there is none of that name."""
    with store.lock(_lock_name(valid_name(name)), wait=False, shared=True, describe=f"changes the kept system {name}"):
        kept = find(store, name)
        _check(kept, target, suite, base)
        yield kept


def find(store: Store, name: str) -> Kept:
    """The kept system of that name. Raises UsageError if there is none."""
    if kept := _read(store.root / DIRECTORY / valid_name(name)):
        return kept
    others = [kept.name for kept in all_kept(store)]
    hint = f"there are: {', '.join(others)}" if others else "`invoke shell --keep NAME` makes one"
    raise UsageError(f"there is no kept system {name!r}{did_you_mean(name, others)}", hint=hint)


def remove(store: Store, name: str) -> None:
    """Remove it. Raises UsageError if there is none, MachineError if somebody uses it."""
    lock = _lock_name(valid_name(name))
    with store.lock(lock, wait=False, describe=f"uses the kept system {name}"):
        kept = find(store, name)
        aside = store.scratch(lock)
        kept.path.rename(aside)
        store.discard(aside)


def sizes(every: list[Kept]) -> dict[str, int]:
    """Bytes on disk of each layer, by name; many of its files only root inside can see."""
    if not every:
        return {}
    words = ["du", "--summarize", "--block-size=1", "--", *(str(one.upper) for one in every)]
    code, said = sandboxes.capture(sandboxes.machine_view(), words)
    lines = said.decode(errors="replace").splitlines() if code == 0 else []
    counts = {line.partition("\t")[2]: int(line.partition("\t")[0]) for line in lines if "\t" in line}
    return {one.name: counts.get(str(one.upper), 0) for one in every}


def make_place(path: Path) -> None:
    """Make the directory `path` for the changes to a system: `upper` and `work`, which root inside owns."""
    path.mkdir()
    path.chmod(0o755)
    parts = [path / "upper", path / "work"]
    for part in parts:
        part.mkdir()
        part.chmod(0o755)
    give_tree(0, tops=parts)


def _make(store: Store, name: str, target: str, suite: str, base: Path) -> Kept:
    place = store.directory(DIRECTORY) / name
    lock = _lock_name(name)
    if place.exists():
        raise MachineError(f"{place} is damaged: its about.json cannot be read", hint=f"remove or rename {place}")
    staging = store.scratch(lock)
    try:
        make_place(staging)
        _write(Kept(name, staging, target, suite, base.parent.name, _digest(base), _now(), _now(), LAYOUT))
        staging.rename(place)
    except BaseException:
        store.discard(staging)
        raise
    kept = _read(place)
    assert kept is not None
    return kept


def _digest(base: Path) -> str:
    status = base / _STATUS
    # An imported root may have no such database; its entry in the store has the name of its contents.
    return file_sha256(status) if status.exists() else base.parent.name


def _check(kept: Kept, target: str, suite: str, base: Path) -> None:
    if (kept.target, kept.suite) != (target, suite):
        raise UsageError(
            f"the kept system {kept.name!r} is one of {kept.target} ({kept.suite}), not of {target} ({suite})",
            hint=f"take another name, or --target {kept.target}",
        )
    if kept.layout != LAYOUT:
        raise MachineError(
            f"the kept system {kept.name!r} was made by another xbuild: its files have owners that are others here",
            hint=f"`invoke root.remove {kept.name}`, and begin anew; its files are in {kept.upper}",
        )
    if kept.base != _digest(base):
        raise MachineError(
            f"the root of {target} was made anew since {kept.name!r} was begun, with other packages: its changes no "
            "longer fit",
            hint=f"`invoke root.remove {kept.name}`, and begin anew; its files are in {kept.upper}",
        )


def tell_unfinished(kept: Kept, base: Path) -> None:
    """Warn if the package database says that a package was being installed when a session was killed."""
    status = Tree((kept.upper, base)).find(f"/{_STATUS}")
    names = _UNFINISHED.findall(status.read_text(errors="replace")) if status else []
    journal = kept.upper / "var/lib/dpkg/updates"
    if names or (journal.is_dir() and any(path.name.isdigit() for path in journal.iterdir())):
        log.warn(
            f"a session in {kept.name!r} ended while packages were installed: "
            f"{', '.join(names[:8]) or 'dpkg has a journal'}; `dpkg --configure -a`, `apt-get -f install` go on"
        )
