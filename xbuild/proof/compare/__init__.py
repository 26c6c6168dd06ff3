"""Holds the builds of one recipe in several modes against each other: artifacts, and on request all objects."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from xbuild.base import log, process
from xbuild.base.errors import UsageError
from xbuild.build.build import provide
from xbuild.build.request import Request
from xbuild.build.subject import Subject, read
from xbuild.formats.debian import Tree
from xbuild.proof.compare import environment, inspect, modes
from xbuild.proof.compare.contents import compare_contents, readable, text_difference
from xbuild.proof.compare.files import Difference, Where, compare_listings, contents_differ
from xbuild.proof.compare.modes import Built, Wanted
from xbuild.proof.compare.outcome import Comparison, Pair, with_own
from xbuild.proof.compare.trees import Artifact, BuildTree
from xbuild.proof.compare.verdict import Found, Verdict
from xbuild.store.local import Store, writing_below
from xbuild.store.own import open_store

_TEXTS = 20
"""Of how many text files the differing lines are shown."""


def compare(
    request: Request, chosen: Sequence[str], *, twice: bool = False, store: Store | None = None
) -> Comparison:
    """Build what is requested in each of the modes `chosen` and compare every two of them.

    Where the request says that work places are kept, the ELF files and archives of the build trees are compared too.
    twice: build once more in one mode even if nothing differs.
    A build that fails is part of the result. Raises UsageError if there is nothing to compare.
    """
    store = store or open_store()
    example = read(request, store)
    if example.toolchain.native:
        message = f"{request.target} is the machine itself: there is one mode only"
        raise UsageError(message, hint="name an emulated target")
    if len(set(chosen)) < 2 and not twice:
        raise UsageError("compare needs two modes", hint="name two modes, or --twice")
    # Each mode gets the same files of the recipes that this one needs: a difference is its own.
    provide(example)
    name = f"compare-{example.place.path.name.rpartition('-')[0]}"
    in_use = store.in_use()
    with in_use, store.lock(name, describe=f"compares {example.title}"), writing_below(store.root):
        store.directory("tmp")
        scratch = store.scratch(name)
        try:
            wanted = Wanted(request, store, scratch)
            return _compared(wanted, list(dict.fromkeys(chosen)), twice=twice)
        finally:
            store.discard(scratch)


def _compared(wanted: Wanted, chosen: Sequence[str], *, twice: bool) -> Comparison:
    wanted.scratch.mkdir()
    built = [modes.build(replace(wanted, request=replace(wanted.request, mode=mode))) for mode in chosen]
    good = [known for known in built if known.artifact is not None]
    pairs = [_pair(one, other) for one, other in itertools.combinations(good, 2)]
    again = None
    if good and (twice or not all(pair.identical for pair in pairs)):
        again = modes.build_again(wanted, _fastest(good))
    differing = (again.differing if again else None) or frozenset()
    pairs = [with_own(pair, differing) for pair in pairs]
    subject = built[0].subject
    by_mode = {known.run.mode: known for known in good}
    return Comparison(
        recipe=subject.recipe.name,
        version=subject.recipe.version,
        target=subject.toolchain.name,
        suite=subject.toolchain.distribution.suite,
        name=_name(subject),
        modes=tuple(known.run for known in built),
        pairs=tuple(pairs),
        again=again,
        inspected=_inspected(wanted.scratch, pairs, by_mode) if inspect.available() else None,
        environment=tuple(environment.rows([known.manifest for known in good], _qemu(subject))) if good else (),
        machine=environment.machine(),
        commands=tuple(_commands(wanted, chosen)),
        pairing=_fastest(good).manifest.get("pairing", "exact") if good else "none",
        risks=tuple(risk for known in good for risk in known.manifest.get("risks", ())),
    )


def _name(subject: Subject) -> str:
    """NAME-VERSION-TARGET, with the suite if it is not the default."""
    return subject.file_name.removesuffix(f"-{subject.mode.name}")


def _fastest(good: Sequence[Built]) -> Built:
    substituted = [known for known in good if known.run.mode == "substituted"]
    return substituted[0] if substituted else min(good, key=lambda known: known.run.seconds)


def _pair(one: Built, other: Built) -> Pair:
    names = (one.run.mode, other.run.mode)
    assert one.artifact is not None
    assert other.artifact is not None
    with log.step(f"compare {names[0]} and {names[1]}"):
        counts, differences = _compare("artifact", names, (one.artifact, other.artifact))
        texts = _texts(names, differences, (one.artifact, other.artifact))
        if one.tree is None or other.tree is None:
            return Pair(names, counts, None, tuple(differences), texts=texts)
        generated = contents_differ(one.tree.others, other.tree.others)
        with modes.reading(one.subject), modes.reading(other.subject):
            object_counts, found = _compare("objects", names, (one.tree, other.tree))
            shown = generated[:_TEXTS]
            one.tree.take(shown)
            other.tree.take(shown)
        texts |= {path: lines for path in shown if (lines := _text(names, (one.tree, other.tree), path))}
        return Pair(names, counts, object_counts, (*differences, *found), tuple(generated), texts)


def _compare(
    where: Where, names: tuple[str, str], both: tuple[Artifact, Artifact] | tuple[BuildTree, BuildTree]
) -> tuple[Any, list[Difference]]:
    one, other = both
    paths = contents_differ(one.listing, other.listing)
    one.take(paths)
    other.take(paths)

    def examine(path: str) -> Found:
        return compare_contents(one.file(path).read_bytes(), other.file(path).read_bytes())

    return compare_listings(where, names, one.listing, other.listing, examine)


def _texts(
    names: tuple[str, str], differences: Sequence[Difference], both: tuple[Artifact, Artifact]
) -> dict[str, list[str]]:
    paths = [item.path for item in differences if item.contents][:_TEXTS]
    return {path: lines for path in paths if (lines := _text(names, both, path))}


def _text(
    names: tuple[str, str], both: tuple[Artifact, Artifact] | tuple[BuildTree, BuildTree], path: str
) -> list[str]:
    one, other = both[0].file(path), both[1].file(path)
    return text_difference(readable(one.read_bytes()), readable(other.read_bytes()), names)


def _inspected(scratch: Path, pairs: Sequence[Pair], good: Mapping[str, Built]) -> dict[inspect.Key, str]:
    found: dict[inspect.Key, str] = {}
    budget = inspect.Budget()
    for pair, item in inspect.chosen(pairs):
        if budget.is_spent():
            break
        with log.step(f"diffoscope {item.path}"):
            files = (_file(good[pair.modes[0]], item), _file(good[pair.modes[1]], item))
            found[pair.modes, item.path] = inspect.inspect(scratch, *files)
    return found


def _file(known: Built, item: Difference) -> Path:
    source = known.artifact if item.where == "artifact" else known.tree
    assert source is not None
    return source.file(item.path)


def _qemu(subject: Subject) -> str:
    packages = Tree([subject.roots.natives().tree]).packages
    return next((package.version for name, package in packages.items() if name.startswith("qemu-user")), "")


def _commands(wanted: Wanted, chosen: Sequence[str]) -> list[str]:
    request = wanted.request
    words = [request.recipe, "--target", request.target]
    words += ["--suite", request.suite] if request.suite else []
    words += ["--root", request.root] if request.root else []
    flags = ["--objects"] if request.here.keep else []
    first = process.show(["invoke", "compare", *words, "--modes", ",".join(chosen), *flags])
    return [first, *(process.show(["invoke", "build", *words, "--mode", mode]) for mode in chosen)]


__all__ = ["Comparison", "Verdict", "compare"]
