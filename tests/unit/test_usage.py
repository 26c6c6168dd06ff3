from __future__ import annotations

import os
import subprocess
from pathlib import Path

from xbuild.usage import watching


def files(folder: Path, *names: str) -> list[Path]:
    for name in names:
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    return [folder / name for name in names]


def test_what_was_opened_or_run(tmp_path: Path) -> None:
    opened, run, left = files(tmp_path, "opened", "run", "left")
    with watching([opened, run, left]) as watch:
        assert watch.opened() == set()
        opened.read_text()
        assert watch.opened() == {opened}
        subprocess.run([run], check=True)
        opened.read_text()
        left.stat()
        # Each tells once; what was told before is not told again.
        assert watch.opened() == {run}


def test_only_what_happens_inside(tmp_path: Path) -> None:
    (file,) = files(tmp_path, "file")
    file.read_text()
    with watching([file]) as watch:
        assert watch.opened() == set()


def test_odd_names(tmp_path: Path) -> None:
    odd = files(tmp_path, "a b", "ü\n", "[[")
    with watching(odd) as watch:
        for file in odd:
            file.read_text()
        assert watch.opened() == set(odd)


def test_many_at_once(tmp_path: Path) -> None:
    many = files(tmp_path, *map(str, range(300)))
    with watching(many) as watch:
        for _ in range(3):
            for file in many:
                file.read_text()
        assert watch.opened() == set(many)


def test_what_cannot_be_watched_is_left_out(tmp_path: Path) -> None:
    (file,) = files(tmp_path, "file")
    with watching([tmp_path / "absent", file]) as watch:
        file.read_text()
        assert watch.opened() == {file}


def test_nothing_to_watch() -> None:
    with watching([]) as watch:
        assert watch.opened() == set()


def test_the_descriptor_is_closed(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")  # noqa: PTH208
    with watching(files(tmp_path, "file")):
        pass
    assert os.listdir("/proc/self/fd") == before  # noqa: PTH208
