"""Named systems in the store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from xbuild.base.errors import MachineError, UsageError
from xbuild.session import kept
from xbuild.store.local import Store

STATUS = """Package: dash
Status: install ok installed
Version: 1

Package: sed
Essential: yes
Status: {}
Version: 1
"""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    # Giving files away takes a namespace.
    monkeypatch.setattr(kept, "give_tree", lambda *_, **__: None)
    return Store(tmp_path / "store")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "roots/0123/root"
    (path / "var/lib/dpkg").mkdir(parents=True)
    (path / "var/lib/dpkg/status").write_text(STATUS.format("install ok installed"))
    return path


def test_one_is_made_found_and_removed(store: Store, base: Path) -> None:
    assert kept.all_kept(store) == []
    with kept.opened(store, "tools", "armhf", "trixie", base) as known:
        (known.upper / "file").touch()
        assert (known.name, known.root) == ("tools", "0123")
    with kept.opened(store, "tools", "armhf", "trixie", base) as again:
        assert (again.upper / "file").exists()
        assert again.created == known.created
    assert [found.as_json() for found in kept.all_kept(store)] == [again.as_json()]
    assert set(again.as_json()) == {"name", "path", "target", "suite", "created", "used"}
    kept.remove(store, "tools")
    assert kept.all_kept(store) == []
    assert list((store.root / "tmp").iterdir()) == []


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "A", "-x", "a b", "a" * 65, "ä"])
def test_names(store: Store, base: Path, name: str) -> None:
    with pytest.raises(UsageError, match="is no name"), kept.opened(store, name, "armhf", "trixie", base):
        pass
    with pytest.raises(UsageError, match="is no name"):
        kept.remove(store, name)


def test_one_at_a_time(store: Store, base: Path) -> None:
    with kept.opened(store, "tools", "armhf", "trixie", base):
        with pytest.raises(MachineError, match="another xbuild"), kept.opened(store, "tools", "armhf", "trixie", base):
            pass
        looking = kept.read_only(store, "tools", "armhf", "trixie", base)
        with pytest.raises(MachineError, match="another xbuild"), looking:
            pass
        with pytest.raises(MachineError, match="another xbuild"):
            kept.remove(store, "tools")
    with kept.read_only(store, "tools", "armhf", "trixie", base), kept.read_only(
        store, "tools", "armhf", "trixie", base
    ) as known:
        assert known.name == "tools"


def test_another_root(store: Store, base: Path) -> None:
    with kept.opened(store, "tools", "armhf", "trixie", base):
        pass
    with pytest.raises(UsageError, match="not of arm64"), kept.opened(store, "tools", "arm64", "trixie", base):
        pass
    with pytest.raises(UsageError, match="forky"), kept.opened(store, "tools", "armhf", "forky", base):
        pass
    (base / "var/lib/dpkg/status").write_text(STATUS.format("install ok installed").replace("1", "2"))
    with pytest.raises(MachineError, match="no longer fit"), kept.opened(store, "tools", "armhf", "trixie", base):
        pass


def test_what_is_not_there(store: Store, base: Path) -> None:
    with pytest.raises(UsageError) as caught, kept.read_only(store, "tools", "armhf", "trixie", base):
        pass
    assert "shell --keep" in str(caught.value.hint)
    with kept.opened(store, "tools", "armhf", "trixie", base):
        pass
    with pytest.raises(UsageError, match="did you mean 'tools'"):
        kept.remove(store, "tool")


def test_a_damaged_one_is_not_written_over(store: Store, base: Path) -> None:
    with kept.opened(store, "tools", "armhf", "trixie", base) as known:
        pass
    (known.path / "about.json").write_text(json.dumps({"target": "armhf"}))
    with pytest.raises(MachineError, match="damaged"), kept.opened(store, "tools", "armhf", "trixie", base):
        pass
    assert known.upper.is_dir()


@pytest.mark.parametrize(
    ("status", "told"),
    [
        ("install ok installed", False),
        ("deinstall ok config-files", False),
        ("install ok half-configured", True),
        ("install reinstreq half-installed", True),
        ("install ok unpacked", True),
        ("install ok triggers-awaited", True),
    ],
)
def test_what_was_not_finished_is_told(
    store: Store, base: Path, status: str, told: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with kept.opened(store, "tools", "armhf", "trixie", base) as known:
        own = known.upper / "var/lib/dpkg/status"
        own.parent.mkdir(parents=True)
        own.write_text(STATUS.format(status))
    with kept.opened(store, "tools", "armhf", "trixie", base):
        pass
    assert ("installed: sed;" in capsys.readouterr().err) == told


def test_a_journal_of_dpkg_is_told(store: Store, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with kept.opened(store, "tools", "armhf", "trixie", base) as known:
        (known.upper / "var/lib/dpkg/updates").mkdir(parents=True)
        (known.upper / "var/lib/dpkg/updates/0001").touch()
    assert "journal" not in capsys.readouterr().err
    with kept.opened(store, "tools", "armhf", "trixie", base):
        assert "dpkg has a journal" in capsys.readouterr().err
