"""Wheels as they are in a root where they were installed: Debian's directories for Python, and programs in /usr/bin.

Done by this module, not by pip: the root need not have it, and nothing of the wheel runs. It decides what a build sees,
so it is in the keys of builds that need recipes.
"""

from __future__ import annotations

import configparser
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Final

from xbuild.base.errors import UsageError
from xbuild.formats.wheel import Wheel, opened

MODULES: Final = "usr/lib/python3/dist-packages"
"""Where Debian's python looks for modules of packages, whatever its version (Debian Python Policy, 2.5)."""
KEPT: Final = "usr/share/xbuild/wheels/build"
"""Where the wheel itself lies, for the preset `wheel`: a build backend sees its requirements, and no root's modules."""

_SCHEME: Final = {"purelib": MODULES, "platlib": MODULES, "scripts": "usr/bin", "data": "usr", "headers": "usr/include"}
"""What lies in a wheel's .data directory, by sysconfig's names; headers have the project's name behind."""
_PYTHON: Final = b"#!/usr/bin/python3\n"
_ENTRY: Final = re.compile(r"(?P<module>[\w.]+)\s*(?::\s*(?P<attribute>[\w.]+))?\s*(?:\[.*\])?")
_START: Final = """\
import sys
from {module} import {top}
sys.exit({attribute}())
"""


def lay_out(file: Path, folder: Path) -> None:
    """Write into `folder`, a directory of the caller's own, what the wheel `file` installs, and the wheel itself.

    Raises WheelError, and UsageError if something is there already.
    """
    with opened(file, label=file.name) as wheel:
        for path in wheel.paths():
            place = _place(path, wheel)
            with wheel.open(path) as stream, _made(folder / place, file.name) as out:
                if place.parent == PurePosixPath("usr/bin"):
                    # A script's first line is `#!python` until it is installed (binary distribution format).
                    first = stream.readline()
                    out.write(_PYTHON if first.startswith(b"#!python") else first)
                shutil.copyfileobj(stream, out)
            executable = place.parent == PurePosixPath("usr/bin") or wheel.executable(path)
            (folder / place).chmod(0o755 if executable else 0o644)
            # What is copied or compiled from it may have its time.
            os.utime(folder / place, (seconds := wheel.seconds(path), seconds))
        for name, text in _programs(wheel):
            with _made(folder / "usr/bin" / name, file.name) as out:
                out.write(_PYTHON + text.encode())
            (folder / "usr/bin" / name).chmod(0o755)
            os.utime(folder / "usr/bin" / name, (seconds := wheel.seconds(f"{wheel.information}/WHEEL"), seconds))
    (folder / KEPT).mkdir(parents=True, exist_ok=True)
    shutil.copy2(file, folder / KEPT)


def _place(path: str, wheel: Wheel) -> PurePosixPath:
    data = f"{wheel.information.removesuffix('.dist-info')}.data"
    top, _, rest = path.partition("/")
    if top != data:
        return PurePosixPath(MODULES, path)
    kind, _, inside = rest.partition("/")
    if kind not in _SCHEME or not inside:
        raise UsageError(f"{wheel.label}: {path} belongs nowhere", hint="in .data are purelib, scripts and so on")
    named = (data.partition("-")[0],) if kind == "headers" else ()
    return PurePosixPath(_SCHEME[kind], *named, inside)


def _made(place: Path, wheel: str) -> IO[bytes]:
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        return place.open("xb")
    except FileExistsError:
        raise UsageError(f"{wheel}: two files of it, or of wheels beside it, come to {place.name}") from None


def _programs(wheel: Wheel) -> Iterator[tuple[str, str]]:
    """The programs that its entry points are, with what each does."""
    reader = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    reader.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        reader.read_string(wheel.text("entry_points.txt"))
    except configparser.Error as error:
        raise UsageError(f"{wheel.label}: entry_points.txt: {error.message}") from error
    for section in ("console_scripts", "gui_scripts"):
        for name, value in reader.items(section) if reader.has_section(section) else ():
            match = _ENTRY.fullmatch(value.strip())
            if match is None or match["attribute"] is None or "/" in name:
                raise UsageError(f"{wheel.label}: entry_points.txt: {name} = {value} is no program")
            attribute = match["attribute"]
            yield name, _START.format(module=match["module"], top=attribute.partition(".")[0], attribute=attribute)
