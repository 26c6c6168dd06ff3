"""What a mode is: all that it adds to a build, which is nothing by itself. The modes there are stand in table.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xbuild.build.environment import Machine, Root, WorkPlace
from xbuild.model.toolchain import Toolchain
from xbuild.roots.distribution import Roots

CLIENT_LOG = "distcc.log"
"""Among the logs of a build: where the client of other compilers says what became of each call."""

Thing = tuple[str, str, Any]
"""What a build needs of the store: its name for people, its kind in the store, the value that it has its key from."""


@dataclass(frozen=True)
class Site:
    """The root that a build gets, and what the user asked for there.

    toolchain: the target as it is in this root. layers: directories outside, topmost first; `packages` are installed in
    them. jobs: compilers at once. servers: of the user's own, see distcc.py. staged: the sha256 of the artifacts of
    other recipes that lie over the root, in the upper `layers`. below: the other layers, all of the distribution.
    """

    roots: Roots
    toolchain: Toolchain
    packages: tuple[str, ...]
    layers: tuple[Path, ...]
    jobs: int
    servers: tuple[str, ...] = ()
    staged: tuple[str, ...] = ()
    below: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Mode:
    """How programs of the target run in a build; the methods say what a mode adds, for targets that are not native.

    summary: a few words for help. twins: native programs stand in for those of the root. bootstrap: they do so while
    roots are made. unrecorded: why no exec is written down; "" if each is. canaries: what is tried before the first
    build says something about it. servers: compiling can go to machines of the user's own. bare: a shell without a
    recipe can have it. whole: a whole machine takes the place of sandboxes. packages: what it needs in the target root.
    """

    name: str
    summary: str
    twins: bool = False
    bootstrap: bool = True
    unrecorded: str = ""
    canaries: bool = True
    servers: bool = False
    bare: bool = False
    whole: bool = False
    packages: frozenset[str] = frozenset()

    def things(self, roots: Roots) -> list[Thing]:  # noqa: ARG002
        """What it needs of the store beside roots, layers and twins."""
        return []

    def inputs(self, roots: Roots, servers: Sequence[str]) -> dict[str, Any]:  # noqa: ARG002
        """What of it decides about the result, and is not among every build's inputs; it makes nothing to know it."""
        return {}

    def variables(self, plain: Mapping[str, str], servers: Sequence[str], jobs: int) -> dict[str, str]:  # noqa: ARG002
        """What the environment `plain` of the phases becomes."""
        return dict(plain)

    def machine(self, site: Site) -> Machine | None:  # noqa: ARG002
        """What runs commands in the place of a sandbox, made if it is not there; None: a sandbox does."""
        return None

    def equip(self, root: Root, place: WorkPlace, site: Site) -> Root:  # noqa: ARG002
        """`root` with what it brings along for the build at `place`, which is there."""
        return root

    def told(self, place: WorkPlace) -> dict[str, Any]:  # noqa: ARG002
        """What the manifest is to hold of how it went in `place`, by name; the user is told too."""
        return {}
