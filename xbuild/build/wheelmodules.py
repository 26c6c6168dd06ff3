"""Twins from wheels: compiled Python modules of a build's requirements, for a native python to load.

Where a target's wheel has yaml/_yaml.cpython-313-arm-linux-gnueabihf.so, the native wheel of that name, version and
ABI has the same module for this machine. Only of a wheel that is the same but for its modules: where anything else in
it differs, it was made in another way, and its modules may do something else. All of its modules, or none.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from xbuild.build.wheelpairs import RefusedError, Sides, Stand, Wheels, placed, stand, twin_of
from xbuild.formats.wheel import Wheel, opened
from xbuild.model.policy import Policy
from xbuild.model.toolchain import Toolchain
from xbuild.twins.arithmetic import fuses
from xbuild.twins.pairing import Refusal, Refused

_SITE = "/usr/lib/python3/dist-packages"
"""Where the distribution has its modules: by that the policy knows which ones may be native."""
_SUFFIX = ".so"


@dataclass(frozen=True)
class _Module:
    """tool: of the policy. path: below the directory that the target's wheel is installed to. target, native: its names
    in both wheels.
    """

    tool: str
    path: str
    target: str
    native: str


def pair(target: Path, native: Path, folder: str, sides: Sides) -> Wheels:
    """The twins of the modules of the wheel `target`, once it is installed in the directory `folder` (inside), out of
    `native`. Raises WheelError if one of them is broken.
    """
    with opened(target, label=target.name) as one, opened(native, label=native.name) as other:
        paths = [path for path, _ in placed(one) if path.endswith(_SUFFIX)]
        stands = list[Stand]()
        try:
            for module in _modules(one, other, sides.policy, sides.toolchain):
                twin = twin_of(module.tool, f"{folder}/{module.path}", one)
                stands.append(stand(twin, one.read(module.target), other.read(module.native), sides))
        except RefusedError as error:
            return Wheels((), tuple(Refused(f"{folder}/{path}", error.cause.kind, str(error)) for path in paths))
    return Wheels(tuple(stands))


def why_none(target: Path, native: Path, policy: Policy, toolchain: Toolchain) -> str | None:
    """Why no module of `target` has a twin in `native`, as far as the two tell; None if they all may have one.

    Raises WheelError if one of them is broken.
    """
    with opened(target, label=target.name) as one, opened(native, label=native.name) as other:
        try:
            found = _modules(one, other, policy, toolchain)
        except RefusedError as error:
            return str(error)
        if "fused" in toolchain.traits and any(fuses(one.read(module.target)) for module in found):
            return "its own code rounds as no code of this machine does"
    return None if found else "it has no compiled modules"


def _modules(one: Wheel, other: Wheel, policy: Policy, toolchain: Toolchain) -> list[_Module]:
    """The modules of the wheel `one`, with those of `other`; [] if it has none. Raises RefusedError."""
    mine = {path: member for path, member in placed(one) if path.endswith(_SUFFIX)}
    if not mine:
        return []
    if _abis(one) != _abis(other):
        raise RefusedError(Refusal.UNFIT, "the wheel for this machine is for another python, or another ABI of it")
    found = list(_known(other, policy, toolchain, mine))
    if lacking := mine.keys() - {module.path for module in found}:
        text = "is no module that may be native, or the wheel for this machine lacks it"
        raise RefusedError(Refusal.UNFIT, f"{min(lacking)} {text}")
    rest, theirs = _rest(one, {*mine.values()}), _rest(other, {module.native for module in found})
    if differing := {path for path in rest.keys() | theirs.keys() if rest.get(path) != theirs.get(path)}:
        raise RefusedError(Refusal.UNFIT, f"the wheel for this machine has another {min(differing)}")
    return found


def _abis(wheel: Wheel) -> set[str]:
    """Its tags without what they say of machines."""
    return {tag.rpartition("-")[0] for tag in wheel.tags}


def _known(wheel: Wheel, policy: Policy, toolchain: Toolchain, mine: Mapping[str, str]) -> Iterator[_Module]:
    """The modules of the native wheel that the policy knows, and the target's has: `mine`, member by path."""
    tools = [(name, tool) for name, tool in policy.tools.items() if tool.module]
    for path, member in placed(wheel):
        for name, tool in tools:
            there = tool.target_path(f"{_SITE}/{path}", "", toolchain.triplet) or ""
            if (own := there.removeprefix(f"{_SITE}/")) in mine:
                yield _Module(name, own, mine[own], member)
                break


def _rest(wheel: Wheel, modules: Container[str]) -> dict[str, str]:
    """The sha256 of what is installed besides modules, by path; what the wheel says of itself differs always."""
    digests = {member.path: member.sha256 for member in wheel.members if member.path not in modules}
    own = f"{wheel.information}/"
    return {path: digests[name] for path, name in placed(wheel) if name in digests and not name.startswith(own)}
