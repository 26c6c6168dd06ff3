"""One of our commands for several things: as a command for each, at once if that is wanted."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from xbuild.base import log, paths
from xbuild.base.errors import EXIT_BUG, UsageError
from xbuild.cli.arguments import names, number
from xbuild.cli.many import Many, run_all
from xbuild.cli.several import JUNIT, PAGE
from xbuild.doctor import require
from xbuild.graph.builds import names_of
from xbuild.graph.crew import Order
from xbuild.graph.display import COLUMNS, rows
from xbuild.graph.past import past
from xbuild.graph.run import Ended, Run
from xbuild.graph.scheduler import Task
from xbuild.model.load import load_toolchain
from xbuild.proof.reproduce.run import Wanted
from xbuild.proof.reproduce.verdict import Row
from xbuild.store.local import Store
from xbuild.store.own import open_store


def reproduce_together(
    wanted: Wanted, words: Sequence[str], targets: Sequence[str], many: Many, store: Store,
    told: Callable[[Sequence[Row]], dict[str, Any]],
) -> list[Row]:  # fmt: skip
    """As `reproduce_all`, several at once. told: what programs are told of the rows."""
    asked = [replace(wanted, word=word, target=target) for word in words for target in targets]
    titles = [f"{one.word} for {one.target}" if one.target else one.word for one in asked]
    todo = [
        Order(Task(name, (), before.seconds, before.memory), title, _words_of(one, many.budget))
        for one, title, name in zip(asked, titles, names_of(titles), strict=True)
        for before in [past(store, many.what, title)]
    ]

    def rows_of(run: Run) -> list[Row]:
        return [_row(run.ended[order.task.name], one) for order, one in zip(todo, asked, strict=True)]

    found: list[Row] = []

    def value(run: Run) -> dict[str, Any]:
        found.extend(rows_of(run))
        return told(found)

    run_all(todo, many, store, value)
    return found


def _words_of(wanted: Wanted, jobs: int) -> tuple[str, ...]:
    options = wanted.options
    kinds = {"any": ["--any"], "all": ["--all"], "both": ["--any", "--all"]}[options.build]
    flags = {
        "--emulated": wanted.emulated, "--no-native": not wanted.native, "--nocheck": bool(options.build_options),
    }  # fmt: skip
    named = {"--target": wanted.target, "--suite": wanted.suite, "--snapshot": wanted.snapshot}
    words = ["reproduce", wanted.word, "--mode", wanted.mode, "--jobs", str(jobs), *kinds]
    words += [word for word, given in flags.items() if given]
    return (*words, *(text for word, given in named.items() if given for text in (word, given)))


def _row(ended: Ended, wanted: Wanted) -> Row:
    """The row that a command has told; one that says why it has none."""
    for row in ended.value.get("rows") or ():
        return Row.read(row)
    error = ended.value.get("error") or {"message": ended.status}
    name, _, version = wanted.word.partition("=")
    return Row(
        name, version, wanted.target, wanted.mode, failed=error["message"], details=tuple(error.get("details", ())),
        exit_code=ended.code if ended.code > 0 else EXIT_BUG,
    )  # fmt: skip


_ADDED: Mapping[str, Any] = {"also": None, "at_once": "", "junit": "", "page": ""}
"""The options that `several` adds, with their defaults."""
_ONE_ONLY = ("plan", "recipe", "from_", "output")
"""Options that say something about one thing only."""
SEVERAL = {
    "also": "one more package", "at-once": "packages at once (default: one)",
    "junit": JUNIT, "page": PAGE,
}  # fmt: skip
"""Help of what `several` adds."""


@dataclass(frozen=True)
class Link:
    """What one of several needs of the others. needs: their numbers; words: further ones of its command; by: for each
    of `needs` what it is needed for, nothing if only another one needs it.
    """

    needs: tuple[int, ...] = ()
    words: tuple[str, ...] = ()
    by: tuple[str, ...] = ()


Plan = Callable[[Mapping[str, Any], Sequence[tuple[str, str]], Sequence["Link"]], None]
"""Tells what would be done: of the values of the command line, the pairs of word and target, and what links them."""

Links = Callable[[Mapping[str, Any], Sequence[tuple[str, str]]], Sequence[Link]]
"""Gives one for each pair of a word and a target. Called with the values of the command line, and the pairs."""


def several(
    what: str, first: str, one: str, links: Links = lambda _, pairs: [Link()] * len(pairs), plan: Plan | None = None
) -> Callable[[Callable[..., int | None]], Callable[..., int | None]]:
    """Make a command for one thing take several: there is a process for each and for each target then.

    what: they, in the plural. first: the parameter that names one; one: the field of the object with what came of it.
    plan: what --plan tells of several, if it can.
    """

    def of(task: Callable[..., int | None]) -> Callable[..., int | None]:
        signature = inspect.signature(task)

        @functools.wraps(task)
        def wrapper(*args: Any, **given: Any) -> int | None:
            added = {name: given.pop(name, default) for name, default in _ADDED.items()}
            if not any(added.values()):
                return task(*args, **given)
            known = signature.bind(*args, **given)
            known.apply_defaults()
            values = dict(known.arguments)
            single = [name for name in _ONE_ONLY if name != "plan" or plan is None]
            if wrong := next((name for name in single if values.get(name)), None):
                raise UsageError(f"--{wrong.strip('_')} is not for several {what}", hint="name one of them")
            words = [values[first], *(added["also"] or ())]
            log.configure(json=values["json"], verbose=int(values["verbose"]))
            number("--at-once", added["at_once"])
            if plan is not None and values.get("plan"):
                pairs = _pairs(words, names("--target", values["target"]))
                plan(values, pairs, links(values, pairs))
            else:
                _run_several(_Asked(task.__name__, what, first, one, links), words, values, added)
            return None

        only = inspect.Parameter.KEYWORD_ONLY
        more = [inspect.Parameter(name, only, default=value) for name, value in _ADDED.items()]
        taken = [*signature.parameters.values(), *more]
        wrapper.__signature__ = signature.replace(parameters=taken)  # type: ignore[attr-defined]
        return wrapper

    return of


@dataclass(frozen=True)
class _Asked:
    """A command that takes several; the rest as of `several`."""

    command: str
    what: str
    first: str
    one: str
    links: Links


def _pairs(words: Sequence[str], targets: Sequence[str]) -> list[tuple[str, str]]:
    return [(word, target) for word in dict.fromkeys(words) for target in targets]


def _run_several(
    asked: _Asked, words: Sequence[str], values: Mapping[str, Any], added: Mapping[str, Any]
) -> None:
    targets, store = names("--target", values["target"]), open_store()
    require(native=min(load_toolchain(name, paths.project()).native for name in targets), assume_yes=values["yes"])
    jobs, at_once = number("--jobs", values["jobs"]), number("--at-once", added["at_once"]) or 1
    many = Many(asked.what, jobs, at_once, True, added["junit"], added["page"])
    pairs = _pairs(words, targets)
    orders = _orders(asked, pairs, values, many, store)

    def value(run: Run) -> dict[str, Any]:
        return {asked.one: [part for ended in run.all for part in ended.value.get(asked.one) or ()]}

    all_ended, error = run_all(orders, many, store, value)
    if not values["json"]:
        log.table(COLUMNS, rows(all_ended))
    if error is not None:
        raise error


def _orders(
    asked: _Asked, pairs: Sequence[tuple[str, str]], values: Mapping[str, Any], many: Many, store: Store
) -> list[Order]:
    without = ("_c", asked.first, "target", "jobs", "json")
    told = words_of({name: value for name, value in values.items() if name not in without})
    titles = [f"{word} for {target}" for word, target in pairs]
    names, orders = names_of(titles), []
    for (word, target), title, name, link in zip(pairs, titles, names, asked.links(values, pairs), strict=True):
        before = past(store, asked.what, title)
        task = Task(name, tuple(names[need] for need in link.needs), before.seconds, before.memory)
        command = (asked.command, word, "--target", target, "--jobs", str(many.budget), *told, *link.words)
        orders.append(Order(task, title, command))
    return orders


def words_of(values: Mapping[str, Any]) -> list[str]:
    """The options of a command line that give these parameters their values; none for what is empty."""
    words: list[str] = []
    for name, value in values.items():
        option = f"--{name.strip('_').replace('_', '-')}"
        if isinstance(value, bool):
            words += [option] if value else []
        else:
            listed = [value] if isinstance(value, str) else value or ()
            # A value that looks like an option is parted from it by "=".
            for text in filter(None, map(str, listed)):
                words += [f"{option}={text}"] if text.startswith("-") else [option, text]
    return words
