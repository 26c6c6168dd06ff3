"""The store of the user who runs xbuild."""

from __future__ import annotations

from xbuild.base import paths
from xbuild.sandbox.run import remove_tree
from xbuild.store.carry import record
from xbuild.store.local import Store
from xbuild.store.shared import opened


def open_store() -> Store:
    """The user's store, which removes trees of subordinate users too; closed to all others. Behind it the shared ones
    that XBUILD_STORE names.

    Raises MachineError if another user could have a hand in it.
    """
    store = opened(paths.cache(), remove_tree, record)
    store.secure(paths.named_cache())
    return store
