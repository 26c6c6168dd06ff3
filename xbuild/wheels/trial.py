"""Whether a wheel works: installed in a plain root of the target, without a network, imported, and tested."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from xbuild.base import log
from xbuild.base.errors import CheckError, LateError, UsageError, called
from xbuild.model.source import Source
from xbuild.roots.distribution import Roots
from xbuild.sandbox.mounts import Bind
from xbuild.sandbox.run import ROOT_PATH, Sandbox, capture
from xbuild.sandbox.view import TMP
from xbuild.session import marks
from xbuild.session.root import Origin, prepare
from xbuild.sources import FetchContext, fetch, unpack
from xbuild.store.local import writing_below
from xbuild.store.moment import for_a_moment
from xbuild.wheels.build import Made, Maker
from xbuild.wheels.require import Found, UnmetError
from xbuild.wheels.system import taken

_PACKAGES = ("python3-pip",)
"""What the plain root has besides: what installs."""
_FAILED = "failed"
_WHEELS, _PROJECT = "/wheels", "/project"
_TAIL = 40
_LACKING = re.compile(r"ModuleNotFoundError: No module named '([\w-]+)")
"""What Python says of a module that is in no wheel."""
_LEFT_OUT = re.compile(r"(?i)(?:tests?|testing|docs?|examples?|benchmarks?|setup|conftest)")
"""Names at the top of wheels that are not what a project is imported by."""

_SCRIPT = r"""
set -eu
cd /tmp
python3 -m pip --no-cache-dir --disable-pip-version-check --quiet install --no-index --find-links /wheels --no-compile \
    --break-system-packages --root-user-action=ignore "$@"
python3 -c 'import importlib, os
for name in os.environ["MODULES"].split(): importlib.import_module(name)'
echo "xbuild: imported $MODULES"
[ -z "$TEST" ] || sh -euc "$TEST"
"""


@dataclass(frozen=True)
class Wanted:
    """What is asked of a wheel beside an import. command: shell text; requires: requirements that it needs."""

    command: str = ""
    requires: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tried:
    """What came of it. lacking: what no index has a wheel of, so that nothing was tried; lines: what was said.

    system: libraries that no wheel has and that are in no plain root, with the distribution's packages that have them.
    """

    imported: tuple[str, ...] = ()
    tested: bool = False
    lacking: str = ""
    lines: tuple[str, ...] = ()
    system: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """For --json."""
        return {"imported": list(self.imported), "tested": self.tested, "lacking": self.lacking,
                "lines": list(self.lines), "system": dict(self.system)}  # fmt: skip


def tried(made: Made, maker: Maker, tests: Wanted, further: Sequence[Made] = ()) -> Tried:
    """Install the wheel with what it requires, import all that it brings, and run the tests.

    further: what was made beside it. Raises CheckError if something of it fails; then the wheel goes aside, into a
    directory `failed` beside it, so that nobody takes it for good; UsageError if something else has that name.
    """
    store, roots = maker.store, maker.roots
    _require_aside(made.file)
    with store.lock("wheel-trial", shared=True, describe="tries a wheel"):
        folder = store.scratch("wheel-trial")
        try:
            with writing_below(store.root):
                (folder / "wheels").mkdir(parents=True)
                (folder / "project").mkdir()
                for path in (folder, folder / "wheels", folder / "project"):
                    path.chmod(0o755)
                try:
                    there = [one.file for one in further if one.file.exists()]
                    _bring(made, maker, tests, there, folder / "wheels")
                except UnmetError as error:
                    log.warn(f"{made.file.name} was not tried, for it requires {error.message}")
                    hint = f"`invoke wheel --require FILE`, with {made.project.name} in FILE, builds that too"
                    log.info(called(f"hint: {hint}"))
                    return Tried(lacking=error.requirement)
                if "{project}" in tests.command or "{package}" in tests.command:
                    _lay_project(made, maker, folder / "project")
            built = (roots.tree(one.packages) for one in (made, *further))
            files = (folder / "wheels").glob("*.whl")
            system = taken(files, roots.toolchain.triplet, roots.tree(_PACKAGES), built)
            try:
                return _run(made, roots, tests, folder, system)
            except CheckError as error:
                raise error.with_details(f"wheel:  {_set_aside(made.file)}") from None
        finally:
            store.discard(folder)


def _require_aside(file: Path) -> None:
    folder = file.parent / _FAILED
    if folder.exists() and not folder.is_dir():
        message = f"{file.name} was not tried: a wheel that fails goes to {folder}, and that is no directory"
        raise UsageError(message, hint=f"rm {folder}, or give another directory by --output")


def _set_aside(file: Path) -> Path:
    folder = file.parent / _FAILED
    folder.mkdir(exist_ok=True)
    return file.replace(folder / file.name)


def _bring(made: Made, maker: Maker, tests: Wanted, further: Sequence[Path], folder: Path) -> None:
    """The wheel and what it requires, as files. Raises UnmetError if no index has something."""
    with for_a_moment(maker.store, "links") as links:
        for file in (*sorted(maker.links.glob("*.whl")), *further, made.file):
            shutil.copyfile(file, links / file.name)
        finder = replace(maker.finder, links=links)
        # Its own requirements are in it, and pip reads them there.
        asked = [f"{made.project.name}=={made.name.version}", *tests.requires]
        for found in finder.resolved(asked):
            if found.name != made.name.project:
                _place(found, maker, folder)
    _copy(made.file, folder)


def _place(found: Found, maker: Maker, folder: Path) -> None:
    if found.path:
        _copy(Path(found.path), folder)
        return
    source = Source.model_validate({name: value for name, value in found.source.items() if name != "unpack"})
    file = fetch(source, FetchContext(maker.store, lambda: (), Path("/")))
    _copy(file, folder, found.file)


def _copy(file: Path, folder: Path, name: str = "") -> None:
    copy = Path(shutil.copyfile(file, folder / (name or file.name)))
    copy.chmod(0o644)


def _lay_project(made: Made, maker: Maker, folder: Path) -> None:
    """The project's own files, for tests that lie among them."""
    source = Source.model_validate(made.project.source)
    if made.project.directory is not None:
        shutil.copytree(made.project.directory, folder, symlinks=True, dirs_exist_ok=True)
        return
    unpack(fetch(source, FetchContext(maker.store, lambda: (), Path("/"))), folder, 1, made.file.name)


def _run(made: Made, roots: Roots, tests: Wanted, folder: Path, system: Mapping[str, str]) -> Tried:
    if system:
        shown = ", ".join(f"{name} ({package})" for name, package in system.items())
        log.info(f"{made.file.name} takes from the system, where it is tried and where it is used: {shown}")
    packages = (*_PACKAGES, *sorted(set(system.values())))
    modules = [name for name in made.modules if not _LEFT_OUT.fullmatch(name)] or list(made.modules)
    names = [f"{_WHEELS}/{made.file.name}", *tests.requires]
    with log.step(f"install and import {made.file.name}"):
        try:
            code, said = _in_root(roots, packages, names, modules, tests, folder)
        except LateError:
            code, said = _in_root(roots, packages, names, modules, tests, folder, native=False)
    lines = tuple(said.decode(errors="replace").splitlines())
    if code != 0:
        text = f"{made.file.name}: it cannot be installed and imported in a plain root"
        if any(line.startswith("xbuild: imported") for line in lines):
            text = f"{made.file.name}: the test command fails"
        hint = "--no-test leaves this out"
        if lines and (lacking := _LACKING.match(lines[-1])):
            hint = f"{lacking[1]} may be of a project that it does not say it requires: --test-requires PROJECT; {hint}"
        raise CheckError(text, details=lines[-_TAIL:], hint=hint)
    return Tried(tuple(modules), bool(tests.command), lines=lines[-_TAIL:], system=system)


def _in_root(
    roots: Roots,
    packages: Sequence[str],
    names: Sequence[str],
    modules: Sequence[str],
    tests: Wanted,
    folder: Path,
    *,
    native: bool = True,
) -> tuple[int, bytes]:
    store = roots.store
    with store.in_use(), writing_below(store.root):
        layers = roots.layers(packages)
        root = prepare(roots, Origin(tuple(layers)), native=native)
        shown = (
            Bind(str(folder / "wheels"), _WHEELS, readonly=True),
            Bind(str(folder / "project"), _PROJECT, readonly=True),
        )
        # cibuildwheel's words for where the project is.
        command = tests.command.replace("{project}", _PROJECT).replace("{package}", _PROJECT)
        env = {"PATH": ROOT_PATH, "HOME": "/root", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
        env |= {"MODULES": " ".join(modules), "TEST": command}
        with marks.watched(store, there=root.view.private is not None) as recorded:
            view = replace(root.view, memory=True, shown=shown, empty=(TMP,), record=recorded)
            sandbox = Sandbox(
                view.mounts(),
                store.directory("mnt"),
                registrations=(*root.registrations, *roots.refusals()),
                env=env,
                cwd="/tmp",
                name=roots.toolchain.name,
            )
            return capture(sandbox, ["sh", "-euc", _SCRIPT, "sh", *names], marks.late(recorded))


