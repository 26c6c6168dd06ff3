"""Whether this machine can run xbuild: found out by trying, with what to do where it cannot."""

from __future__ import annotations

from pathlib import Path

from xbuild.base import paths
from xbuild.base.errors import MachineError
from xbuild.doctor import install, machine
from xbuild.doctor.probe import Probe
from xbuild.model import native as machines

__all__ = ["Probe", "examine", "reason_not_runnable", "require"]


def examine(store_root: Path, *, offline: bool = False) -> list[Probe]:
    """Everything that can be asked, in the order to be shown; takes about a second, leaves nothing behind.

    store_root: the store's directory, which need not exist. offline: do not ask for a package mirror.
    """
    if machines.find() is None:
        # What could be tried is not known for such a machine.
        return [machine.distribution(), machine.architecture()]
    # Only here: `require`, at the start of each command, tries nothing.
    from xbuild.doctor import trials

    namespace = trials.user_namespace()
    works = namespace.status == "ok"
    # A warning says that namespaces can be had, but not used for lack of ids.
    allowed = namespace.status != "fail"
    binfmt = trials.private_binfmt() if works else trials.not_tried("private binfmt_misc", namespace.name)
    found = [machine.distribution(), machine.kernel(), machine.architecture()]
    found += [machine.programs(), machine.git(), machine.subordinate_ids(), *machine.settings(works=allowed)]
    found += [machine.binfmt_module(works=binfmt.status == "ok"), machine.confinement(works=allowed)]
    found += [namespace, trials.id_maps() if works else trials.not_tried("id maps", namespace.name), binfmt]
    found.append(trials.begin_again())
    found += _in_cache(store_root, namespaces=works, binfmt=binfmt.status == "ok")
    return found if offline else [*found, machine.package_mirror()]


def _in_cache(store_root: Path, *, namespaces: bool, binfmt: bool) -> list[Probe]:
    from xbuild.doctor import trials

    try:
        with trials.scrap(store_root) as place:
            cache = trials.cache(store_root, place, works=namespaces)
            usable = namespaces and cache.status != "fail"
            return [
                trials.foreign_program(place, store_root)
                if usable and binfmt
                else trials.not_tried(trials.foreign_name(), "a private binfmt_misc and the cache directory"),
                trials.partner_program(place)
                if cache.status != "fail"
                else trials.not_tried(trials.partner_name(), "the cache directory"),
                trials.overlay(place)
                if usable
                else trials.not_tried("overlay", "user namespaces and the cache directory"),
                cache,
            ]
    except OSError as error:
        return [trials.cache_refused(store_root, error)]


def require(*, native: bool = False, assume_yes: bool = False) -> None:
    """Look, at the start of a build, for what can be seen without trying.

    native: the target is the machine itself, so nothing is emulated. assume_yes: install what is missing
    without asking; else the user is asked, where that can be. Raises MachineError with all that is missing
    then; its hint mends the first of it, or all that can be installed.
    """
    install.set_up(assume_yes=assume_yes)
    installed = [machine.programs(), machine.subordinate_ids()]
    asked = [machine.architecture(), *installed, *([] if native else [machine.kernel()])]
    faults = [probe for probe in asked if probe.status == "fail"]
    if not faults:
        return
    first, *others = faults
    details = [
        probe.line() if probe in installed or not probe.hint else f"{probe.line()} ({probe.hint})" for probe in others
    ]
    hint = first.hint
    if first in installed and (lacking := install.lack()):
        hint = lacking.line()
        details += [] if lacking.obstacle() else ["with XBUILD_YES=1 xbuild installs it itself"]
    raise MachineError(first.line(), details=details, hint=hint)


def reason_not_runnable() -> str | None:
    """The first thing, as `examine` says it, for which builds cannot work here; None if they can."""
    found = examine(paths.cache(), offline=True)
    return next((probe.line() for probe in found if probe.status == "fail"), None)
