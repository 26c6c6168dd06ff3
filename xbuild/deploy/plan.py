"""What is to be sent to a board, and what goes from there: decided from what is wanted and what is there alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["file", "directory", "link"]
ABSENT, OTHER, UNREADABLE = "absent", "other", "unreadable"
"""Kinds of what a board has, besides those of `Kind`."""


@dataclass(frozen=True)
class Entry:
    """What is to be on the board. digest: sha256 of a file, or of a link's target and a newline. mode: of a file."""

    kind: Kind
    digest: str = ""
    mode: int = 0
    size: int = 0


@dataclass(frozen=True)
class State:
    """What a board has at a path. kind: of `Kind`, or ABSENT, OTHER (a device, say), UNREADABLE.

    directory: whether it is one, or a link to one. digest, mode: as of `Entry`.
    """

    kind: str
    directory: bool = False
    digest: str = ""
    mode: int = 0


@dataclass(frozen=True)
class Listed:
    """What was put there, as the list on the board has it. files: the digests that each may have; directories: made."""

    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    directories: frozenset[str] = frozenset()

    def as_json(self) -> dict[str, Any]:
        """As it lies on the board."""
        files = {path: list(digests) for path, digests in sorted(self.files.items())}
        return {"schema": 1, "files": files, "directories": sorted(self.directories)}

    @classmethod
    def of(cls, value: Any) -> Listed:
        """What `as_json` gave. Raises ValueError, KeyError or TypeError if it is something else."""
        if value["schema"] != 1:
            raise ValueError("another version's")
        files = {str(path): tuple(map(str, digests)) for path, digests in value["files"].items()}
        return cls(files, frozenset(map(str, value["directories"])))


@dataclass(frozen=True)
class Plan:
    """What is to be done, by paths in order. new: not there yet, directories too. changed: there, but another one.

    foreign: those of `changed` that nobody knows to have put there. same: how many are as wanted. removed: files and
    links; emptied: directories that go if nothing else is in them. left: what was put there and is another one by now.
    conflicts: in words, why it cannot be done.
    """

    new: tuple[str, ...]
    changed: tuple[str, ...]
    foreign: tuple[str, ...]
    same: int
    removed: tuple[str, ...]
    emptied: tuple[str, ...]
    left: tuple[str, ...]
    conflicts: tuple[str, ...]

    @property
    def sent(self) -> tuple[str, ...]:
        """What is new or changed."""
        return tuple(sorted((*self.new, *self.changed)))


def plan(wanted: Mapping[str, Entry], states: Mapping[str, State], own: Listed, others: Listed) -> Plan:
    """What is to be done. states: of all paths that are wanted or listed. others: what came of other artifacts."""
    verdicts = {path: _verdict(entry, states[path]) for path, entry in sorted(wanted.items())}
    changed = _where(verdicts, "changed")
    removed: list[str] = []
    left: list[str] = []
    for path, digests in sorted(own.files.items()):
        if path in wanted or path in others.files or states[path].kind == ABSENT:
            continue
        (removed if states[path].digest in digests else left).append(path)
    gone = own.directories - wanted.keys() - others.directories
    return Plan(
        new=_where(verdicts, "new"),
        changed=changed,
        foreign=tuple(path for path in changed if path not in own.files and path not in others.files),
        same=len(_where(verdicts, "same")),
        removed=tuple(removed),
        # What is in a directory before the directory.
        emptied=tuple(sorted(gone, reverse=True)),
        left=tuple(left),
        conflicts=tuple(f"{path}: {_CONFLICT[verdicts[path]]}" for path in verdicts if verdicts[path] in _CONFLICT),
    )


_CONFLICT = {
    "is directory": "a directory there, and none in what was built",
    "no directory": "a directory in what was built, and none there",
    "other": "neither a file nor a directory there, such as a device",
}


def _verdict(entry: Entry, state: State) -> str:
    if state.kind == ABSENT:
        return "new"
    if entry.kind == "directory":
        return "same" if state.directory else "no directory"
    if state.kind == OTHER:
        return "other"
    if state.kind == "directory" or (state.directory and entry.kind == "file"):
        return "is directory"
    if (state.kind, state.digest) != (entry.kind, entry.digest):
        return "changed"
    return "changed" if entry.kind == "file" and state.mode != entry.mode else "same"


def _where(verdicts: Mapping[str, str], wanted: str) -> tuple[str, ...]:
    return tuple(path for path, verdict in verdicts.items() if verdict == wanted)


def listed_after(wanted: Mapping[str, Entry], done: Plan, own: Listed) -> Listed:
    """The list when all is done."""
    files = {path: (entry.digest,) for path, entry in wanted.items() if entry.kind != "directory"}
    made = {path for path in done.new if wanted[path].kind == "directory"}
    return Listed(files, (own.directories - set(done.emptied)) | made)


def listed_before(after: Listed, own: Listed) -> Listed:
    """The list while it is being done: whoever is stopped meanwhile has put there the one or the other."""
    paths = {**own.files, **after.files}
    files = {path: tuple(dict.fromkeys((*own.files.get(path, ()), *after.files.get(path, ())))) for path in paths}
    return Listed(files, own.directories | after.directories)
