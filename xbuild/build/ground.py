"""What a build stands on: roots, layers and twins, made by one call; and what it sees as `/` in its work place."""

from __future__ import annotations

from dataclasses import dataclass

from xbuild.base.paths import PRIVATE
from xbuild.build.environment import Root, WorkPlace, sandbox
from xbuild.build.modes.mode import Site
from xbuild.build.subject import Subject
from xbuild.build.taught import heeded
from xbuild.formats.debian import Tree
from xbuild.roots import partners
from xbuild.roots.distribution import Natives
from xbuild.sandbox.run import capture
from xbuild.twins import pairing


@dataclass(frozen=True)
class Ground:
    """All is there. site: the layers, and what the mode adds to. tree: these, to be read. natives: None where the
    target is this machine itself. pairs: which twins the build has.
    """

    site: Site
    tree: Tree
    natives: Natives | None
    pairs: pairing.Pairs


def lay(subject: Subject) -> Ground:
    """Make what is missing of roots, layers and twins for `subject`."""
    roots, native = subject.roots, subject.toolchain.native
    layers = roots.layers(subject.packages)
    natives = None if native else _natives(subject)
    site = Site(roots, subject.toolchain, subject.packages, layers, subject.jobs, subject.request.servers)
    tree = roots.tree_of(layers)
    return Ground(site, tree, natives, _pairs(subject, natives, tree))


def _natives(subject: Subject) -> Natives:
    return partners.of(subject.roots, subject.packages).natives() if subject.mode.twins else subject.roots.natives()


def _pairs(subject: Subject, natives: Natives | None, tree: Tree) -> pairing.Pairs:
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
    )
    return pairs.without(heeded(subject, tree))


def furnish(subject: Subject, ground: Ground, place: WorkPlace, *, record: bool = True) -> Root:
    """What the build at `place`, which is there, sees as `/`; its dispatcher, and what the mode brings, lie there.

    record: each exec is written down.
    """
    site, natives = ground.site, ground.natives
    if natives is None:
        return Root(site.layers, None, ())
    dispatcher = site.roots.dispatcher(ground.pairs.table, place.dispatcher, record=record)
    registrations, shown = site.roots.hook(dispatcher)
    machine = subject.mode.machine(site)
    layer = natives.layer
    root = Root(
        site.layers, natives.private, registrations, dispatcher=shown, machine=machine, native_layer=layer
    )
    root = subject.mode.equip(root, place, site)
    if ground.pairs.entries and not place.cpuinfo.exists():
        _ask_cpuinfo(root, place)
    return root


def _ask_cpuinfo(root: Root, place: WorkPlace) -> None:
    # The emulator shows its own to the programs that it runs; twins would read the machine's.
    code, said = capture(sandbox(root, place, {}), [f"{PRIVATE}/qemu", "/usr/bin/cat", "/proc/cpuinfo"])
    if code == 0:
        place.cpuinfo.write_bytes(said)
        place.cpuinfo.chmod(0o444)
