"""What building a graph would do: looked at build by build, and shown as a tree."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from xbuild.base.errors import XbuildError
from xbuild.build.prepared import Known, prepared
from xbuild.build.standing import artifact
from xbuild.build.subject import read
from xbuild.graph.builds import reason_for
from xbuild.graph.nodes import Graph, Node
from xbuild.store.local import Store

Verdict = Literal["up-to-date", "build", "later", "wrong"]
COLUMNS = ("build", "", "reason")
"""Of a plan's table."""

_WORDS: Mapping[Verdict, str] = {"up-to-date": "up to date", "build": "build", "later": "perhaps", "wrong": "cannot"}


@dataclass(frozen=True)
class Planned:
    """What becomes of a build. later: whether it is built is known when others are, whose bytes it depends on."""

    node: Node
    needs: tuple[Node, ...]
    asked: bool
    verdict: Verdict
    reason: str
    key: str | None = None

    def as_json(self) -> dict[str, Any]:
        """For --json."""
        return {
            "title": self.node.title,
            "recipe": self.node.name,
            "target": self.node.target,
            "needs": [need.title for need in self.needs],
            "asked": self.asked,
            "verdict": self.verdict,
            "reason": self.reason,
            "key": self.key,
        }


def planned(graph: Graph, store: Store, there: Callable[[Node], bool] = lambda _: True) -> dict[Node, Planned]:
    """The plan of each build, in an order in which they can be built; nothing is made.

    there: whether what others take of an artifact is there too, where that is not the artifact in the store.
    """
    found: dict[Node, Planned] = {}
    known: Known = {}
    for node in graph.nodes:
        words = (node, graph.needs[node], node in graph.asked)
        needs = graph.all_needs(node)
        open_ = [need.name for need in needs if found[need].verdict in ("build", "later") or not there(need)]
        found[node] = Planned(*words, "later", f"known after {', '.join(open_)}") if open_ else _of(words, store, known)
    return found


def _of(words: tuple[Node, tuple[Node, ...], bool], store: Store, known: Known) -> Planned:
    try:
        build = prepared(read(words[0].request, store), known)
        if artifact(build) is not None:
            return Planned(*words, "up-to-date", "the artifact is in the store", build.key)
        return Planned(*words, "build", reason_for(build), build.key)
    except XbuildError as error:
        return Planned(*words, "wrong", error.message)


def tree(
    found: Mapping[Node, Planned], by: Mapping[Node, Mapping[Node, str]] | None = None
) -> Iterator[tuple[str, str, str]]:
    """Rows: what was asked for, below each what it needs; what stands above already is not unfolded again.

    by: for a node, what it needs another one for, where that is worth a word.
    """
    seen: set[Node] = set()
    waiting = [(one.node, 0, "") for one in reversed(list(found.values())) if one.asked]
    while waiting:
        node, depth, why = waiting.pop()
        one = found[node]
        again = node in seen and bool(one.needs)
        seen.add(node)
        reason = "see above" if again else one.reason
        yield f"{'  ' * depth}{node.title}", _WORDS[one.verdict], f"for {why}; {reason}" if why else reason
        if not again:
            own = (by or {}).get(node, {})
            waiting += [(need, depth + 1, own.get(need, "")) for need in reversed(one.needs)]
