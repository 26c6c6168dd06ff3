"""Makes the lock file of a recipe: resolves all that its build is made with, and writes it down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from xbuild.base import log
from xbuild.base.errors import UsageError
from xbuild.build.request import Request
from xbuild.build.subject import Subject, read
from xbuild.model.base import SCHEMA
from xbuild.model.load import recipe_path
from xbuild.model.lock import Lock, LockedRoot, LockedTarget, load_lock, write_lock
from xbuild.roots import partners
from xbuild.roots.resolve import Question
from xbuild.store.local import Store


def lock(request: Request, targets: Sequence[str], *, update: bool, store: Store | None = None) -> Path:
    """Write the lock file for these targets, by default those that it has, else the request's; others stay in it.

    update: with packages of today, or of the request's snapshot, instead of those that were resolved before. Raises
    MachineError if the index cannot be had, UsageError for an imported root.
    """
    first = read(replace(request, locked=False), store)
    recipe = recipe_path(request.recipe, first.project)
    before = load_lock(recipe)
    locked = dict(before.targets) if before else {}
    for name in targets or list(locked) or [request.target]:
        subject = read(replace(request, target=name, locked=False), first.store)
        with first.store.in_use():
            locked[name] = locked_target(subject, update=update)
        count = sum(len(root.packages) for root in locked[name].roots.values())
        log.info(f"{first.recipe.name} for {name}: {count} packages")
    return write_lock(recipe, Lock(schema_version=SCHEMA, targets=locked))


def questions(subject: Subject) -> list[Question]:
    """All that the roots of a build are to have, and its layer."""
    roots = subject.roots
    names = [] if subject.toolchain.native else roots.native_architectures()
    layer = [roots.layer_question(subject.packages)] if subject.packages else []
    native_layer = partners.of(roots, subject.packages).question
    layer += [native_layer] if native_layer else []
    return [*map(roots.native_question, names), roots.base_question(), *layer]


def locked_target(subject: Subject, *, update: bool = False) -> LockedTarget:
    """All packages that `subject` is built with. update: resolved now. Raises as `lock`."""
    if subject.imported is not None:
        raise UsageError("an imported root is fixed by its own digest, and has no lock", hint="leave out --root")
    resolver, roots = subject.roots.resolver, dict[str, LockedRoot]()
    asked = questions(subject)
    for question in asked if update else ():
        resolver.renew(question)
    for question in asked:
        below = resolver.packages(question.base) if question.base else {}
        held = {name: text for name, text in resolver.packages(question).items() if below.get(name) != text}
        roots[question.what] = LockedRoot(
            wanted=question.packages, profiles=question.profiles, packages=held
        )
    return LockedTarget(suite=subject.toolchain.distribution.suite, snapshot=subject.snapshot, roots=roots)
