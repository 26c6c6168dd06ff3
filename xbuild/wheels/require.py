"""Requirements as wheels for a target: what pip would take from the user's indexes, without any project's code."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from packaging.requirements import Requirement

from xbuild.base import log, process
from xbuild.base.digest import file_sha256, key_of, read_sealed, sealed
from xbuild.base.errors import MachineError, SourceError
from xbuild.formats.wheel import WheelError, name_of, normalised
from xbuild.model.native import here
from xbuild.sources.download import basename
from xbuild.store.local import Store, writing_below
from xbuild.store.moment import for_a_moment
from xbuild.wheels.find import requirement_of
from xbuild.wheels.known import known
from xbuild.wheels.python import OLDEST, Python

PLACE = "wheels"
"""The directory of the store for recipes of wheels, what was resolved for them, and wheels that others need."""

_PIP = Path(__file__).with_name("targetpip.py")
_UNMET = re.compile(r"^ERROR: No matching distribution found for (.+?)\s*$", re.MULTILINE)
_NO_REPORT = re.compile(r"no such option: (--report|--dry-run)")
_TAIL = 12


@dataclass(frozen=True)
class Found:
    """A wheel for the target. name: as indexes normalise it. file: its own name. path: where it lies, if it is a file
    of this machine; "": an index has it.
    """

    name: str
    version: str
    file: str
    sha256: str
    path: str = ""

    @property
    def pure(self) -> bool:
        """Whether it is for any machine."""
        return name_of(self.file).kind == "pure"

    @property
    def source(self) -> dict[str, Any]:
        """As a recipe's `sources` name it."""
        if self.path:
            return {"path": self.path, "sha256": self.sha256, "unpack": False}
        return {"pypi": self.name, "version": _plain(self.version), "file": self.file, "sha256": self.sha256,
                "unpack": False}  # fmt: skip


def _plain(version: str) -> str:
    # A recipe's version has no epoch.
    return version.replace("!", "-")


class UnmetError(SourceError):
    """No index has a wheel for the target. requirement: as pip says it."""

    def __init__(self, requirement: str, target: str, details: Sequence[str] = ()) -> None:
        super().__init__(f"{requirement}: no index has a wheel of it for {target}", details=details)
        self.requirement = requirement


@dataclass(frozen=True)
class Finder:
    """Finds wheels for the python of one target. links: a directory with wheels that were made here, which count too.

    renew: asks the index although it is known what it said.
    """

    store: Store
    python: Python
    target: str
    links: Path
    renew: bool = False

    def resolved(self, requirements: Iterable[str]) -> list[Found]:
        """Wheels for the requirements and for what these require, the pure ones where an index has them.

        Raises UnmetError if there is none of one, MachineError if no index answers.
        """
        asked = sorted(set(requirements))
        if not asked:
            return []
        value = {"asked": asked, "python": asdict(self.python) | {"packages": None}}
        with log.step(f"pip: {' '.join(asked)[:60]}"):
            return self._remembered(value, lambda: list(map(self._pure, self._ask(asked, self.python.platforms))))

    def compiled(self, found: Found) -> Found | None:
        """The compiled wheel of the same version for the target, None if no index has one.

        Raises MachineError if no index answers.
        """
        if not found.pure:
            return found
        asked = f"{found.name}=={found.version}"
        value = {"compiled": asked, "python": asdict(self.python) | {"packages": None}}
        answer = self._remembered(value, lambda: self._compiled(asked, self.python.platforms))
        return next(iter(answer), None)

    def native(self, found: Found) -> Found | None:
        """This machine's wheel of the same version, for the same ABI, of what is known to bring programs or modules;
        None if no index has one.

        Raises MachineError if no index answers.
        """
        native = replace(self.python, machine=here().uname_machine)
        brings = found.name in known().programs or found.name in known().modules
        if found.pure or not brings or native == self.python:
            return None
        asked = f"{found.name}=={found.version}"
        # Wheels for x86-64 there were before ARM had any (PEP 513, PEP 571).
        older = [f"manylinux_2_{minor}_{native.machine}" for minor in range(OLDEST - 1, 4, -1)]
        abis = name_of(found.file).abis
        value = {"native": asked, "abis": abis, "python": asdict(native) | {"packages": None}}
        # What is for all pythons from one on would not be taken where there is one for just this python.
        abi = "abi3" if abis == ("abi3",) else ""
        answer = self._remembered(value, lambda: self._compiled(asked, [*native.platforms, *older], abi))
        return next(iter(answer), None)

    def _compiled(self, requirement: str, platforms: Sequence[str], abi: str = "") -> list[Found]:
        with contextlib.suppress(UnmetError):
            return [one for one in self._ask([requirement], platforms, "--no-deps", abi=abi) if not one.pure]
        return []

    def _remembered(self, value: dict[str, Any], ask: Callable[[], list[Found]]) -> list[Found]:
        """What was found by the question `value` before, if that still holds; else what `ask` finds."""
        place = self.store.directory(PLACE) / "resolved"
        file = place / f"{key_of(value)[:20]}.json"
        if not self.renew and (before := _read(file, self.made())) is not None:
            return before
        found = ask()
        with writing_below(self.store.root):
            place.mkdir(exist_ok=True)
            beside = file.with_suffix(".new")
            beside.write_text(sealed({"found": [asdict(one) for one in found], "made": self.made()}))
            beside.replace(file)
        return found

    def made(self) -> list[str]:
        """The wheels that were made here."""
        return sorted(file.name for file in self.links.glob("*.whl")) if self.links.is_dir() else []

    def _pure(self, found: Found) -> Found:
        """The wheel for any machine of the same version, if there is one: native twins run it."""
        if found.pure or found.path:
            return found
        try:
            return self._ask([f"{found.name}=={found.version}"], ["any"], "--no-deps")[0]
        except UnmetError:
            return found

    def _ask(
        self, requirements: Sequence[str], platforms: Sequence[str], *more: str, abi: str = ""
    ) -> list[Found]:
        with for_a_moment(self.store, "pip") as folder:
            report = folder / "report.json"
            python = ["--python-version", self.python.short, "--implementation", "cp"]
            python += ["--abi", abi or f"cp{self.python.short.replace('.', '')}"]
            wanted = ["--dry-run", "--ignore-installed", "--report", str(report), "--only-binary", ":all:"]
            wanted += ["--target", str(folder / "none"), "--find-links", str(self.links), *more]
            wanted += [word for name in platforms for word in ("--platform", name)]
            command: list[process.Argument] = [sys.executable, _PIP, json.dumps(self.python.environment)]
            command += ["--disable-pip-version-check", "--no-input", "install", *wanted, *python, "--", *requirements]
            # What pip unpacks lies there too, and so goes with it.
            env = {**os.environ, "LC_ALL": "C.UTF-8", "LANGUAGE": "", "TMPDIR": str(folder)}
            done = process.run(command, capture=True, check=False, env=env)
            if done.returncode == 0:
                return [_found(item) for item in json.loads(report.read_text())["install"]]
        raise self._fault(requirements, done)

    def _fault(self, requirements: Sequence[str], done: process.Completed) -> Exception:
        said = done.stderr.decode(errors="replace")
        lines = [line for line in said.splitlines() if line.strip()][-_TAIL:]
        if _NO_REPORT.search(said) or "No module named pip" in said:
            return MachineError(f"the pip of {sys.executable} is too old, or not there", details=lines,
                                hint="it must be 22.2 or newer: python3 -m pip install --upgrade pip")  # fmt: skip
        if unmet := _UNMET.search(said):
            # pip says the same where it could not reach the index at all.
            gone = [line for line in lines if "connection broken" in line or "Retrying" in line or "HTTP error" in line]
            if gone:
                return MachineError(f"no package index answers for {unmet[1]}", details=gone, hint="check the network")
            return UnmetError(unmet[1], self.target, lines)
        return SourceError(f"pip cannot resolve {' '.join(requirements)}", details=lines)


def _found(item: dict[str, Any]) -> Found:
    info, about = item["download_info"], item["metadata"]
    file = basename(info["url"])
    parts = urlsplit(info["url"])
    hashes = (info.get("archive_info") or {}).get("hashes") or {}
    path = unquote(parts.path) if parts.scheme == "file" else ""
    digest = hashes.get("sha256") or (file_sha256(Path(path)) if path else "")
    if not digest:
        raise SourceError(f"{file}: the index tells no sha256 of it")
    return Found(normalised(about["name"]), about["version"], file, digest, path)


def _read(file: Path, made: Sequence[str]) -> list[Found] | None:
    """What was found before. made: the wheels here now: what has come or gone since may only be of other projects."""
    try:
        value = read_sealed(file)
        found = [Found(**one) for one in value["found"]]
        other = {name_of(name).project for name in {*made} ^ {*value["made"]}}
    except (OSError, ValueError, KeyError, TypeError, WheelError):
        return None
    sound = all(not one.path or Path(one.path).is_file() for one in found)
    return found if sound and other.isdisjoint(one.name for one in found) else None


def split(requirements: Iterable[str], python: Python) -> tuple[list[str], list[str]]:
    """Requirements to be fetched, and the distribution's packages that are others of them: programs with twins.

    Those whose markers do not hold for the target are left out.
    """
    fetched: list[str] = []
    packages: list[str] = []
    for text in requirements:
        requirement = requirement_of(text)
        if requirement.marker is not None and not holds(requirement, python):
            continue
        package = known().programs.get(normalised(requirement.name))
        if package and requirement.specifier.contains(python.packages.get(package, "0"), prereleases=True):
            packages.append(package)
        else:
            fetched.append(text)
    return fetched, sorted(set(packages))


def holds(requirement: Requirement, python: Python) -> bool:
    """Whether its markers, if it has any, are true on the target."""
    environment: dict[str, Any] = {**python.environment, "extra": ""}
    return requirement.marker is None or requirement.marker.evaluate(environment)


def until_met(finder: Finder, requirements: Sequence[str], make: Callable[[str], object]) -> list[Found]:
    """As `Finder.resolved`; what no index has a wheel of is made by `make`, which leaves it in the links."""
    tried: set[str] = set()
    while True:
        try:
            return finder.resolved(requirements)
        except UnmetError as error:
            if error.requirement in tried:
                raise
            tried.add(error.requirement)
            log.info(f"{error.requirement}: no index has a wheel for {finder.target}; it is built")
            make(error.requirement)
