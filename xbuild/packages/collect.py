"""What a build of packages gave, as files of the user's; and whether the .buildinfo says the truth."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from xbuild.base.digest import is_file_with
from xbuild.base.errors import CheckError
from xbuild.build.phases import keep_copy
from xbuild.build.stepfiles import logged
from xbuild.formats.deb822 import paragraph, unsigned
from xbuild.sources import unpack
from xbuild.store.local import Store, writing_below
from xbuild.store.moment import for_a_moment

_INSTALLED = re.compile(r"^ ?([^\s:]+)(?::\S+)? \(= ([^)]+)\)", re.MULTILINE)
LOG = ".build"
"""How the log's name ends, as sbuild(1) has it."""


def collect(artifact: Path, logs: Path, output: Path | None, dist: Path, store: Store) -> list[Path]:
    """Copy what the artifact of a build holds, and its log, into `output`; give the files, by name.

    output: None: the directory of `dist` that is called as the .changes file is; the log is called so, too. Raises
    MachineError if they cannot be written.
    """
    with writing_below(store.root), for_a_moment(store, "collected") as place:
        unpack(artifact, place, 0, artifact.name)
        found = [file for file in sorted(place.rglob("*")) if file.is_file() and not file.is_symlink()]
        title = next((file.stem for file in found if file.suffix == ".changes"), artifact.stem)
        folder = output or dist / title
        copies = [keep_copy(file, folder / file.name) for file in found]
        log = place / f"{title}{LOG}"
        log.write_bytes(b"".join(_section(files.step, logs / files.log) for files in logged(logs)))
        return [*copies, keep_copy(log, folder / log.name)]


def _section(phase: str, file: Path) -> bytes:
    return f"==> {phase}\n".encode() + file.read_bytes()


def require_true(files: Sequence[Path], architecture: str, installed: Mapping[str, str]) -> None:
    """Raise CheckError if a .buildinfo or .changes among `files` does not say what is so.

    architecture: that it was built on. installed: the versions of the packages that there were. The sums in them must
    be those of the files.
    """
    faults: list[str] = []
    for file in files:
        if file.suffix not in (".buildinfo", ".changes"):
            continue
        fields = paragraph(unsigned(file.read_text()))
        faults += [f"{file.name}: {text}" for text in _wrong_sums(fields.get("Checksums-Sha256", ""), file.parent)]
        if file.suffix == ".buildinfo":
            faults += [f"{file.name}: {text}" for text in _untrue(fields, architecture, installed)]
    if faults:
        raise CheckError(".buildinfo or .changes is not true", details=faults[:40])


def _wrong_sums(field: str, folder: Path) -> list[str]:
    lines = [line.split() for line in field.splitlines() if line.strip()]
    return [f"{name}: not with the sha256 {sha256}" for sha256, _, name in lines
            if not is_file_with(folder / name, sha256)]  # fmt: skip


def _untrue(fields: Mapping[str, str], architecture: str, installed: Mapping[str, str]) -> list[str]:
    faults = []
    if (said := fields.get("Build-Architecture")) != architecture:
        faults.append(f"Build-Architecture is {said}, not {architecture}")
    for name, version in _INSTALLED.findall(fields.get("Installed-Build-Depends", "")):
        if installed.get(name) != version:
            faults.append(f"Installed-Build-Depends: {name} {version}, and there was {installed.get(name, 'none')}")
    return faults
