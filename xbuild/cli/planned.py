"""How a plan is shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xbuild.base import log
from xbuild.build import taught
from xbuild.build.plan import Action, Facts
from xbuild.build.prepared import NotBuiltError, Prepared, prepare
from xbuild.build.request import Request
from xbuild.build.standing import actions, facts, waiting_actions
from xbuild.build.subject import Subject


def plan_json(build: Prepared, present: Facts, **more: Any) -> dict[str, Any]:
    """For --json."""
    return {**_json(build.subject, build.key, actions(build, present)), **more}


def show_plan(build: Prepared, present: Facts) -> None:
    """For people."""
    _show(actions(build, present))
    log.output(f"key: {build.key}")
    for one in taught.of(build.subject) if build.subject.mode.twins else []:
        log.output(f"taught: {one.line()}")


def waiting_json(subject: Subject, error: NotBuiltError, **more: Any) -> dict[str, Any]:
    """As `plan_json`, for a build whose key is not known yet."""
    return {**_json(subject, None, waiting_actions(subject, error)), **more}


def show_waiting(subject: Subject, error: NotBuiltError) -> None:
    """As `show_plan`, for a build whose key is not known yet."""
    _show(waiting_actions(subject, error))
    log.output(f"key: known after {', '.join(error.waiting)}")


def looked_at(request: Request, known: dict[str, Any], *, recipe: bool, json: bool) -> dict[str, Any]:
    """For --recipe the text of a recipe that was made, else the plan; `known` with it, for --json.

    Shown to people, unless `json`.
    """
    if recipe:
        text = Path(request.recipe).read_text(encoding="utf-8")
        if not json:
            log.output_text(text)
        return {**known, "text": text}
    wanted = prepare(request)
    present = facts(wanted)
    if not json:
        show_plan(wanted, present)
    return {**known, **plan_json(wanted, present)}


def _json(subject: Subject, key: str | None, steps: Sequence[Action]) -> dict[str, Any]:
    known = taught.of(subject) if subject.mode.twins else []
    return {"key": key, "plan": [vars(step) for step in steps], "taught": [one.as_json() for one in known]}


def _show(steps: Sequence[Action]) -> None:
    log.table(("step", "", "reason"), [(step.name, step.verdict, step.reason) for step in steps])
