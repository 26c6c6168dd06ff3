"""Under which heading of the first screen a command stands.

A command that is not named here stands under the last heading but one; `--help COMMAND` and completion have it as any
other. After a change: `invoke reference`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

GROUPS: Mapping[str, Sequence[str]] = {
    "Your own project": ("run", "shell", "debug", "init"),
    "Build": ("build", "deb", "wheel", "list", "why", "log", "check", "lock", "deploy", "export", "clean", "doctor"),
    "Prove": ("compare", "bisect", "trace", "reproduce", "bench", "forget"),
    "Roots, store, machine": ("root", "store", "repo", "cluster", "binfmt"),
    "More": ("completion",),
    "For work on xbuild itself": ("test", "lint", "reference"),
}
"""By heading: names of commands in their order; a name before a dot stands for all with that beginning."""
_REST = "More"


def grouped(names: Sequence[str]) -> dict[str, list[str]]:
    """`names` of commands by heading, in order."""
    found: dict[str, list[str]] = {heading: [] for heading in GROUPS}
    for name in names:
        found[_heading(name)].append(name)
    order = [name for members in GROUPS.values() for name in members]

    def place(name: str) -> tuple[int, str]:
        known = next((word for word in (name, name.partition(".")[0]) if word in order), None)
        return (order.index(known) if known else len(order), name)

    return {heading: sorted(members, key=place) for heading, members in found.items() if members}


def _heading(name: str) -> str:
    for heading, members in GROUPS.items():
        if name in members or name.partition(".")[0] in members:
            return heading
    return _REST
