"""How a root is seen inside: what `/` is made from, in the one order in which nothing hides what is ours."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from xbuild.base.paths import DISPATCH, LAYER, PRIVATE, RECORD
from xbuild.sandbox.mounts import Bind, Devices, Mount, Overlay, Proc, Text, Tmpfs

TMP = Tmpfs("/tmp", "1777")
"""An empty /tmp that all may write to."""


@dataclass(frozen=True)
class RootView:
    """How a root is seen inside. All paths are outside, except where something is seen.

    layers: directories, topmost first; without any the root is an empty directory in memory. changes: a directory whose
    `upper` takes what is written, and whose `work` is the kernel's. memory: it goes to memory, and ends with the
    sandbox. Without either the root is read-only. names: a layer that says how names are looked up, over the others.

    settings: small files, for a root that can be written to. proc, devices: whether it has a /proc and a minimal /dev
    of its own. empty: further file systems in memory. shown: directories, files, and other overlays.

    private: the private tree. layer: a native layer, in it. inside: what lies in it besides. dispatcher: a file, for
    where the machine's own entry is to find it. cpuinfo: what /proc/cpuinfo is. record: a file for what runs to be
    written down in; writer: it is made anew, for this user inside.
    """

    layers: tuple[Path, ...] = ()
    changes: Path | None = None
    memory: bool = False
    names: Path | None = None
    settings: tuple[Text, ...] = ()
    proc: bool = True
    devices: bool = True
    empty: tuple[Tmpfs, ...] = ()
    shown: tuple[Bind | Overlay, ...] = ()
    private: Path | None = None
    layer: Path | None = None
    inside: tuple[Bind, ...] = ()
    dispatcher: Path | None = None
    cpuinfo: Path | None = None
    record: Path | None = None
    writer: int | None = None

    def mounts(self, at: str = "") -> tuple[Mount, ...]:
        """In the order of mounting; `at`: the directory inside that the root is seen at, "" for `/`.

        What lies below another comes after it, and what a user wants to see, or a build has, before what is ours.
        """
        mounts: list[Mount] = [self._root(), *self.settings]
        mounts += [Devices()] if self.devices else []
        mounts += [*self.empty, *self.shown]
        mounts += [Proc()] if self.proc else []
        ours = {PRIVATE: self.private, LAYER: self.layer, DISPATCH: self.dispatcher, "/proc/cpuinfo": self.cpuinfo}
        mounts += [Bind(str(source), target, readonly=True) for target, source in ours.items() if source]
        mounts += self.inside if self.private else ()
        mounts += [Bind(str(self.record), RECORD, writer=self.writer)] if self.record else []
        return tuple(_below(mounts, at)) if at else tuple(mounts)

    def _root(self) -> Overlay | Tmpfs:
        layers = (self.names, *self.layers) if self.names else self.layers
        if not layers:
            return Tmpfs("/")
        upper, work = (str(self.changes / name) for name in ("upper", "work")) if self.changes else (None, None)
        return Overlay(tuple(map(str, layers)), upper, work, memory=self.memory)


def laid(layers: Iterable[Path], target: str) -> Overlay:
    """What `layers`, topmost first, are together, to be seen at `target`, read-only."""
    return Overlay(tuple(map(str, layers)), None, None, target)


def _below(mounts: Iterable[Mount], at: str) -> Iterable[Mount]:
    return (replace(mount, target=at + mount.target.rstrip("/")) for mount in mounts)
