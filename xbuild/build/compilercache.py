"""A cache of what compilers gave, before the twins of compilers: the native ccache, with its files in the store.

The dispatcher starts it in the place of a twin, with the call as words of its own (dispatcher/cached.h); where it has
no answer it starts the compiler by its path in the root, as the build would have. It tells calls apart by preprocessed
text, options, directory and variables; columns of the source join the text where they show (dispatcher/columns.c), and
what else decides about an object is `_identity`. Its direct mode is off: by that a header that is new, and found first,
would not be seen (ccache(1), "CAVEATS").
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from xbuild.base.digest import key_of
from xbuild.base.paths import CACHE, COLUMNS
from xbuild.build.environment import FIXED_VARIABLES, WorkPlace
from xbuild.build.executor import Answers
from xbuild.build.modes.mode import Site
from xbuild.build.subject import Subject
from xbuild.dispatcher.table import Caching, Entry
from xbuild.formats.debian import Tree
from xbuild.model.native import here
from xbuild.model.policy import Policy
from xbuild.roots.distribution import Natives, Roots
from xbuild.sandbox.mounts import Bind
from xbuild.store.answers import FILES, FOLDER
from xbuild.store.local import Store
from xbuild.twins.pairing import Pairs

SIZE = 5 << 30
"""Bytes that it keeps unless the user says otherwise: what ccache(1) has as `max_size`."""
_CONFIG, _LOG = "ccache.conf", "log"
_HITS, _MISSES = ("direct_cache_hit", "preprocessed_cache_hit"), "cache_miss"
"""Names of ccache's counters, as its `stats_log` has them."""
_UNIT = 1024


@dataclass(frozen=True)
class Cache:
    """The cache of a build. entries: of the dispatcher's table; shown: what it needs to see."""

    entries: tuple[Entry, ...]
    caching: Caching
    shown: tuple[Bind, ...]


def lay(subject: Subject, site: Site, natives: Natives, tree: Tree, pairs: Pairs, place: WorkPlace) -> Cache | None:
    """The cache for the build at `place`, with its settings there; None if it has none. tree: of the distribution."""
    wanted, policy = subject.request.here.cache, subject.roots.policy
    if wanted is None or policy is None or subject.mode.whole:
        return None
    programs = programs_of(natives)
    tools = {name: programs[tool.cache] for name, tool in policy.tools.items() if tool.cache in programs}
    found = [
        replace(entry, cache=tools.get(twin.tool)) for twin, entry in zip(pairs.twins, pairs.entries, strict=True)
    ]
    if not any(entry.cache for entry in found):
        return None
    folder = place.path / "ccache"
    _lay_settings(folder, _identity(subject, site, tree, pairs, policy), wanted or SIZE)
    shown = (
        Bind(str(folder), CACHE, readonly=True),
        Bind(str(_files(subject.store)), f"{CACHE}/{FILES}"),
        Bind(str(folder / _LOG), f"{CACHE}/{_LOG}"),
    )
    # Which assembler runs is decided by PATH. In the directories of this one nothing is made while a build runs.
    columns = sorted({word for tool in policy.tools.values() if tool.cache for word in tool.columns})
    env = (f"CCACHE_CONFIGPATH={CACHE}/{_CONFIG}", f"XBUILD_COLUMNS={' '.join(columns)}")
    caching = Caching(env, (f"PATH={FIXED_VARIABLES['PATH']}",))
    return Cache((*found, *pairs.modules, *pairs.scripts), caching, shown)


def programs_of(natives: Natives) -> dict[str, str]:
    """The twins that may stand before compilers, those of the machine's own width, as seen inside; by tool."""
    return {twin.tool: twin.program for twin in natives.twins if twin.architecture == here().name}


def begin(place: WorkPlace) -> None:
    """Count anew."""
    (place.path / "ccache" / _LOG).unlink(missing_ok=True)


def answers(place: WorkPlace) -> Answers | None:
    """What it did since `begin`; None if the build has no cache."""
    try:
        lines = (place.path / "ccache" / _LOG).read_text(errors="replace").splitlines()
    except OSError:
        return None
    # A line `# FILE` for each call, and below it the counters that it raises.
    calls = sum(line.startswith("#") for line in lines)
    hits, misses = sum(lines.count(name) for name in _HITS), lines.count(_MISSES)
    return Answers(hits, misses, max(0, calls - hits - misses))


def remove(store: Store) -> None:
    """Forget all that was kept. Nobody may build meanwhile."""
    store.discard(store.root / FOLDER)


def _identity(subject: Subject, site: Site, tree: Tree, pairs: Pairs, policy: Policy) -> str:
    """What decides about an object beside what ccache looks at itself: which compilers, by what they are made from.

    A change time, which ccache would take, says nothing about them: each store has other ones.
    """
    groups = {policy.group_of(name) for name, tool in policy.tools.items() if tool.cache}
    compilers = [
        entry for twin, entry in zip(pairs.twins, pairs.entries, strict=True) if policy.group_of(twin.tool) in groups
    ]
    owners = {entry.path: tree.packages[tree.owners[entry.path]] for entry in compilers}
    return key_of(
        {
            "target": subject.toolchain.deciding(),
            "roots": _of_roots(subject.roots),
            "compilers": {entry.path: [entry.program, entry.other or ""] for entry in compilers},
            "packages": {path: f"{package.name} {package.version}" for path, package in owners.items()},
            # Those that are emulated for what the recipe, or an earlier build, says of them.
            "refused": sorted(f"{refused.path} {refused.kind}" for refused in pairs.refused),
            "staged": site.staged,
        }
    )


@cache
def _of_roots(roots: Roots) -> str:
    return key_of([roots.base_value(), roots.private_value()])


def _lay_settings(folder: Path, identity: str, size: int) -> None:
    (folder / FILES).mkdir(parents=True, exist_ok=True)
    settings = {
        "cache_dir": f"{CACHE}/{FILES}",
        "compiler_check": f"string:{identity}",
        "compiler_type": "gcc",
        "direct_mode": "false",
        "inode_cache": "false",
        "prefix_command_cpp": COLUMNS,
        "max_size": f"{max(1, size // _UNIT)}Ki",
        "stats_log": f"{CACHE}/{_LOG}",
        "temporary_dir": f"{CACHE}/{FILES}/tmp",
        # Phases that root inside runs leave nothing that the builder could not replace.
        "umask": "000",
    }
    (folder / _CONFIG).write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
    log = folder / _LOG
    log.touch()
    # Users inside are others; nobody else gets into the work place.
    log.chmod(0o666)


def _files(store: Store) -> Path:
    folder = store.directory(FOLDER) / FILES
    folder.mkdir(exist_ok=True)
    folder.chmod(0o777)
    return folder
