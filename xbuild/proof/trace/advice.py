"""What would make a build faster: which emulated programs would gain most as twins, and which cannot have one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from xbuild.formats.record import Choice
from xbuild.proof.trace.account import Use, file_name
from xbuild.proof.trace.explain import Explanation, Why

SLOWDOWN = 10
"""How much slower a program is under qemu-user than its twin: 8.5 for a compiler, 12 to 14 for starting processes, as
measured for a Debian tool under qemu 7 to 10. The gain of a twin that follows from it is an estimate."""

POSSIBLE = (Why.NO_ENTRY, Why.NO_NATIVE, Why.OPTIONAL, Why.REFUSED, Why.REMOVED, Why.OUTDATED)
"""Reasons that somebody can do something about."""

Explainer = Callable[[str, Choice], Explanation]
"""Explains the exec of a real path that the record tells a verdict of."""


@dataclass
class Advice:
    """Emulated programs that have a reason in common. seconds: CPU. packages: that own them.

    programs: how often they were started, by the names that reports have for them. files: their files' names.
    """

    explanation: Explanation
    packages: set[str] = field(default_factory=set)
    programs: Counter[str] = field(default_factory=Counter)
    files: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def possible(self) -> bool:
        """Whether these programs could have twins."""
        return self.explanation.why in POSSIBLE

    @property
    def gain(self) -> float:
        """Estimated CPU seconds that twins would save."""
        return self.seconds * (1 - 1 / SLOWDOWN)


def reasons(use: Use, explain: Explainer) -> Counter[Why]:
    """How often a program was emulated for which reason."""
    found: Counter[Why] = Counter()
    for (path, verdict), count in use.verdicts.items():
        found[explain(path, verdict).why] += count
    return found


def advise(uses: Sequence[Use], explain: Explainer, package_of: Callable[[str], str | None]) -> list[Advice]:
    """The emulated ones of `uses` by reason, those first that cost most.

    A program that was emulated for several reasons is counted for each by its part of the execs.
    """
    found: dict[Explanation, Advice] = {}
    for use in uses:
        for (path, verdict), count in use.verdicts.items():
            if use.native:
                continue
            explanation = explain(path, verdict)
            advice = found.setdefault(explanation, Advice(explanation))
            advice.programs[use.name] += count
            advice.files[use.name] = file_name(path)
            advice.seconds += use.seconds * count / use.execs
            advice.packages |= {package} if (package := package_of(path)) else set()
    return sorted(found.values(), key=lambda advice: (-advice.seconds, -advice.programs.total()))
