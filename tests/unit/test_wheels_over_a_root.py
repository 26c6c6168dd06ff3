"""Wheels of recipes that another one needs: where their files come to in a root."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from xbuild.base.errors import UsageError
from xbuild.formats.wheel import WheelError
from xbuild.roots.wheelfiles import KEPT, MODULES, lay_out

INFORMATION = "own_thing-1.dist-info"
PLAIN = {
    "own_thing/__init__.py": "def main():\n    print('42')\n",
    f"{INFORMATION}/METADATA": "Metadata-Version: 2.1\nName: own-thing\nVersion: 1\n",
    f"{INFORMATION}/WHEEL": "Wheel-Version: 1.0\nTag: py3-none-any\n",
    f"{INFORMATION}/RECORD": "",
}


def wheel(folder: Path, files: dict[str, str], *, executable: str = "") -> Path:
    file = folder / "own_thing-1-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in (PLAIN | files).items():
            info = zipfile.ZipInfo(name, (2026, 1, 2, 3, 4, 6))
            info.external_attr = (0o100755 if name == executable else 0o100600) << 16
            archive.writestr(info, text)
    return file


def test_modules_programs_data_and_headers(tmp_path: Path) -> None:
    files = {
        "own_thing/_fast.so": "code",
        "own_thing-1.data/scripts/tool": "#!python\nprint('tool')\n",
        "own_thing-1.data/scripts/plain": "#!/bin/sh\n",
        "own_thing-1.data/data/share/own/file": "file",
        "own_thing-1.data/headers/own.h": "int own;\n",
        "own_thing-1.data/platlib/other.py": "",
        f"{INFORMATION}/entry_points.txt": "[console_scripts]\nown = own_thing:main\n[other]\nx = y\n",
    }
    lay_out(wheel(tmp_path, files, executable="own_thing/_fast.so"), root := tmp_path / "root")
    there = {str(path.relative_to(root)): path for path in root.rglob("*") if path.is_file()}
    names = ("WHEEL", "METADATA", "RECORD", "entry_points.txt")
    assert set(there) == {
        *(f"{MODULES}/{INFORMATION}/{name}" for name in names),
        *(f"{MODULES}/{name}" for name in ("own_thing/__init__.py", "own_thing/_fast.so", "other.py")),
        *(f"usr/bin/{name}" for name in ("tool", "plain", "own")),
        "usr/share/own/file",
        "usr/include/own_thing/own.h",
        f"{KEPT}/own_thing-1-py3-none-any.whl",
    }
    assert there["usr/bin/tool"].read_text() == "#!/usr/bin/python3\nprint('tool')\n"
    assert there["usr/bin/plain"].read_text() == "#!/bin/sh\n"
    modes = {name: path.stat().st_mode & 0o777 for name, path in there.items() if not name.startswith(KEPT)}
    executable = {"usr/bin/tool", "usr/bin/plain", "usr/bin/own", f"{MODULES}/own_thing/_fast.so"}
    assert {name for name, mode in modes.items() if mode == 0o755} == executable
    assert set(modes.values()) == {0o755, 0o644}
    # As the wheel has it, whenever it is laid out.
    assert {path.stat().st_mtime for name, path in there.items() if not name.startswith(KEPT)} == {1767323046}
    env = {"PYTHONPATH": str(root / MODULES)}
    said = subprocess.run([sys.executable, there["usr/bin/own"]], env=env, capture_output=True, check=True).stdout
    assert said == b"42\n"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"own_thing-1.data/nowhere/x": ""}, "nowhere/x belongs nowhere"),
        ({"own_thing-1.data/purelib/own_thing/__init__.py": ""}, "two files of it, or of wheels beside it"),
        ({f"{INFORMATION}/entry_points.txt": "[console_scripts]\nx = ../../y\n"}, r"x = \.\./\.\./y is no program"),
        ({f"{INFORMATION}/entry_points.txt": "[console_scripts]\n../x = y:z\n"}, "is no program"),
        ({f"{INFORMATION}/entry_points.txt": "own = y:z\n"}, "entry_points.txt: File contains no section headers"),
    ],
)
def test_what_cannot_be_laid_out_is_told(tmp_path: Path, files: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        lay_out(wheel(tmp_path, files), tmp_path / "root")


@pytest.mark.parametrize("way", ["..", "own_thing-1.data/purelib/{}", "own_thing-1.data/headers/{}", "own_thing//{}"])
def test_a_member_outside_is_refused(tmp_path: Path, way: str) -> None:
    with pytest.raises(WheelError, match="where no member may be"):
        lay_out(wheel(tmp_path, {f"{way.format(tmp_path)}/outside": ""}), tmp_path / "root")
    assert not (tmp_path / "outside").exists()
