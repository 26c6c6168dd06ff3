"""A comparison in lines and tables, for the terminal. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from xbuild.base.errors import called
from xbuild.base.log import human_size, human_time
from xbuild.formats.deb import SUFFIXES
from xbuild.formats.wheel import SUFFIX
from xbuild.model.phases import BUILDING
from xbuild.proof.compare.files import Counts, Difference
from xbuild.proof.compare.outcome import Comparison, ModeRun, Pair, groups
from xbuild.proof.compare.verdict import Found, families, printable

_MOST = 8
"""How many paths of one group, or lines of one text, are shown."""

_INSIDE = 20
"""How many members of a .deb or wheel."""

COLUMNS = ("mode", "status", *BUILDING, "total", "speed", "artifact", "files", "objects")


def speed(run: ModeRun, runs: Sequence[ModeRun]) -> float | None:
    """How many times as fast as the emulated build; None if that cannot be said."""
    base = next((known for known in runs if known.mode == "emulated" and known.status != "failed"), None)
    if base is None or run.status == "failed" or not run.seconds or not base.seconds:
        return None
    return base.seconds / run.seconds


def mode_rows(runs: Sequence[ModeRun]) -> list[tuple[str, ...]]:
    """A row a mode, in the order of `COLUMNS`."""
    rows = []
    for run in runs:
        times = [run.seconds_of(phase) for phase in BUILDING]
        ratio = speed(run, runs)
        rows.append(
            (
                run.mode,
                run.status,
                *("" if seconds is None else human_time(seconds) for seconds in times),
                human_time(run.seconds) if run.phases else "",
                f"{ratio:.1f} x" if ratio else "",
                human_size(run.bytes) if run.bytes is not None else "",
                "" if run.files is None else str(run.files),
                "" if run.objects is None else str(run.objects),
            )
        )
    return rows


def lines(comparison: Comparison) -> Iterator[str]:
    """All that follows the table of modes."""
    for run in comparison.failed:
        yield f"{run.mode} failed: {run.message}" + (f" (log: {run.log})" if run.log else "")
    if any(run.status == "up-to-date" for run in comparison.modes):
        yield "up-to-date: the artifact was in the store; the times are those of the build that made it"
    yield from (str(run.distcc) for run in comparison.modes if run.distcc)
    if comparison.pairing != "exact":
        yield f"pairing of native tools with the root's: {comparison.pairing}"
        yield from (f"  {risk}" for risk in comparison.risks)
    if comparison.again:
        yield from _again_lines(comparison)
    for pair in comparison.pairs:
        yield from _pair_lines(pair)
    if comparison.inspected is None and any(item.contents for pair in comparison.pairs for item in pair.differences):
        yield "diffoscope is not installed; with it the report shows more of what differs"
    kept = [run.kept for run in comparison.modes if run.kept]
    if kept:
        yield f"{called('kept until `invoke clean`')}: {', '.join(map(str, kept))}"


def _again_lines(comparison: Comparison) -> Iterator[str]:
    again, names = comparison.again, comparison.not_reproducible
    assert again is not None
    if again.differing is None:
        yield f"the second build in mode {again.mode} failed, so what differs by itself is not known: {again.message}"
    elif not names:
        yield f"built twice in mode {again.mode}: the same both times"
    else:
        yield f"not reproducible by itself: built twice in mode {again.mode}, {files(len(names))} came out different:"
        yield from _paths(names)


def files(number: int) -> str:
    """`1 file`, `2 files`."""
    return f"{number} file" if number == 1 else f"{number} files"


def _pair_lines(pair: Pair) -> Iterator[str]:
    names = " and ".join(pair.modes)
    parts = [f"artifact: {counts(pair.artifact)}"]
    parts += [f"objects: {counts(pair.objects)}"] if pair.objects else []
    word = "identical" if pair.identical else "same code and data" if pair.same_code else "DIFFERENT"
    yield f"{names}: {word} ({'; '.join(parts)})"
    for first, members in groups(pair.differences):
        own = ", not reproducible by itself" if first.own else ""
        sections = f": {', '.join(families(first.sections))}" if first.sections else ""
        yield f"  {first.words}{own}, {files(len(members))} ({first.where}){sections}"
        yield from (f"  {line}" for line in _paths([shown(item) for item in members]))
        for item in members[:_MOST]:
            if is_package(item.path):
                yield from (f"      {line}" for line in inside(item.members, printable(item.path)))
    if pair.generated:
        yield f"  generated files that differ, without a verdict, as they may point to the cause: {len(pair.generated)}"
        yield from (f"  {line}" for line in _paths([printable(path) for path in pair.generated]))


def is_package(path: str) -> bool:
    """Whether the file with this name is a .deb or a wheel, whose members are told one by one."""
    return path.endswith((*SUFFIXES, SUFFIX))


def inside(members: Sequence[tuple[str, Found]], archive: str = "") -> Iterator[str]:
    """A line for each member of a .deb that differs, then the lines that differ in it; at most so many of each."""
    if archive:
        yield f"in {archive}:"
    for name, found in members[:_INSIDE]:
        names = ", ".join(member for member, _ in found.members[:4]) + (", ..." if len(found.members) > 4 else "")
        words = "; ".join(part for part in (", ".join(families(found.sections)), found.detail, names) if part)
        yield f"  {printable(name)}: {found.verdict} ({printable(words)})"
        yield from (f"    {line}" for line in found.lines[:_MOST])
        if len(found.lines) > _MOST:
            yield "    ..."
    if len(members) > _INSIDE:
        yield f"  ... and {len(members) - _INSIDE} more"


def shown(item: Difference) -> str:
    """The path of a file, with what is to be said of this one alone."""
    if is_package(item.path):
        return printable(item.path) + (f" ({item.detail})" if item.detail else "")
    members = ", ".join(name for name, _ in item.members[:4]) + (", ..." if len(item.members) > 4 else "")
    aside = "; ".join(part for part in (item.detail, members) if part)
    return printable(item.path) + (f" ({aside})" if aside else "")


def _paths(paths: Sequence[str]) -> Iterator[str]:
    yield from (f"  {path}" for path in paths[:_MOST])
    if len(paths) > _MOST:
        yield f"  ... and {len(paths) - _MOST} more"


def counts(known: Counts) -> str:
    """`34 of 35 identical, 1 same code and data`."""
    rest = [
        f"{number} {word}"
        for number, word in (
            (known.same_code, "same code and data"),
            (known.different, "different"),
            (known.only, "in one mode only"),
        )
        if number
    ]
    return ", ".join([f"{known.identical} of {known.total} identical", *rest])
