"""A machine that sends builds: a project, a store, and blobs that it shares with others."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from xbuild.build.parcel import Parcel, pack
from xbuild.build.prepared import prepared
from xbuild.build.request import Request
from xbuild.build.subject import read
from xbuild.store.local import Store
from xbuild.store.shared.shared import Shared
from xbuild.store.shared.trust import Keys

TINY: dict[str, Any] = {
    "schema": 1,
    "name": "tiny",
    "version": "1.10",
    "summary": "A test",
    "license": "MIT",
    "sources": [{"path": "src"}],
    "build": {"preset": "make", "compile": "echo 'a: b' > c\n", "install": ":"},
    "outputs": [{"path": "usr/share/c"}],
}


class Sender:
    """A machine with a project and a store."""

    def __init__(self, top: Path, blobs: Shared) -> None:
        self.project = top / "home" / "project"
        self.store = Store(top / "home" / "cache" / "xbuild")
        self.blobs = blobs
        self.write("src/README", "nothing\n")
        self.recipe()

    def write(self, name: str | bytes, content: str = "", mode: int = 0o644) -> Path:
        """Write a file of the project."""
        path = self.project / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        path.chmod(mode)
        return path

    def recipe(self, name: str = "tiny", **fields: Any) -> Path:
        """Write a recipe that differs from `TINY` in these fields."""
        return self.write(f"recipes/{name}.yml", yaml.safe_dump({**TINY, "name": name, **fields}, sort_keys=False))

    def pack(self, recipe: str = "tiny", **words: Any) -> Parcel:
        """The parcel of a request with these words."""
        return pack(Request(recipe, **{"target": "armhf", **words}), self.blobs, self.store)

    def key(self, recipe: str = "tiny", **words: Any) -> str:
        """The key of such a request here."""
        return prepared(read(Request(recipe, **{"target": "armhf", **words}), self.store)).key


@pytest.fixture
def sender(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sender:
    """The machine that this process is on."""
    here = Sender(tmp_path / "sender", Shared([str(tmp_path / "blobs")], Keys(tmp_path / "keys")))
    monkeypatch.setenv("HOME", str(tmp_path / "sender" / "home"))
    monkeypatch.setenv("XBUILD_PROJECT", str(here.project))
    return here
