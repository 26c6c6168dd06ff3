"""Entries of the store that the command line names."""

from __future__ import annotations

from collections.abc import Sequence

from xbuild.base.errors import UsageError
from xbuild.base.yamlfile import did_you_mean
from xbuild.store.local import KINDS, Store


def kinds_of(word: str, known: Sequence[str] = KINDS) -> tuple[str, ...]:
    """The kinds of entries, of those that are `known`, that --kind names; all if it names none. Raises UsageError."""
    if word and word not in known:
        raise UsageError(f"unknown kind {word!r}{did_you_mean(word, known)}", hint=f"kinds: {', '.join(known)}")
    return (word,) if word else tuple(known)


def chosen_by(store: Store, words: str) -> list[tuple[str, str]]:
    """Kind and key of the entries that `words` name, separated by commas. Raises UsageError."""
    return [found for word in words.split(",") for found in _named(store, word.strip())]


def _named(store: Store, word: str) -> list[tuple[str, str]]:
    """Kind and key of the entries that `word` names: KIND, KIND/NAME or NAME, of which the beginning is enough."""
    kind, _, name = word.rpartition("/") if "/" in word else ("", "", word)
    if word in KINDS:
        kind, name = word, ""
    if kind:
        kinds_of(kind)
    kinds = (kind,) if kind else KINDS
    found = [(one, key) for one in kinds for _, key, _ in store.finished(one) if key.startswith(name)]
    if not found or (len(found) > 1 and word not in KINDS):
        what = "is the beginning of several entries" if found else "is no entry of the store"
        raise UsageError(f"{word!r} {what}", hint="`invoke store.ls` shows what there is")
    return found
