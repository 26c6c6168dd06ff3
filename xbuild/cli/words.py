"""A word that may be left out: invoke knows positional arguments only as required ones."""

from __future__ import annotations

from invoke.parser.parser import ParseMachine

_DEFAULTS = {("shell", "recipe"): "bare"}
"""By task and argument: what stands for the word when it is not given."""

_complete_context = ParseMachine.complete_context


def _complete_with_defaults(machine: ParseMachine) -> None:
    # Only here, after all words were seen: an argument that has a value no longer takes a word.
    for argument in machine.context.missing_positional_args if machine.context else ():
        default = _DEFAULTS.get((machine.context.name, argument.name))
        if default is not None:
            argument.set_value(default, cast=False)
    _complete_context(machine)


def allow_missing_words() -> None:
    """Make invoke fill in `_DEFAULTS` where it would complain."""
    ParseMachine.complete_context = _complete_with_defaults
