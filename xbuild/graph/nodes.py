"""Which builds requests come to: one node for each recipe, target and options, with what each needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from xbuild.base import paths
from xbuild.build.needed import needed_by, word_for
from xbuild.build.request import Here, Request
from xbuild.model.load import load_toolchain, recipe_path
from xbuild.model.needs import Needed, closure, needed
from xbuild.model.toolchain import Toolchain


@dataclass(frozen=True)
class Node:
    """One build. request: what it is asked by, on its own too; its recipe is a name where that is enough, else a path.

    name: the recipe's. file: of the recipe, without links.
    """

    request: Request
    name: str
    file: Path

    @property
    def target(self) -> str:
        """The name of the target."""
        return self.request.target

    @property
    def title(self) -> str:
        """`zlib for armhf`, with what is not the default: no two nodes of a graph that differ in that have the same."""
        options = self.request.options()
        return f"{self.name} for {self.target}{f' ({options})' if options else ''}"


@dataclass(frozen=True)
class Graph:
    """Builds, and which other builds each needs. needs: for each node those that it names itself, in its order; in an
    order in which all can be built, one after the other. asked: those that somebody has asked for, in his order.
    """

    needs: Mapping[Node, tuple[Node, ...]]
    asked: tuple[Node, ...]

    @classmethod
    def from_requests(cls, requests: Iterable[Request], project: Path | None = None) -> Graph:
        """The graph of `requests`; equal ones count once. project: None for the one that is set.

        A recipe that is asked for and needed by another one is one node if it is asked for with the options that
        dependencies are built with (`xbuild.build.needed`), else two.
        Raises UsageError and RecipeError as `xbuild.model.needs`, before anything is built.
        """
        reading = _Reading(project or paths.project())
        asked = [reading.add(request) for request in requests]
        return cls(reading.needs, tuple(dict.fromkeys(asked)))

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All, each after those that it needs."""
        return tuple(self.needs)

    @cached_property
    def dependents(self) -> Mapping[Node, tuple[Node, ...]]:
        """For each node those that name it themselves."""
        found: dict[Node, list[Node]] = {node: [] for node in self.needs}
        for node, needs in self.needs.items():
            for need in needs:
                found[need].append(node)
        return {node: tuple(names) for node, names in found.items()}

    def all_needs(self, node: Node) -> tuple[Node, ...]:
        """All that `node` needs, also what these need, in the order of `nodes`."""
        return self._reached(node, self.needs)

    def all_dependents(self, node: Node) -> tuple[Node, ...]:
        """All that need `node`, also what needs these, in the order of `nodes`: what is skipped if it fails."""
        return self._reached(node, self.dependents)

    def _reached(self, node: Node, edges: Mapping[Node, tuple[Node, ...]]) -> tuple[Node, ...]:
        found: set[Node] = set()
        waiting = [*edges[node]]
        while waiting:
            if (other := waiting.pop()) not in found:
                found.add(other)
                waiting += edges[other]
        return tuple(known for known in self.needs if known in found)

    def remaining(self, seconds: Mapping[Node, float]) -> dict[Node, float]:
        """For each node how long it takes from its beginning to the end of all that need it, in the longest chain.

        seconds: of each build alone; a node that is not in it takes 0. Who builds what has most remaining first, keeps
        the whole shortest.
        """
        found: dict[Node, float] = {}
        for node in reversed(self.nodes):
            later = max((found[other] for other in self.dependents[node]), default=0.0)
            found[node] = seconds.get(node, 0.0) + later
        return found

    def critical_path(self, seconds: Mapping[Node, float]) -> tuple[Node, ...]:
        """The chain that takes longest, the first to build first: no number of cores makes the whole shorter."""
        remaining = self.remaining(seconds)
        return tuple(_longest(remaining, self.dependents, [node for node in self.nodes if not self.needs[node]]))


def _longest(
    remaining: Mapping[Node, float], dependents: Mapping[Node, tuple[Node, ...]], starts: Sequence[Node]
) -> Iterator[Node]:
    choices = starts
    while choices:
        node = max(choices, key=lambda known: remaining[known])
        yield node
        choices = dependents[node]


class _Reading:
    """Reads recipes, each once for a target. needs: as of `Graph`."""

    def __init__(self, project: Path) -> None:
        self._project = project
        self._toolchains: dict[str, Toolchain] = {}
        self._known: dict[tuple[Path, str], Needed] = {}
        self.needs: dict[Node, tuple[Node, ...]] = {}

    def add(self, request: Request) -> Node:
        """The node of `request`, with all that it needs."""
        file = recipe_path(request.recipe, self._project).absolute()
        before, own = closure(file, lambda path: self._read(path, request.target))
        by_file: dict[Path, Node] = {}
        for known in before:
            wanted = needed_by(request, own.recipe, known.file, self._project)
            by_file[known.file] = self._node(wanted, known, by_file)
        return self._node(request, own, by_file)

    def _read(self, file: Path, target: str) -> Needed:
        if target not in self._toolchains:
            self._toolchains[target] = load_toolchain(target, self._project)
        if (file, target) not in self._known:
            self._known[file, target] = needed(file, self._toolchains[target], self._project)
        return self._known[file, target]

    def _node(self, request: Request, known: Needed, by_file: Mapping[Path, Node]) -> Node:
        # What does not decide about the artifact makes no other node.
        named = replace(request, recipe=word_for(known.file, self._project), here=Here())
        node = Node(named, known.recipe.name, known.file)
        self.needs.setdefault(node, tuple(by_file[need.file] for need in known.needs))
        return node
