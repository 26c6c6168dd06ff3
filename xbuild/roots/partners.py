"""Native layers: where build dependencies bring compiled modules, the same packages of the native machine are resolved
and unpacked beside them, so that native interpreters have partners for those modules."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from xbuild.base import log
from xbuild.base.digest import key_of
from xbuild.formats.debian import Tree
from xbuild.model.native import here
from xbuild.model.policy import Policy
from xbuild.roots import apt
from xbuild.roots.contents import Packages
from xbuild.roots.distribution import Natives, Roots
from xbuild.roots.index import STATUS, read_stanzas
from xbuild.roots.resolve import Question
from xbuild.sandbox.run import take_back
from xbuild.store.local import LAYOUT
from xbuild.twins import nativelayer, pairing

WHAT = "native layer"
_STATUS = "var/lib/dpkg/status"


def bringing(status: str, policy: Policy, native: Packages) -> dict[str, str]:
    """The packages of a target root that may bring compiled modules, with their plain versions, sorted by name.

    status: what is installed, as dpkg writes it. native: what the native root has: in the same version it is there.
    """
    there = {name: policy.plain_version(text.split()[0]) for name, text in native.items()}
    found = {
        stanza.name: policy.plain_version(stanza.version)
        for stanza in read_stanzas(status)
        if stanza.architecture != "all" and policy.brings_modules(stanza.name, stanza.dependencies)
    }
    return {name: version for name, version in sorted(found.items()) if there.get(name) != version}


@dataclass(frozen=True)
class Partners:
    """The native layer of one target root. status: gives what is installed there, as dpkg writes it."""

    roots: Roots
    status: Callable[[], str]

    @cached_property
    def question(self) -> Question | None:
        """What the layer is to have; None if nothing in the target root asks for one.

        Where a lock file fixes packages, it fixes these too, and no index is needed to know them.
        """
        roots = self.roots
        if roots.policy is None or roots.toolchain.native:
            return None
        base = roots.native_question(here().name)
        if roots.resolver.locked:
            wanted = dict.fromkeys(roots.resolver.locked[WHAT].wanted, "") if WHAT in roots.resolver.locked else {}
        else:
            wanted = bringing(self.status(), roots.policy, roots.resolver.packages(base))
        versions = tuple(filter(None, wanted.values()))
        return Question(WHAT, here().name, None, tuple(wanted), base, versions=versions) if wanted else None

    @cached_property
    def held(self) -> Packages:
        """What the layer has; nothing, if the archive has nothing of it, and then there is none."""
        if self.question is None or self.question.base is None:
            return {}
        below = self.roots.resolver.packages(self.question.base)
        whole = self.roots.resolver.packages(self.question)
        return {name: text for name, text in whole.items() if below.get(name) != text}

    def value(self) -> dict[str, Any] | None:
        """What determines the layer; None if there is none."""
        if self.question is None or not self.held:
            return None
        private = key_of(self.roots.private_value())
        return {
            "what": WHAT,
            "architecture": self.question.architecture,
            "packages": list(self.question.packages),
            "held": dict(self.held),
            "private": private,
            "layout": LAYOUT,
        }

    def inputs(self) -> Mapping[str, Any]:
        """What it can put into an artifact, as JSON."""
        return {WHAT: dict(self.held)} if self.held else {}

    def natives(self) -> Natives:
        """The native roots, the private tree, and the layer with its twins; made if they are not there."""
        plain, question, value = self.roots.natives(), self.question, self.value()
        if question is None or value is None:
            return plain

        def make(staging: Path) -> None:
            with log.step(f"{WHAT}: {' '.join(question.packages)}"):
                self._make(staging, question, plain)

        place = self.roots.ensured("twins", question, self._fresh, f"the {WHAT}", make)
        key = key_of([plain.key, value])
        twins = (*plain.twins, *pairing.load(place / "twins.json"))
        return replace(plain, layer=place / "layer", key=key, twins=twins)

    def _fresh(self) -> dict[str, Any] | None:
        # Where the mirror has changed, packages are resolved anew.
        return Partners(self.roots, self.status).value()

    def _make(self, staging: Path, question: Question, natives: Natives) -> None:
        roots, policy = self.roots, self.roots.policy
        assert policy is not None
        folder = staging / "unpacked"
        folder.mkdir()
        answer = roots.resolver.place(question)
        making = replace(roots.making(staging, None), architecture=question.architecture)
        complaint = "the native packages of the build dependencies could not be fetched"
        making.unpack(apt.UNPACK_ALL, folder, answer, complaint, apt.NETWORK)
        take_back(staging, tree=folder)
        shutil.copyfile(answer / STATUS, folder / _STATUS)
        tree = Tree([folder, natives.tree])
        nativelayer.make(staging, tree, natives.private, set(question.packages), policy, roots.toolchain)
        roots.store.discard(folder)


def of(roots: Roots, packages: Sequence[str]) -> Partners:
    """For the target root with `packages` installed, which need not be there unless the root is an imported one."""

    def status() -> str:
        if roots.imported is not None:
            return roots.tree(packages).text(_STATUS) or ""
        question = roots.layer_question(packages) if packages else roots.base_question()
        return roots.resolver.status(question)

    return Partners(roots, status)


def of_tree(roots: Roots, tree: Tree) -> Partners:
    """For a target root that is there."""
    return Partners(roots, lambda: tree.text(_STATUS) or "")
