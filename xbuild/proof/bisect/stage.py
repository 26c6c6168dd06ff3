"""Where a bisection works: a directory below the store's `work`, with a work place and copies of its states."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from xbuild.build.environment import WorkPlace
from xbuild.proof.bisect.trees import copy
from xbuild.sandbox import idmap
from xbuild.store.local import Store, writing_below


class Stage:
    """No build but a bisection's knows of it, so nothing in it is ever taken for a state of a build."""

    def __init__(self, store: Store, name: str, place: WorkPlace) -> None:
        """place: of the builds that are bisected."""
        self.store = store
        self.path = store.directory("work") / name
        self.place = replace(place, path=self.path / "now")

    @contextmanager
    def opened(self, title: str, *, keep: bool) -> Iterator[None]:
        """Hold it, empty, for the block; title: what is bisected. If `keep`, what was set aside stays at the end."""
        lock = self.store.lock(self.path.name, describe=f"bisects {title}")
        in_use = self.store.in_use()
        with in_use, lock, writing_below(self.store.root):
            # What a killed one left.
            self.store.discard(self.path)
            self.path.mkdir()
            self.path.chmod(0o755)
            idmap.own(self.path)
            try:
                yield
            finally:
                mine = [path.name for pattern in ("before-*", "debs-*") for path in self.path.glob(pattern)]
                self.forget(*mine, self.place.path.name)
                if not keep or not any(self.path.iterdir()):
                    self.store.discard(self.path)

    def save(self, number: int, *, also: int | None) -> None:
        """Keep the state that is there as the one before step `number`, and of older ones only that of `also`."""
        old = {path.name for path in self.path.glob("before-*")}
        self.forget(*(old - {self._before(also).name} if also is not None else old))
        if number and not self._before(number).exists():
            copy(self.place.path, self._before(number))

    def restore(self, number: int) -> None:
        """Make the state before step `number` the one that is there; step 0 begins with nothing."""
        self.store.discard(self.place.path)
        if number:
            copy(self._before(number), self.place.path)

    def set_aside(self, name: str) -> Path:
        """Keep the state that is there, in place of an older one, as `name`; none is there then."""
        aside = self.path / name
        self.store.discard(aside)
        self.place.path.rename(aside)
        return aside

    def debs(self, name: str) -> Path:
        """Where .deb files are kept as `name`."""
        return self.path / f"debs-{name}"

    def forget(self, *names: str) -> None:
        """Remove what is kept as `names`."""
        for name in names:
            self.store.discard(self.path / name)

    def _before(self, number: int) -> Path:
        return self.path / f"before-{number:02d}"
