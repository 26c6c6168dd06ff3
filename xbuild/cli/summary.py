"""What came of a command as Markdown, for the page that a CI shows: --summary FILE, and $GITHUB_STEP_SUMMARY."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from xbuild.base.errors import UsageError
from xbuild.base.text import clean, human_size, human_time, one_line

VARIABLE = "GITHUB_STEP_SUMMARY"
"""Names the file, https://docs.github.com/actions/reference/workflow-commands-for-github-actions."""

_LOOKED = ("plan",)
"""Of values that have one of these, nothing was made: only --summary asks for a page of it."""
_TITLES = ("recipe", "title", "of", "name", "file")
_KEPT = ("target", "mode", "artifact", "sha256", "manifest")
"""What a page tells as it is."""


def write(command: str, value: Mapping[str, Any], file: Path | None) -> None:
    """Add what came of `command` to `file`, or else to the file of VARIABLE if it is set.

    value: as `log.finish` gives it. Raises UsageError if the file cannot be written.
    """
    named = os.environ.get(VARIABLE)
    if file is None and named and not any(word in value for word in _LOOKED):
        file = Path(named)
    if file is None:
        return
    try:
        with file.open("a", encoding="utf-8", errors="backslashreplace") as page:
            builds = value.get("builds") or [{}]
            many = all("title" in one for one in builds)
            for text in [_of_many(command, value)] if many else (markdown(command, {**value, **one}) for one in builds):
                page.write(text)
    except OSError as error:
        raise UsageError(f"{file}: cannot be written: {error.strerror}", hint="name another file: --summary") from error


def markdown(command: str, value: Mapping[str, Any]) -> str:
    """The page: a heading, what there is to know, how long it took; of a failure its words."""
    title = " ".join(str(value[name]) for name in (*_TITLES, "version") if isinstance(value.get(name), str))
    lines = [f"### xbuild {command}{f': {_text(title)}' if title else ''}: {value['status']}", ""]
    rows = [(name, f"`{_code(str(value[name]))}`") for name in _KEPT if value.get(name)]
    rows += [("size", human_size(value["bytes"]))] if isinstance(value.get("bytes"), int) else []
    parts = value.get("parts") or value.get("phases") or ()
    rows += [(_text(part["name"]), human_time(part["seconds"])) for part in parts if part.get("seconds") is not None]
    lines += [*_table(("", ""), rows), *_modes(value.get("modes") or ())]
    lines += [f"- warning: {_text(warning)}" for warning in value.get("warnings") or ()]
    lines += _failure(value["error"]) if value.get("error") else []
    return "\n".join(lines).rstrip() + "\n\n"


def _of_many(command: str, value: Mapping[str, Any]) -> str:
    """The page of a run: a table, and the words of what failed."""
    builds = value["builds"]
    lines = [f"### xbuild {command}: {len(builds)} builds: {value['status']}", ""]
    rows = [
        (_text(one["title"]), one["status"], human_time(one["seconds"]) if one["seconds"] else "",
         _text(f"{one['because']} failed" if one.get("because") else one["reason"]))
        for one in builds
    ]  # fmt: skip
    lines += _table(("", "", "time", "why"), [*rows, ("", "", human_time(value["seconds"]), "")])
    lines += [f"- warning: {_text(warning)}" for warning in value.get("warnings") or ()]
    for one in builds:
        fault = one.get("error")
        lines += _failure({**fault, "message": f"{one['title']}: {fault['message']}"}) if fault else []
    return "\n".join(lines).rstrip() + "\n\n"


def _modes(modes: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    rows = [
        (f"{mode['mode']}", str(mode["status"]), human_time(mode["seconds"]), human_size(mode["bytes"] or 0))
        for mode in modes
        if {"mode", "status", "seconds", "bytes"} <= mode.keys()
    ]
    yield from _table(("mode", "", "time", "size"), rows)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return []
    lines = [columns, ["---"] * len(columns), *rows]
    return [*(f"| {' | '.join(line)} |" for line in lines), ""]


def _failure(error: Mapping[str, Any]) -> Iterator[str]:
    yield f"**{_text(error['message'])}**"
    yield ""
    if error["details"]:
        text = clean("\n".join(error["details"]))
        # A fence that no line of the text can end.
        fence = "`" * max(3, *(len(run) + 1 for run in _runs(text)))
        yield from (fence, *text.split("\n"), fence, "")
    if error["hint"]:
        yield f"{_text(error['hint'])}"


def _runs(text: str) -> list[str]:
    words = "".join(letter if letter == "`" else " " for letter in text).split()
    return words or ["``"]


def _text(text: str) -> str:
    """`text` as it stands, whatever Markdown or HTML would make of it."""
    return "".join(f"\\{letter}" if letter in "\\*_[]<>|#&~" else letter for letter in one_line(text))


def _code(text: str) -> str:
    return one_line(text).replace("`", "'").replace("|", "\\|")
