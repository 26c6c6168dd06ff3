"""What a build stands on: roots, layers and twins, made by one call; and what it sees as `/` in its work place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from xbuild.base import log
from xbuild.base.paths import PRIVATE
from xbuild.build import compilercache, elsewhere, wheeltwins
from xbuild.build.environment import Root, WorkPlace, sandbox
from xbuild.build.modes.mode import Site
from xbuild.build.prepared import staged
from xbuild.build.subject import Subject
from xbuild.build.taught import heeded
from xbuild.build.wheelpairs import Wheels
from xbuild.formats.debian import Tree
from xbuild.roots import partners
from xbuild.roots.distribution import Natives
from xbuild.roots.staging import Artifact, stage
from xbuild.sandbox.run import capture
from xbuild.twins import pairing


@dataclass(frozen=True)
class Ground:
    """All is there. site: the layers, and what the mode adds to. tree: those of the distribution, to be read.

    natives: None where the target is this machine itself. pairs: which twins the build has; wheels: those of them that
    lie in no root. replaced: as of `xbuild.roots.staging.Staging`.
    """

    site: Site
    tree: Tree
    natives: Natives | None
    pairs: pairing.Pairs
    replaced: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    wheels: Wheels = field(default_factory=Wheels)


def lay(subject: Subject) -> Ground:
    """Make what is missing of roots, layers and twins for `subject`.

    Raises NotBuiltError if a recipe that it needs has no artifact.
    """
    needs = staged(subject)
    roots, native = subject.roots, subject.toolchain.native
    layers = roots.layers(subject.packages)
    natives = None if native else _natives(subject)
    tree = roots.tree_of(layers)
    over = stage(roots, subject.packages, layers, [Artifact(one.name, one.sha256, one.archive) for one in needs])
    site = Site(
        roots,
        subject.toolchain,
        subject.packages,
        (*over.layers, *layers),
        subject.jobs,
        subject.request.servers,
        staged=tuple(one.sha256 for one in needs),
        below=layers,
    )
    seen = Tree(site.layers) if needs else None
    pairs = _pairs(subject, natives, tree, seen)
    own = wheeltwins.of(subject, natives) if natives is not None and pairs.entries else Wheels()
    return Ground(site, tree, natives, own.together(pairs), over.replaced, own)


def _natives(subject: Subject) -> Natives:
    return partners.of(subject.roots, subject.packages).natives() if subject.mode.twins else subject.roots.natives()


def _pairs(subject: Subject, natives: Natives | None, tree: Tree, seen: Tree | None) -> pairing.Pairs:
    roots, request, twins = subject.roots, subject.request, subject.recipe.twins
    if roots.policy is None or natives is None or not subject.mode.twins:
        return pairing.Pairs((), (), ())
    pairing.require_names(request.emulate, natives.twins, roots.policy)
    pairs = pairing.pair(
        natives.twins,
        tree,
        roots.policy,
        roots.toolchain,
        removed=frozenset(twins.remove),
        added=frozenset(twins.add),
        without=request.without,
        grouped=request.grouped,
        libc=roots.libc,
        seen=seen,
    )
    known = {refused.path for refused in pairs.refused}
    for path in sorted(request.without - known):
        log.info(f"--without {path}: it has no native twin, so nothing changes")
    return pairs.without(heeded(subject, tree))


def furnish(subject: Subject, ground: Ground, place: WorkPlace, *, record: bool = True) -> Root:
    """What the build at `place`, which is there, sees as `/`; its dispatcher, and what the mode brings, lie there.

    record: each exec is written down.
    """
    site, natives = ground.site, ground.natives
    if natives is None:
        return Root(site.layers, None, (), below=site.below)
    cache = elsewhere.lay(subject, natives, ground.pairs, place)
    if cache is None:
        cache = compilercache.lay(subject, site, natives, ground.tree, ground.pairs, place)
    table, caching = (cache.entries, cache.caching) if cache else (ground.pairs.table, None)
    dispatcher = site.roots.dispatcher(table, place.dispatcher, record=record, caching=caching)
    registrations, shown = site.roots.hook(dispatcher)
    machine = subject.mode.machine(site)
    root = Root(site.layers, natives.private, registrations, dispatcher=shown, machine=machine, below=site.below)
    layer = wheeltwins.laid(ground.wheels, natives.layer, place)
    root = replace(root, native_layer=layer, inside=cache.shown if cache else ())
    root = subject.mode.equip(root, place, site)
    if root.service is None:
        # A service is a program of this machine's, in the same namespace.
        root = replace(root, registrations=(*root.registrations, *site.roots.refusals()))
    if ground.pairs.entries and not place.cpuinfo.exists():
        _ask_cpuinfo(root, place)
    return root


def _ask_cpuinfo(root: Root, place: WorkPlace) -> None:
    # The emulator shows its own to the programs that it runs; twins would read the machine's.
    code, said = capture(sandbox(root, place, {}), [f"{PRIVATE}/qemu", "/usr/bin/cat", "/proc/cpuinfo"])
    if code == 0:
        place.cpuinfo.write_bytes(said)
        place.cpuinfo.chmod(0o444)
