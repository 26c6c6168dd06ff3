"""The rules that a policy gives for tools, and by which the dispatcher chooses at each exec: a field is a rule.

All of Python follows from the fields, in their order: what a policy may say (model/policy.py), how it is put together
for one program (`together`), the table (dispatcher/table.py), keys, what `why --exec` tells. So a new rule is a field
here, one of the same name in `struct rules` of dispatcher/table.h, and what dispatcher.c does by it, or, in a twin that
runs, late.h.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from xbuild.model.base import Model, VariableName, text_like

Word = Annotated[str, *text_like(r"[^\0]+", "text that is not empty, without NUL")]
"""The table ends a list of words by an empty one."""

Value = Annotated[str, *text_like(r"[^\0]*", "text without NUL")]


@dataclass(frozen=True)
class Told:
    """How `why --exec` begins to tell of a rule; its words follow."""

    start: str


class Rules(Model):
    """When another program than the twin runs, and what the twin gets besides.

    A tuple becomes a list of the table, a mapping a list of NAME=VALUE. In all texts `{triplet}`, `{version}` and the
    names of `identity` are filled in.
    """

    set_env: Annotated[dict[VariableName, Value], Told("gets the variables")] = Field(
        default_factory=dict, description="Variables it always gets"
    )
    add_args: Annotated[tuple[Word, ...], Told("gets, before its own, the arguments")] = Field(
        (), description="Arguments that the twin gets before the others; no pattern is held against them"
    )
    add_args_unless: Annotated[tuple[Word, ...], Told("but not with one of the arguments")] = Field(
        (), description="Arguments (`*`: any text) with which the twin gets none of `add-args`"
    )
    emulate_args: Annotated[tuple[Word, ...], Told("emulated with one of the arguments")] = Field(
        (), description="Arguments (`*`: any text) that ask for the target's own program"
    )
    text_args: Annotated[tuple[Word, ...], Told("whatever stands in the arguments")] = Field(
        (), description="Arguments (`*`: any text) that the tool takes as text, so that no `emulate-args` is held "
        "against them, nor against the next word if `value-options` has the argument"
    )
    value_options: Annotated[tuple[Word, ...], Told("whose options with a value in the next word are")] = Field(
        (), description="Options (`*`: any text) that take the next word with them, for the rules about options"
    )
    emulate_options: Annotated[
        tuple[Word, ...], Told("emulated with one of the arguments before the first that is no option")
    ] = Field(
        (), description="As `emulate-args`, where all words but options belong to what the tool runs (`perl FILE -V`)"
    )
    script_options: Annotated[
        tuple[Word, ...], Told("emulated unless one of its `scripts` is the first argument behind any of")
    ] = Field(
        (), description="Options (`*`: any text) before a script; another one, or a script that is none of `scripts`, "
        "asks for the target's own program"
    )
    script_words: Annotated[tuple[Word, ...], Told("or unless there stands one of")] = Field(
        (), description="What may be in the place of that script: one word, or several with a blank between"
    )
    emulate_without: Annotated[tuple[Word, ...], Told("emulated without any of the arguments")] = Field(
        (), description="Arguments (`*`: any text) of which one must be there, or the target's own program runs"
    )
    linker_words: Annotated[
        tuple[Word, ...], Told("emulated with another option in -Wl, or after -Xlinker than")
    ] = Field(
        (), description="Options in -Wl, and after -Xlinker, with one dash (`*`: any text); others ask for the target's"
    )
    emulate_env: Annotated[tuple[Word, ...], Told("emulated with one of the variables")] = Field(
        (), description="Variables that ask for the target's own; `X=`: not empty"
    )
    target_width_args: tuple[Word, ...] = Field(
        (), description="Arguments (`*`: any text) that ask for the twin of the target's width"
    )

    cache_args: Annotated[tuple[Word, ...], Told("may be answered by a cache with one of the arguments")] = Field(
        (), description="Arguments (`*`: any text) of which one must be there for the tool's `cache` to answer"
    )
    cache_unless: Annotated[tuple[Word, ...], Told("but not with one of the arguments or variables")] = Field(
        (), description="Arguments, and variables as NAME=VALUE (`*`: any text), with which it does not"
    )
    caches: Annotated[tuple[Word, ...], Told("keeps, if it begins again emulated, what it wrote into")] = Field(
        (),
        description="Files and directories (`*`: any text) that it keeps for later runs of itself, with the same bytes "
        "whoever writes them: made under another name (O_EXCL) and renamed",
    )

    def lists(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Each rule's name and its words; variables as NAME=VALUE in the order of their names."""
        for name in Rules.model_fields:
            words = getattr(self, name)
            if isinstance(words, dict):
                words = tuple(f"{key}={value}" for key, value in sorted(words.items()))
            yield name, words

    def told(self) -> Iterator[str]:
        """What the rules say, one line a rule that says something."""
        for name, words in self.lists():
            starts = [known.start for known in Rules.model_fields[name].metadata if isinstance(known, Told)]
            yield from (f"{start} {' '.join(words)}" for start in starts if words)


def together(parts: Sequence[Rules], fill: Callable[[str], str]) -> Rules:
    """The rules of all `parts`, one behind the other, each text as `fill` gives it.

    Words that become empty are left out. Of a variable that several set, the last one's value counts.
    """
    values: dict[str, Any] = {}
    for name in Rules.model_fields:
        given = [getattr(part, name) for part in parts]
        if isinstance(given[0], dict):
            values[name] = {key: fill(value) for mapping in given for key, value in mapping.items()}
        else:
            values[name] = tuple(filter(None, (fill(word) for words in given for word in words)))
    return Rules(**values)
