"""Many sources one after another: those that are done are not done again, and one that fails stops no other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from xbuild.base import log
from xbuild.base.errors import DiskFullError, UsageError, XbuildError
from xbuild.proof.reproduce.run import Wanted, reproduce
from xbuild.proof.reproduce.verdict import Row
from xbuild.store.local import Store


def read_list(file: Path) -> list[str]:
    """The sources in a list: one a line, `#` begins a comment. Raises UsageError if there is none."""
    try:
        text = file.read_text(errors="surrogateescape")
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}", hint="one source a line: NAME, NAME=VERSION, a file") from error
    found = [line.partition("#")[0].strip() for line in text.splitlines()]
    words = list(dict.fromkeys(word for word in found if word))
    if not words:
        raise UsageError(f"{file} names no source", hint="one source a line: NAME, NAME=VERSION, a file")
    return words


def reproduce_all(wanted: Wanted, words: Sequence[str], targets: Sequence[str], store: Store) -> Iterator[Row]:
    """A row for each word and target. If there is one only, raises what building raises; else a row tells of it."""
    alone = len(words) * len(targets) == 1
    for word in words:
        for target in targets:
            one = replace(wanted, word=word, target=target)
            try:
                yield reproduce(one, store)
            except XbuildError as error:
                # Without room every other source would fail as well.
                if alone or isinstance(error, DiskFullError):
                    raise
                log.error(error)
                yield Row(
                    word.partition("=")[0], word.partition("=")[2], target, wanted.mode, failed=error.message,
                    details=error.details, exit_code=error.exit_code,
                )  # fmt: skip
