"""Deploys an artifact: what it holds, what the board has, and what is done about the difference."""

from __future__ import annotations

import copy
import hashlib
import os
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from xbuild.base import log, process
from xbuild.base.errors import UsageError
from xbuild.build.artifact import ARCHIVE, DEBUG_ARCHIVE
from xbuild.build.prepared import prepared
from xbuild.build.standing import artifact, not_built
from xbuild.build.subject import Subject
from xbuild.deploy.board import Board, connected
from xbuild.deploy.plan import ABSENT, Entry, Listed, Plan, State, listed_after, listed_before, plan
from xbuild.store.local import writing_below
from xbuild.store.moment import for_a_moment

By = Literal["rsync", "tar"]


@dataclass(frozen=True)
class Deployed:
    """What came of it, or with a dry run what would. by: how it was sent; None: nothing was. bytes: of files."""

    subject: Subject
    board: str
    directory: str
    artifact: Path
    plan: Plan
    by: By | None
    bytes: int
    dry_run: bool

    def as_json(self) -> dict[str, Any]:
        """For --json."""
        lists = {name: list(getattr(self.plan, name)) for name in ("new", "changed", "foreign", "removed", "left")}
        return {
            "recipe": self.subject.recipe.name,
            "version": self.subject.recipe.version,
            "target": self.subject.toolchain.name,
            "board": self.board,
            "directory": self.directory,
            "artifact": str(self.artifact),
            "by": self.by,
            **lists,
            "same": self.plan.same,
            "bytes": self.bytes,
            "dry_run": self.dry_run,
        }


def deploy(
    subject: Subject, board: str, directory: str = "/", *, debug: bool = False, dry_run: bool = False
) -> Deployed:
    """Bring the artifact of `subject` to the directory of a board; with `dry_run` only tell what would be done.

    board: as ssh has it. debug: with its debug information. What another deployment has put there and this one has not
    goes, if it is still what was put there. Raises UsageError if there is no artifact, or a directory of the board is
    in the way; MachineError if the board cannot be reached, or cannot do it.
    """
    entry = artifact(prepared(subject))
    if entry is None:
        raise not_built(subject)
    archives = [entry / f"{subject.file_name}{ARCHIVE}"]
    if debug:
        archives.append(entry / f"{subject.file_name}{DEBUG_ARCHIVE}")
        if not archives[1].exists():
            hint = f"invoke build {subject.command_line()} --strip debug-package"
            raise UsageError(f"the build of {subject.title} has no separate debug information", hint=hint)
    return deploy_archives(subject, board, directory, archives, dry_run=dry_run)


def deploy_archives(
    subject: Subject, board: str, directory: str, archives: Sequence[Path], *, dry_run: bool = False
) -> Deployed:
    """As `deploy`, of these archives, the artifact first."""
    store = subject.store
    with (
        writing_below(store.root),
        for_a_moment(store, "deployed") as place,
        connected(board, directory, place) as known,
    ):
        packed = Packed(archives, place)
        return _Deploying(subject, known, packed, archives[0]).run(dry_run=dry_run)


class Packed:
    """What archives hold together. entries: by path. scratch: a directory, to unpack into."""

    def __init__(self, archives: Sequence[Path], scratch: Path) -> None:
        self.scratch = scratch
        self.entries: dict[str, Entry] = {}
        self.owned = False
        self._of: dict[str, Path] = {}
        for number, archive in enumerate(archives):
            plain = scratch / f"{number}.tar"
            process.run(["zstd", "-dq", "-o", plain, archive], capture=True)
            self._read(plain)

    def _read(self, plain: Path) -> None:
        with tarfile.open(plain) as tar:
            for member in tar:
                if member.name not in self.entries:
                    self.entries[member.name] = self._entry(tar, member)
                    self._of[member.name] = plain
                    self.owned = self.owned or bool(member.uid or member.gid)

    def _entry(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> Entry:
        if member.isdir():
            return Entry("directory", mode=member.mode)
        if member.issym():
            # As readlink(1) writes it.
            return Entry("link", hashlib.sha256(os.fsencode(member.linkname) + b"\n").hexdigest())
        if member.islnk():
            return self.entries[member.linkname]
        stream = tar.extractfile(member)
        assert stream is not None
        with stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]
        return Entry("file", digest, member.mode, member.size)

    def chosen(self, paths: Sequence[str]) -> Path:
        """A tar with these paths only; in GNU's format, which small tars read too."""
        wanted, tar = set(paths), self.scratch / "chosen.tar"
        with tarfile.open(tar, "w", format=tarfile.GNU_FORMAT) as out:
            for plain in dict.fromkeys(self._of.values()):
                with tarfile.open(plain) as source:
                    for member in source:
                        if member.name in wanted and self._of[member.name] == plain:
                            _add(out, source, member, wanted)
        return tar


def _add(out: tarfile.TarFile, source: tarfile.TarFile, member: tarfile.TarInfo, wanted: set[str]) -> None:
    if member.islnk() and member.linkname not in wanted:
        # Its other name is there as it should be: this one becomes a file of its own.
        first = source.getmember(member.linkname)
        alone = copy.copy(first)
        alone.name = member.name
        out.addfile(alone, source.extractfile(first))
        return
    out.addfile(member, source.extractfile(member) if member.isreg() else None)


class _Deploying:
    def __init__(self, subject: Subject, board: Board, packed: Packed, archive: Path) -> None:
        self._subject, self._board, self._packed, self._archive = subject, board, packed, archive
        # The same for each version and mode: the newer one takes the place of the older.
        self._name = f"{subject.recipe.name}-{subject.toolchain.name}.json"

    def run(self, *, dry_run: bool) -> Deployed:
        """Do it, or tell what would be done."""
        board, entries = self._board, self._packed.entries
        with log.step(f"look at {board.name}"):
            loader = self._subject.toolchain.elf.interpreter
            hello = board.hello(loader)
            if not hello.loader:
                target = self._subject.toolchain.name
                log.warn(f"{board.name} has no {loader}: programs for {target} with shared libraries do not run there")
            own = hello.lists.get(self._name, Listed())
            others = _together([listed for name, listed in hello.lists.items() if name != self._name])
            paths = sorted({*entries, *own.files})
            states = board.states(paths) if hello.there else {}
        decided = plan(entries, {**dict.fromkeys(paths, State(ABSENT)), **states}, own, others)
        if decided.conflicts:
            message = f"{self._subject.title} cannot be put into {board.directory} on {board.name}"
            raise UsageError(message, details=decided.conflicts[:40], hint="move it away there, or --prefix DIR")
        by: By = "rsync" if self._can_rsync(decided, there=hello.rsync) else "tar"
        size = sum(entries[path].size for path in decided.sent)
        done = Deployed(
            self._subject, board.name, board.directory, self._archive, decided, by if decided.sent else None, size,
            dry_run,
        )  # fmt: skip
        if not dry_run:
            self._do(decided, own, by)
        return done

    def _can_rsync(self, decided: Plan, *, there: bool) -> bool:
        """Whether rsync is on both sides, and can give files the owners and read all that it is to send."""
        readable = all(self._packed.entries[path].mode & 0o400 or self._packed.entries[path].kind == "link"
                       for path in decided.sent)  # fmt: skip
        return there and not self._packed.owned and readable and shutil.which("rsync") is not None

    def _do(self, decided: Plan, own: Listed, by: By) -> None:
        board = self._board
        after = listed_after(self._packed.entries, decided, own)
        if not decided.sent and not decided.removed and not decided.emptied and after == own:
            return
        # Whoever is stopped on the way knows the next time what he has put there.
        board.write_list(self._name, listed_before(after, own))
        if decided.sent:
            with log.step(f"send {len(decided.sent)} to {board.name} by {by}"):
                self._send(decided.sent, by)
        board.remove(decided.removed, decided.emptied)
        board.write_list(self._name, after)

    def _send(self, paths: Sequence[str], by: By) -> None:
        tar = self._packed.chosen(paths)
        if by == "tar":
            odd: dict[int, list[str]] = {}
            for path in paths:
                entry = self._packed.entries[path]
                if entry.kind == "file" and entry.mode & ~0o777:
                    odd.setdefault(entry.mode, []).append(path)
            self._board.unpack(tar, odd)
            return
        tree = self._packed.scratch / "tree"
        # Set-uid files of ours: nobody else looks in here.
        tree.mkdir(mode=0o700)
        process.run(["tar", "--force-local", "-xpf", tar, "-C", tree], capture=True)
        self._board.rsync(tree, paths, self._packed.scratch)


def _together(lists: Sequence[Listed]) -> Listed:
    files: Mapping[str, tuple[str, ...]] = {path: digests for one in lists for path, digests in one.files.items()}
    return Listed(files, frozenset[str]().union(*(one.directories for one in lists)))
