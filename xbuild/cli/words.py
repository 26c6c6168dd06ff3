"""What our commands take beyond what invoke knows: words that may be left out, or of which there may be many; short
options, help of shared ones.
"""

from __future__ import annotations

from typing import Any

from invoke.parser.context import ParserContext
from invoke.parser.parser import ParseMachine
from invoke.tasks import Task

from xbuild.build.modes.table import DEFAULT, MODES

_DEFAULTS = {
    ("shell", "recipe"): "", ("build", "recipe"): "",
    ("deploy", "recipe"): "", ("init", "directory"): ".", ("reproduce", "source"): "",
    ("wheel", "source"): "", ("cluster.certificates", "directory"): "",
    ("store.push", "entry"): "", ("store.trust", "key"): "", ("bench", "recipe"): "",
}  # fmt: skip
"""By task and argument: what stands for the word when it is not given."""

SHORT = {"target": "t", "jobs": "j", "verbose": "v", "yes": "y"}
"""One-letter options, the same for every command that has the long one."""

_HELP = {
    "mode": ", ".join(
        f"{mode.name} ({mode.summary}{', the default' if mode == DEFAULT else ''})" for mode in MODES.values()
    ),
    "events": "append each step to FILE, as lines of JSON",
    "summary": "append a summary to FILE, in Markdown (default: $GITHUB_STEP_SUMMARY)",
    "store": "shared stores to ask first, with spaces between: a directory, sftp://, https:// or s3://",
    "push": "--no-push: do not write to a shared store",
    "strip": "debug information: true (drop it), false (keep it), debug-package (split it off by build id)",
    "format": "form of the copy in dist/: tar.zst (the default), tar.gz, or dir (a directory)",
    "sbom": "write beside the artifact what went into it, as SPDX 2.3 (JSON)",
    "provenance": "write beside the artifact how it was built, as an in-toto statement (SLSA 1.0)",
}
"""Of options that `guarded` and `handing_over` add, and of what is long to find out."""

_MANY = {"repo": "add", "build": "also", "deb": "also", "bench": "also", "cluster.ssh": "also"}
"""By task: the option that each word after the first is one of, for our own program."""


def further(command: str) -> str | None:
    """The name of the option that further words of `command` are; None if it takes none."""
    return _MANY.get(command)


def default_of(command: str, word: str) -> str | None:
    """What stands for a positional word that may be left out; None for one that must be given."""
    return _DEFAULTS.get((command, word))


_complete_context = ParseMachine.complete_context


def _complete_with_defaults(machine: ParseMachine) -> None:
    # Only here, after all words were seen: an argument that has a value no longer takes a word.
    context: ParserContext | None = machine.context
    for argument in context.missing_positional_args if context is not None else ():
        default = default_of(context.name or "", argument.name or "") if context is not None else None
        if default is not None:
            argument.set_value(default, cast=False)
    _complete_context(machine)


_arg_opts = Task.arg_opts


def _arg_opts_of_ours(task: Task[Any], name: str, default: str, taken_names: set[str]) -> dict[str, Any]:
    options = _arg_opts(task, name, default, taken_names)
    if name in SHORT and SHORT[name] not in taken_names:
        options["names"].append(SHORT[name])
    if name in _HELP:
        options.setdefault("help", _HELP[name])
    return options


def add_short_options() -> None:
    """Make invoke give our commands the options of SHORT."""
    setattr(Task, "arg_opts", _arg_opts_of_ours)  # noqa: B010


def allow_missing_words() -> None:
    """Make invoke fill in `_DEFAULTS` where it would complain."""
    setattr(ParseMachine, "complete_context", _complete_with_defaults)  # noqa: B010
