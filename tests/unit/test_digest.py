"""What the store hands out is what was put in, or it is told."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xbuild.base.digest import (
    SUMS,
    damage,
    file_sha256,
    is_file_with,
    json_contents,
    read_json,
    read_sealed,
    sealed,
    write_sums,
)
from xbuild.base.errors import MachineError
from xbuild.build.environment import WorkPlace
from xbuild.build.phases import Progress, StepRecord
from xbuild.session import kept
from xbuild.store.local import Store


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def empty(file: Path) -> None:
    os.truncate(file, 0)


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def remove(file: Path) -> None:
    file.unlink()


def become_a_directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


def become_a_fifo(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def lead_nowhere(file: Path) -> None:
    file.unlink()
    file.symlink_to("nowhere")


def be_no_text(file: Path) -> None:
    file.write_bytes(b"\xff" * 40)


def nest(file: Path) -> None:
    file.write_text("[" * 100_000)


DAMAGES: list[Callable[[Path], None]] = [
    truncate, empty, flip, remove, become_a_directory, become_a_fifo, lead_nowhere, be_no_text, nest,
]  # fmt: skip


@pytest.mark.parametrize("harm", DAMAGES)
def test_each_file_of_a_summed_directory(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    whole = tmp_path / "whole"
    (whole / "logs").mkdir(parents=True)
    names = ["zlib.tar.zst", "zlib.manifest.json", "logs/02-compile.log"]
    for name in names:
        (whole / name).write_text(f"the contents of {name}\n")
    write_sums(whole)
    assert damage(whole) is None
    for name in [*names, SUMS]:
        copy = tmp_path / "copy"
        shutil.copytree(whole, copy)
        harm(copy / name)
        assert damage(copy), name
        shutil.rmtree(copy)


@pytest.mark.parametrize("harm", DAMAGES)
@pytest.mark.parametrize("name", ["twins.json", "key.json", SUMS])
def test_a_damaged_entry_is_made_anew(tmp_path: Path, harm: Callable[[Path], None], name: str) -> None:
    store = Store(tmp_path / "store")
    made: list[int] = []

    def make(staging: Path) -> None:
        (staging / "twins.json").write_text('[{"tool": "sed", "version": "4.9"}]\n')
        (staging / "log").write_text("what was said\n")
        made.append(1)

    entry = store.ensure("twins", "a key", "the twins", make)
    harm(entry / name)
    assert store.ensure("twins", "a key", "the twins", make) == entry
    assert json_contents(entry / "twins.json") == [{"tool": "sed", "version": "4.9"}]
    # Without sums nothing is known to be wrong: an older xbuild wrote none.
    assert len(made) == (1 if (name, harm) == (SUMS, remove) else 2)
    empty(entry / "log")
    assert store.ensure("twins", "a key", "the twins", make) == entry
    assert len(made) <= 2


@pytest.mark.parametrize("harm", [harm for harm in DAMAGES if harm is not flip])
def test_an_entry_without_sums_that_cannot_be_read(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    file = tmp_path / "twins.json"
    file.write_text('[{"tool": "sed"}]\n')
    harm(file)
    with pytest.raises(MachineError, match="is damaged") as caught:
        json_contents(file)
    assert caught.value.hint == f"remove {tmp_path}; it is made anew"


@pytest.mark.parametrize("harm", DAMAGES)
def test_a_damaged_state_file_is_no_state(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    place = WorkPlace(tmp_path)
    progress = Progress(place)
    progress.records, progress.epoch = [StepRecord("unpack", "k", "done", 1.5)], 1_700_000_000
    progress.save()
    assert Progress(place).epoch == 1_700_000_000
    assert Progress(place).records == progress.records
    harm(place.state)
    found = Progress(place)
    assert (found.records, found.epoch, found.resumed) == ([], 0, False)


@given(st.data())
def test_no_changed_byte_is_taken(data: st.DataObject) -> None:
    value = {"records": [{"name": "unpack", "seconds": 1.25}], "epoch": 1_700_000_000}
    text = bytearray(sealed(value).encode())
    at = data.draw(st.integers(0, len(text) - 1))
    text[at] = data.draw(st.integers(0, 255).filter(lambda byte: byte != text[at]))
    file = Path(os.environ.get("TMPDIR", "/tmp")) / f"xbuild-sealed-{os.getpid()}"
    file.write_bytes(text)
    try:
        # White space says nothing.
        assert read_sealed(file) == value
        assert json.loads(text)["value"] == value
    except ValueError:
        pass
    finally:
        file.unlink()


@pytest.mark.parametrize("harm", [harm for harm in DAMAGES if harm is not flip])
def test_a_damaged_kept_system_is_told(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    store = Store(tmp_path)
    folder = store.directory(kept.DIRECTORY) / "mine"
    folder.mkdir()
    (folder / "about.json").write_text("{}\n" * 30)
    harm(folder / "about.json")
    assert kept.all_kept(store) == []


@pytest.mark.parametrize("harm", DAMAGES)
def test_a_damaged_download_is_no_download(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    file = tmp_path / "download"
    file.write_text("the contents\n")
    digest = file_sha256(file)
    assert is_file_with(file, digest)
    harm(file)
    assert not is_file_with(file, digest)


@pytest.mark.parametrize("text", ["", "nonsense", "[" * 100_000, "\x00", '{"a": 1', "1" * 5000])
def test_json_that_is_none(tmp_path: Path, text: str) -> None:
    file = tmp_path / "file.json"
    file.write_text(text)
    with pytest.raises(ValueError):
        read_json(file)


@pytest.mark.parametrize("value", [None, 1, "text", [], {}, {"key": 1}, {"key": "x", "value": 1}, {"value": []}])
def test_what_is_not_sealed(tmp_path: Path, value: Any) -> None:
    file = tmp_path / "file.json"
    file.write_text(json.dumps(value))
    with pytest.raises(ValueError, match="it was changed"):
        read_sealed(file)
