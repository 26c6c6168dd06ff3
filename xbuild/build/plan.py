"""What has to be done, and why: decided from models and facts alone, with no effect on anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from xbuild.base.digest import key_of
from xbuild.base.errors import UsageError
from xbuild.base.paths import BUILD
from xbuild.base.yamlfile import did_you_mean
from xbuild.build.environment import build_directory, phase_variables, variables
from xbuild.model.phases import IN_SOURCE, UNPACK, Phase
from xbuild.model.recipe import Recipe
from xbuild.model.toolchain import Toolchain
from xbuild.sources import name_of

_OF_ROOT = ("as-root", "keep-owners")
"""Fields of `build` that say nothing where no phase is root's."""


@dataclass(frozen=True)
class Step:
    """A phase, or the unpacking, with the key of all that it depends on, what came before included."""

    name: str
    key: str
    phase: Phase | None = None


@dataclass(frozen=True)
class Done:
    """What a work place says was done there. status: done, failed, stopped (in order), or begun: nobody saw its end."""

    name: str
    key: str
    status: str


@dataclass(frozen=True)
class Facts:
    """What the store holds.

    things: roots, layers and twins that the build needs, by name, and whether each is there. sources: the same for
    files to fetch. done: the record of the work place. artifact: whether the finished artifact is there.
    changes: how its inputs differ from those of the newest artifact of the same recipe, target and mode.
    """

    things: Mapping[str, bool] = field(default_factory=dict)
    sources: Mapping[str, bool] = field(default_factory=dict)
    done: tuple[Done, ...] = ()
    artifact: bool = False
    changes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Action:
    """One thing to do, or not to do, and the reason. `after`: that shows when others have been built."""

    name: str
    verdict: Literal["run", "skip", "resume", "after"]
    reason: str


def artifact_value(
    recipe: Recipe,
    phases: Sequence[Phase],
    toolchain: Toolchain,
    *,
    mode: str,
    patches: Mapping[str, str],
    contents: Mapping[str, Any],
    makers: Mapping[str, Mapping[str, str]],
) -> dict[str, Any]:
    """All inputs of a build: the value whose key the artifact is stored under.

    patches: sha256 by path. contents: all that roots, twins and the mode decide. makers: those files of ours that
    decide about packed bytes, under `layout` (of sources) and `packing`, sha256 by path. Jobs and paths outside are no
    inputs.
    """
    return {
        "recipe": _deciding(recipe),
        "patches": dict(patches),
        "phases": {phase.name: phase.script for phase in phases},
        "environment": variables(recipe, epoch=0),
        "variables": phase_variables(recipe, toolchain, jobs=0),
        "target": toolchain.deciding(),
        "mode": mode,
        "contents": dict(contents),
        "makers": {name: dict(files) for name, files in makers.items()},
    }


def _deciding(recipe: Recipe) -> dict[str, Any]:
    """What of a recipe decides about the bytes that are built. New fields are there only where they say something."""
    unimportant = {"summary", "homepage", "idle_limit", "root", "artifact"} | (set() if recipe.data else {"data"})
    described = recipe.model_dump(mode="json", by_alias=True, exclude=unimportant)
    for source in described["sources"]:
        # The same files at another place give the same.
        source["path"] = None if source["path"] is None else "."
        # As it is in the keys of artifacts that are older than these fields.
        if source["unpack"]:
            del source["unpack"]
    described["depends"] |= {"recipes": []}  # what came of these stands in `contents`
    # The form that a copy has decides about no byte of what was built.
    if recipe.artifact.strip:
        described["strip"] = recipe.artifact.strip
    if not recipe.depends.profiles:
        del described["depends"]["profiles"]
    new = {"incremental": not recipe.build.incremental, **dict.fromkeys(_OF_ROOT, not recipe.build.as_root)}
    described["build"] = {name: value for name, value in described["build"].items() if not new.get(name)}
    return described


def steps(recipe: Recipe, phases: Sequence[Phase], value: Mapping[str, Any]) -> list[Step]:
    """The steps of a build with chained keys: a step's key tells all that it and those before it depend on.

    value: from `artifact_value`.
    """
    shared = {name: value[name] for name in ("environment", "variables", "target", "mode", "contents")}
    sources = [
        source.model_dump(mode="json", include={"sha256", "into", "strip"})
        | ({} if source.unpack else {"laid-as": name_of(source)})
        for source in recipe.sources
    ]
    laid_out = {"sources": sources, "patches": value["patches"], "layout": value["makers"]["layout"]}
    key = key_of({"step": UNPACK, "shared": shared, **laid_out})
    found = [Step(UNPACK, key)]
    for phase in phases:
        whose = {"root": True} if phase.root else {}
        key = key_of({"step": phase.name, "after": key, "script": phase.script, "network": phase.network, **whose})
        found.append(Step(phase.name, key, phase))
    return found


def first_step(wanted: Sequence[Step], done: Sequence[Done], start: str | None) -> tuple[int, str]:
    """The number of the first step to run, and why it is that one; the number of steps if none is left.

    start: the phase that the user wants to begin with (--from). Raises UsageError if there is no such phase, or if
    what comes before it has not been done.
    """
    names = [step.name for step in wanted]
    matching = 0
    while matching < min(len(wanted), len(done)):
        record = done[matching]
        if record.status != "done" or (record.name, record.key) != (names[matching], wanted[matching].key):
            break
        matching += 1
    if start is not None:
        if start not in names:
            raise UsageError(f"no phase {start!r} in this recipe{did_you_mean(start, names)}", hint=", ".join(names))
        if names.index(start) > matching:
            raise UsageError(
                f"cannot start from {start!r}: {names[matching]!r} has not been done yet, or its inputs changed",
                hint="leave out --from, or name an earlier phase",
            )
        return names.index(start), f"--from {start}"
    if not done:
        return 0, "nothing has been done yet"
    later = [record.name for record in done[matching:] if record.status == "done"]
    if later:
        # The tree has already been changed by a phase that is no longer the same.
        return 0, f"inputs of {later[0]!r} changed, so all starts anew"
    if matching == len(wanted):
        return matching, "all phases were done; only checking and packing is left"
    status = done[matching].status if matching < len(done) else "stopped"
    if status == "begun":
        # make takes a file that is newer than what it is made from for a finished one.
        return 0, f"{names[matching]!r} was cut short, and what it left half written might count as finished"
    return matching, f"{names[matching]!r} failed before" if status == "failed" else "it was interrupted here"


def plan(wanted: Sequence[Step], facts: Facts, *, start: str | None = None) -> list[Action]:
    """What to do, in order, with a reason each."""
    actions = [
        Action(name, "skip" if there else "run", "in the store" if there else "not in the store")
        for name, there in (*facts.things.items(), *facts.sources.items())
    ]
    if facts.artifact and start is None:
        return [*actions, *(Action(step.name, "skip", "the artifact is in the store") for step in wanted)]
    first, reason = first_step(wanted, facts.done, start)
    for number, step in enumerate(wanted):
        if number < first:
            actions.append(Action(step.name, "skip", "done before, with the same inputs"))
        elif number == first:
            changed = f"; {facts.changes[0]}" if facts.changes else ""
            actions.append(Action(step.name, "resume" if first else "run", reason + changed))
        else:
            actions.append(Action(step.name, "run", f"{wanted[number - 1].name!r} runs"))
    return [*actions, Action("check outputs", "run", "every ELF file and every output"), Action("pack", "run", "")]


def waiting(wanted: Sequence[str], facts: Facts, recipes: Mapping[str, Sequence[str]]) -> list[Action]:
    """The plan of a build whose key is not known yet. wanted: the names of its steps. facts: of roots and the like.

    recipes: those that it waits for, in order, each with those that its own key waits for.
    """
    things = [
        Action(name, "skip" if there else "run", "in the store" if there else "not in the store")
        for name, there in (*facts.things.items(), *facts.sources.items())
    ]
    built = [
        Action(f"recipe {name}", "after" if before else "run",
               f"known after {', '.join(before)}" if before else "not built as it would be now")
        for name, before in recipes.items()
    ]  # fmt: skip
    reason = f"known after {', '.join(recipes)}"
    return [*things, *built, *(Action(name, "after", reason) for name in (*wanted, "check outputs", "pack"))]


def work_name(recipe: Recipe, toolchain: Toolchain, mode: str, root: str = "") -> str:
    """The name of the work place below the store's `work`, and of its lock. root: of an imported one."""
    return "-".join(
        [recipe.name, toolchain.name, toolchain.distribution.suite, *([f"root-{root}"] if root else []), mode]
    )


def directory_of(recipe: Recipe, step: str) -> str:
    """Where, inside, the script of the step of this name runs."""
    return f"{BUILD}/src" if step in (UNPACK, *IN_SOURCE) else build_directory(recipe)
