"""Which packages the native roots have: what brings the policy's tools, and what the target needs itself."""

from __future__ import annotations

from xbuild.model.native import here
from xbuild.model.policy import Policy
from xbuild.model.toolchain import Toolchain


def native_packages(policy: Policy, toolchain: Toolchain, architecture: str) -> list[str]:
    """The packages to ask for, sorted, in the native root of `architecture`, for a target that is not native.

    architecture: the machine's own, or that of its partner, whose root has what comes in the target's word size.
    """
    assert toolchain.qemu is not None
    own = architecture == here().name
    tools = [tool for tool in policy.tools.values() if own or policy.comes_by_width(tool)]
    wanted = [package for tool in tools for package in tool.brought_by]
    if own:
        wanted += [*policy.native_packages, toolchain.qemu.package]
    if not toolchain.builds:
        # It only runs programs, so it has no compiler that a cross compiler could stand in for.
        wanted = [package for package in wanted if "{triplet}" not in package]
    root = toolchain.native_root if own else toolchain.word_size_root
    wanted += root.packages if root else ()
    # Where the root's programs are the target's own, its compiler is no cross compiler.
    ending = f"-{toolchain.package_triplet}" if architecture == toolchain.architecture else ""
    names = {name.replace("{triplet}", toolchain.package_triplet).removesuffix(ending) for name in wanted}
    return sorted(names - {*policy.essential})
