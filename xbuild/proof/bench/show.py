"""The figures of a benchmark as a table for the terminal, as Markdown, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from xbuild.base import log
from xbuild.proof.bench.series import TOTAL, Figure, Series, Variant, climb, differing, figures, ladders

COLUMNS = ("recipe", "target", "variant", "phase", "median", "least", "most", "ratio")
"""Of `rows`; seconds, and the ratio to the native target."""


def rows(series: Series) -> list[tuple[str, ...]]:
    """The table for the terminal; a variant that failed has one row that says so."""
    found: list[tuple[str, ...]] = []
    for figure in figures(series):
        known = figure.variant
        times = (f"{seconds:.1f}" for seconds in (figure.median, figure.least, figure.most))
        found.append((known.recipe, known.target, known.name, figure.phase, *times, _ratio(figure)))
    for failure in series.failures:
        known = failure.variant
        found.append((known.recipe, known.target, known.name, "failed", "", "", "", failure.log or failure.message))
    return found


def remarks(series: Series) -> list[str]:
    """What a reader of the figures should know besides."""
    said = []
    if not series.complete:
        said.append(f"{len(series.runs)} of {len(series.variants) * series.rounds} builds have been measured.")
    said += [
        f"Failed: {failure.variant}: {failure.message}" + (f" ({failure.log})" if failure.log else ".")
        for failure in series.failures
    ]
    said += [
        f"The builds of {recipe} for {target} did not all give the same artifact."
        for recipe, target in differing(series)
    ]
    if not any(variant.native for variant in series.variants):
        said.append("There is no ratio, as there was no native target (the machine itself) to hold the others against.")
    return said


def machine_line(machine: Mapping[str, Any]) -> str:
    """What the figures were measured on, in one sentence."""
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {log.human_size(machine['memory'])} of memory, "
        f"{machine['system']}, Linux {machine['kernel']}; {machine['jobs']} jobs; {machine['date']}, "
        f"load average {machine['load']} at the start."
    )


def as_json(series: Series) -> dict[str, Any]:
    """Everything: every run, the medians, what failed, and on what machine."""
    return {
        "command": series.command,
        "machine": dict(series.machine),
        "rounds": series.rounds,
        "complete": series.complete,
        "variants": [asdict(variant) for variant in series.variants],
        "runs": [_flat(run) for run in series.runs],
        "figures": [_flat(figure) for figure in figures(series)],
        "failures": [_flat(failure) for failure in series.failures],
        "differing": [{"recipe": recipe, "target": target} for recipe, target in differing(series)],
    }


def _flat(thing: Any) -> dict[str, Any]:
    value = asdict(thing)
    known = value.pop("variant")
    return {"recipe": known["recipe"], "target": known["target"], "variant": known["name"], **value}


def markdown(series: Series) -> str:
    """Tables to be pasted into a document, with the machine and the command that repeats them."""
    table = Table(series)
    many = "one run" if series.rounds == 1 else f"median of {series.rounds} runs (least to most)"
    parts = [f"Seconds of wall time, {many}; *ratio* is to the native target.", table.builds()]
    parts += table.ladders()
    parts += [_escape(text) for text in remarks(series)]
    parts += [f"Measured on: {_escape(machine_line(series.machine))}", f"Repeat it: `{series.command}`"]
    return "\n\n".join(part for part in parts if part) + "\n"


class Table:
    """The tables of a series in Markdown."""

    def __init__(self, series: Series) -> None:
        self.series = series
        self._figures = {(figure.variant, figure.phase): figure for figure in figures(series)}

    def builds(self) -> str:
        """One row a recipe and phase, one column a target and mode; those with a ratio have it beside them."""
        whole = [variant for variant in self.series.variants if variant.rung is None]
        kinds = list(dict.fromkeys((variant.native, variant.target, variant.name) for variant in whole))
        head = ["recipe", "phase"]
        for native, target, name in kinds:
            head += [f"{target} {name}", *([] if native else ["ratio"])]
        lines = []
        for recipe in dict.fromkeys(variant.recipe for variant in whole):
            own = {(known.native, known.target, known.name): known for known in whole if known.recipe == recipe}
            title = self._title(recipe)
            for phase in self._phases(own.values()):
                cells = [title, phase]
                for kind in kinds:
                    cells += self._cells(own[kind], phase)
                lines.append(cells)
                title = ""
        return _table(head, lines, text_columns=2)

    def ladders(self) -> list[str]:
        """One table a recipe and target: which tools run natively, and what it takes then."""
        found = []
        for recipe, target in ladders(self.series):
            steps = climb(self.series, recipe, target)
            phases = self._phases(steps)
            lines = []
            for variant, label in steps.items():
                cells = [self._cells(variant, phase)[0] for phase in phases]
                runs = self.series.of(variant)
                started = str(runs[-1].emulated) if runs and not variant.native else ""
                lines.append([label, *cells, self._ratio(variant), started])
            head = [f"{self._title(recipe)}, {target}", *phases, "ratio", "programs emulated"]
            found.append(_table(head, lines, text_columns=1))
        return found

    def _title(self, recipe: str) -> str:
        version = next((run.version for run in self.series.runs if run.variant.recipe == recipe), "")
        return f"{recipe} {version}".strip()

    def _phases(self, variants: Iterable[Variant]) -> list[str]:
        """In the order in which they run, the total last; that alone where nothing has been measured."""
        longest = max((self._phases_of(variant) for variant in variants), key=len, default=[])
        return longest or [TOTAL]

    def _phases_of(self, variant: Variant) -> list[str]:
        return [phase for known, phase in self._figures if known == variant]

    def _ratio(self, variant: Variant) -> str:
        figure = self._figures.get((variant, TOTAL))
        return _ratio(figure) if figure else ""

    def _cells(self, variant: Variant, phase: str) -> list[str]:
        """The seconds, and the ratio unless the variant is native."""
        figure = self._figures.get((variant, phase))
        if figure is None:
            text = "failed" if self.series.failure(variant) and phase == TOTAL else ""
            return [text] if variant.native else [text, ""]
        seconds = f"{figure.median:.1f}"
        if figure.count > 1:
            seconds += f" ({figure.least:.1f} to {figure.most:.1f})"
        return [seconds] if variant.native else [seconds, _ratio(figure)]


def _ratio(figure: Figure) -> str:
    return "" if figure.ratio is None or figure.variant.native else f"{figure.ratio:.2f}"


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _table(head: Sequence[str], lines: Sequence[Sequence[str]], *, text_columns: int) -> str:
    rule = ["---"] * text_columns + ["---:"] * (len(head) - text_columns)
    return "\n".join(f"| {' | '.join(map(_escape, cells))} |" for cells in (head, rule, *lines))
