"""Compilers of other machines, for native ones: the native distcc, before the twins of compilers.

The dispatcher starts it in the place of a twin, with the call as words of its own (dispatcher/cached.h). It
preprocesses here, by the compiler's path in the root, so by the twin; has a server compile the text (distcc(1)); and
compiles here, natively, what no server takes. `compilerserver.py` is such a server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from xbuild.base import log
from xbuild.base.paths import CACHE
from xbuild.build.compilercache import Cache, programs_of
from xbuild.build.environment import FIXED_VARIABLES, WorkPlace
from xbuild.build.modes.mode import CLIENT_LOG
from xbuild.build.subject import Subject
from xbuild.dispatcher.table import Caching, Entry
from xbuild.model.policy import Tool
from xbuild.roots.distribution import Natives
from xbuild.sandbox.mounts import Bind
from xbuild.twins.pairing import Pairs

_STATE = "client"


def lay(subject: Subject, natives: Natives, pairs: Pairs, place: WorkPlace) -> Cache | None:
    """What stands before the compilers of the build at `place`, with its log there; None if compilers run here only."""
    servers, policy = subject.request.servers, subject.roots.policy
    if not servers or policy is None or not subject.mode.twins:
        return None
    programs = programs_of(natives)
    found = [
        _handing_on(entry, policy.tools[twin.tool], programs)
        for twin, entry in zip(pairs.twins, pairs.entries, strict=True)
    ]
    if not any(entry.cache for entry in found):
        log.warn("no compiler of this build runs natively, so no other machine is asked")
        return None
    from xbuild.build import compilerserver

    compilerserver.require_same(servers, compilerserver.identity(subject.roots))
    state = place.path / _STATE
    state.mkdir(exist_ok=True)
    # Users inside are others; nobody else gets into the work place.
    state.chmod(0o777)
    said = place.logs / CLIENT_LOG
    said.touch()
    said.chmod(0o666)
    shown = (Bind(str(state), CACHE), Bind(str(said), f"{CACHE}/{CLIENT_LOG}"))
    (state / CLIENT_LOG).touch()
    env = {"DISTCC_DIR": CACHE, "DISTCC_HOSTS": " ".join(servers)}
    env |= {"DISTCC_LOG": f"{CACHE}/{CLIENT_LOG}", "DISTCC_VERBOSE": "1"}
    # Which assembler runs is decided by PATH, and a server has its own.
    caching = Caching(tuple(f"{name}={value}" for name, value in env.items()), (f"PATH={FIXED_VARIABLES['PATH']}",))
    return Cache((*found, *pairs.modules, *pairs.scripts), caching, shown)


def begin(place: WorkPlace) -> None:
    """Forget what became of earlier calls. The log of mode distcc is that mode's own."""
    if (place.path / _STATE).exists():
        (place.logs / CLIENT_LOG).unlink(missing_ok=True)


def _handing_on(entry: Entry, tool: Tool, programs: Mapping[str, str]) -> Entry:
    """The entry of a twin of `tool`, with its client before it, of `programs` by tool, if it has one."""
    program = programs.get(tool.client) if tool.client else None
    if program is None:
        return entry
    kept = (*entry.rules.cache_unless, *tool.columns, *tool.client_keeps)
    rules = entry.rules.model_copy(update={"cache_unless": kept})
    return replace(entry, cache=program, rules=rules)
