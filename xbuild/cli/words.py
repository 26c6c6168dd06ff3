"""A word that may be left out: invoke knows positional arguments only as required ones."""

from __future__ import annotations

from invoke.parser.context import ParserContext
from invoke.parser.parser import ParseMachine

_DEFAULTS = {("shell", "recipe"): ""}
"""By task and argument: what stands for the word when it is not given."""

_complete_context = ParseMachine.complete_context


def _complete_with_defaults(machine: ParseMachine) -> None:
    # Only here, after all words were seen: an argument that has a value no longer takes a word.
    context: ParserContext | None = machine.context
    for argument in context.missing_positional_args if context is not None else ():
        default = _DEFAULTS.get((context.name or "", argument.name or "")) if context is not None else None
        if default is not None:
            argument.set_value(default, cast=False)
    _complete_context(machine)


def allow_missing_words() -> None:
    """Make invoke fill in `_DEFAULTS` where it would complain."""
    setattr(ParseMachine, "complete_context", _complete_with_defaults)  # noqa: B010
