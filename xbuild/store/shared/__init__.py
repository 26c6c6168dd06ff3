"""A store that several machines share, and that none of them need trust: blobs by sha256, and signed records by key."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xbuild.store.local import Store

VARIABLE = "XBUILD_STORE"
"""Addresses of shared stores, separated by white space."""
NO_PUSH = "XBUILD_NO_PUSH"
"""Not empty: nothing is written to them."""


def named() -> tuple[str, ...]:
    """The addresses in the variable."""
    return tuple(os.environ.get(VARIABLE, "").split())


def choose(store: str = "", *, push: bool = True) -> None:
    """For this command and all that it starts: the addresses `store`, if there are any, and whether to write there."""
    if store:
        os.environ[VARIABLE] = store
    if not push:
        os.environ[NO_PUSH] = "1"


def opened(root: Path, remove_tree: Callable[[Path], None], record: Callable[[Path], None]) -> Store:
    """The store below `root`, which asks the shared ones that are named, if any are. Raises UsageError."""
    # Only here: each command reads its options by this module, and few know a shared store.
    if not (urls := named()):
        from xbuild.store.local import Store

        return Store(root, remove_tree, record)
    from xbuild.store.shared.entries import SharingStore
    from xbuild.store.shared.shared import Shared

    return SharingStore(root, remove_tree, record, Shared(urls, push=not os.environ.get(NO_PUSH)))
