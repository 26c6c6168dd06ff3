"""Mode substituted: native programs stand in for those of the root.

With servers of the user's own, compilers are asked by a native client (`xbuild/build/elsewhere.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from xbuild.build.environment import Root, WorkPlace
from xbuild.build.modes.mode import CLIENT_LOG, Mode, Site
from xbuild.roots.distribution import Roots


@dataclass(frozen=True)
class Substituted(Mode):
    """Native tools, and other machines' compilers where there are some."""

    def inputs(self, roots: Roots, servers: Sequence[str]) -> dict[str, Any]:  # noqa: ARG002
        """The machines that are asked."""
        return {"distcc-hosts": list(servers)} if servers else {}

    def equip(self, root: Root, place: WorkPlace, site: Site) -> Root:  # noqa: ARG002
        """With the network, where the servers are."""
        return replace(root, network=True) if site.servers else root

    def told(self, place: WorkPlace) -> dict[str, Any]:
        """How much was compiled where."""
        from xbuild.build.modes import distcc

        return distcc.told(place) if (place.logs / CLIENT_LOG).exists() else {}


MODE = Substituted("substituted", "native tools stand in", twins=True, bare=True, servers=True)
