"""A build tree that stays after a build: what of the project is in it, and how the next one brings it up to date."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from xbuild.base.digest import key_of, read_sealed, sealed
from xbuild.base.errors import PhaseError
from xbuild.base.paths import BUILD
from xbuild.build.environment import Job, Root, WorkPlace, capture
from xbuild.build.plan import Step
from xbuild.model.phases import CONFIGURE
from xbuild.model.preset import Incremental
from xbuild.sources import copy_of
from xbuild.sources.local import Local
from xbuild.sources.trees import Record

_UNSURE = Record(b"", b"", b"")
"""Stands for a file that may have been half written: it is other than any that there is."""
_CHANGES, _GONE, _PARENTS = "changes.tar", "gone", "parents"
# Dated now: what is made from a file is older than it then, whatever its own time says. The builder does it, who can
# write nowhere else, so that no link of an earlier build leads out.
_BRING = f"""
xargs -0 -r rm -rf -- < {BUILD}/run/{_GONE}
xargs -0 -r rmdir -p --ignore-fail-on-non-empty -- < {BUILD}/run/{_PARENTS} 2> /dev/null || :
tar -xmf {BUILD}/run/{_CHANGES} --recursive-unlink --no-same-owner
"""


@dataclass(frozen=True)
class Change:
    """How the project differs from what lies in the tree. written: new or other files; gone: such as are no more."""

    written: tuple[bytes, ...]
    gone: tuple[bytes, ...]
    renamed: bool

    def wants(self, patterns: tuple[str, ...]) -> bool:
        """Whether a file that changed matches one of the patterns, by its path or by its name."""
        names = [os.fsdecode(name) for name in (*self.written, *self.gone)]
        every = [text for name in names for text in (name, name.rpartition("/")[2])]
        return any(fnmatchcase(text, pattern) for text in every for pattern in patterns)

    def __str__(self) -> str:
        names = sorted({os.fsdecode(name) for name in (*self.written, *self.gone)})
        named = ", ".join(map(repr, names[:3])) + (", ..." if len(names) > 3 else "")
        return f"{len(names)} changed: {named}" if names else "nothing changed"


class Kept:
    """The tree in a work place. base: key of all that the tree stands for beside the project's files.

    ready: names of the steps before compiling that were done, and need not be done again.
    """

    def __init__(self, place: WorkPlace, base: str) -> None:
        self._place = place
        self._base = base
        self._files: dict[bytes, Record] = {}
        self.ready: tuple[str, ...] = ()
        self.there = False
        self._read()

    @property
    def _state(self) -> Path:
        return self._place.path / "kept.json"

    def _read(self) -> None:
        if self._place.strange or not self._place.source.is_dir():
            return
        try:
            value = read_sealed(self._state)
            self.there = value["base"] == self._base
            records = [Record(*map(os.fsencode, words)) for words in value["files"]]
            self.ready = tuple(value["ready"])
            self._files = {record.name: record for record in records}
        except (OSError, ValueError, KeyError, TypeError):
            # Absent, damaged, or another version's: then there is no tree to go on with.
            self.there = False

    def note(self, files: Mapping[bytes, Record], ready: tuple[str, ...]) -> None:
        """Write down what lies in the tree."""
        self._files, self.ready = dict(files), ready
        words = [[os.fsdecode(word) for word in (name, *record[1:])] for name, record in self._files.items()]
        beside = self._state.with_suffix(".new")
        beside.write_text(sealed({"base": self._base, "files": words, "ready": list(ready)}))
        beside.replace(self._state)

    def forget(self) -> None:
        """Nobody is to go on with what there is now."""
        self._state.unlink(missing_ok=True)
        self.there = False

    def begun(self, step: Step) -> None:
        """Note that `step` is not done, or no longer."""
        self.note(self._files, tuple(name for name in self.ready if name != step.name))

    def done(self, step: Step) -> None:
        """Note that `step` was done."""
        self.note(self._files, (*self.ready, step.name))

    def change(self, local: Local) -> Change:
        """What differs between the tree and the project as it is now."""
        new, old = local.records, self._files
        written = tuple(name for name, record in new.items() if old.get(name) != record)
        return Change(written, tuple(name for name in old if name not in new), new.keys() != old.keys())

    def bring(self, local: Local, change: Change, how: Incremental, root: Root, env: Mapping[str, str]) -> None:
        """Make the files of the project in the tree what they are in `local`; all else there stays.

        Raises ChangingError, before anything is done, if they are other ones by now; PhaseError if it fails.
        """
        place, touched = self._place, (*change.written, *change.gone)
        copy_of(local, change.written, place.scripts / _CHANGES)
        (place.scripts / _GONE).write_bytes(_ended(change.gone))
        (place.scripts / _PARENTS).write_bytes(_ended(_parents(change.gone)))
        for name in (_CHANGES, _GONE, _PARENTS):
            (place.scripts / name).chmod(0o644)
        ready = tuple(name for name in self.ready if name != CONFIGURE or not configures(how, change))
        # Whatever ends this, the next one does it again.
        self.note({**self._files, **{name: _UNSURE._replace(name=name) for name in touched}}, ready)
        job = Job(("sh", "-euc", _BRING), env, cwd=f"{BUILD}/src", changes=True)
        code, said = capture(root, place, job)
        if code != 0:
            lines = said.decode(errors="replace").splitlines()[-20:]
            raise PhaseError("the kept tree cannot be brought up to date", details=lines)
        self.note(local.records, ready)
        (place.scripts / _CHANGES).unlink()


def base_of(origin: Path, last: Step) -> str:
    """The key of a kept tree. last: the last step, with the key that it has without the project's files."""
    return key_of({"origin": str(origin.absolute()), "steps": last.key})


def begins_anew(how: Incremental, change: Change) -> bool:
    """Whether the build system cannot be trusted to see what of its own products such a change concerns."""
    return (how.new_files == "anew" and change.renamed) or change.wants(how.anew)


def configures(how: Incremental, change: Change) -> bool:
    """Whether the configure phase is to run again for such a change."""
    return (how.new_files == "configure" and change.renamed) or change.wants(how.configure)


def _parents(names: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return tuple(dict.fromkeys(name.rpartition(b"/")[0] for name in names if b"/" in name))


def _ended(names: tuple[bytes, ...]) -> bytes:
    return b"".join(name + b"\0" for name in names)
