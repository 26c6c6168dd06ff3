"""The recipe that a source package comes to: an ordinary file, so that packages are built as any recipe is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from xbuild.base.digest import key_of
from xbuild.base.errors import UsageError
from xbuild.base.walk import shown
from xbuild.formats.deb822 import Fields, paragraphs
from xbuild.model.load import SUFFIX, load_presets
from xbuild.packages.source import SourceFile, SourcePackage
from xbuild.store.local import Store, writing_below

PLACE = "debs"
"""The directory of the store that recipes are written to: one a package and set of options."""

_PRESET = "debian"
_API = "dpkg-build-api"
_DIGITS = 8


Kind = Literal["any", "all", "both"]
"""Packages of the architecture (dpkg-buildpackage -B), independent ones (-A), or both (-b)."""


def kind(*, any: bool, all: bool) -> Kind:
    """What is built where these are asked for; if neither is, those of the architecture."""
    return "both" if any and all else "all" if all else "any"


def can_lie(directory: str) -> bool:
    """Whether a source can lie in this directory while it is built."""
    return load_presets()[_PRESET].options["directory"].refusal(directory) is None


@dataclass(frozen=True)
class Options:
    """What is asked of a build of packages, and decides about what comes out.

    profiles: as in DEB_BUILD_PROFILES. build_options: words of DEB_BUILD_OPTIONS. binnmu: text of the changelog entry
    of a rebuild without changes; "": none. directory: where, inside, the source lies; None: where buildds have it.
    data: as of a recipe.
    """

    build: Kind = "any"
    profiles: tuple[str, ...] = ()
    build_options: tuple[str, ...] = ()
    binnmu: str = ""
    directory: str | None = None
    data: tuple[str, ...] = ()

    def for_preset(self) -> dict[str, Any]:
        """Those that are not the default, as options of the preset `debian`."""
        words: dict[str, Any] = {"profiles": list(self.profiles), "build-options": list(self.build_options)}
        words |= {"binnmu": self.binnmu, "directory": self.directory}
        return {"build": self.build, **{name: value for name, value in words.items() if value}}


def recipe_of(package: SourcePackage, options: Options, store: Store) -> Path:
    """The file of the recipe for `package`, written into the store.

    Raises UsageError if the package's name or version is one that no recipe can have.
    """
    text = recipe_text(package, options)
    special = "" if options == Options() else f"-{key_of(asdict(options))[:_DIGITS]}"
    folder = store.directory(PLACE) / f"{package.name}_{package.file_version}{special}"
    file = folder / f"{package.name}{SUFFIX}"
    with writing_below(store.root):
        folder.mkdir(exist_ok=True)
        beside = file.with_suffix(".new")
        beside.write_text(text, encoding="utf-8")
        beside.replace(file)
    return file


def recipe_text(package: SourcePackage, options: Options) -> str:
    """The recipe as YAML: a function of what is known of the package alone."""
    root = {"as-root": ["configure", "install"]} if needs_root(package) else {}
    again = {"incremental": True} if package.directory else {}
    value = {
        "schema": 1,
        "name": package.name,
        "version": package.file_version,
        "summary": _summary(package),
        "license": "see debian/copyright",
        **({"homepage": package.fields["Homepage"]} if package.fields.get("Homepage") else {}),
        "sources": [_described(file) for file in package.files],
        "depends": {"packages": relations(package.fields, options), "profiles": list(options.profiles)},
        "build": {"preset": _PRESET, "options": options.for_preset(), **root, **again},
        "outputs": [{"path": "*.*deb", "kind": "file"}],
        **({"data": list(options.data)} if options.data else {}),
    }
    found = f"# {shown(package.origin)}: {shown(package.checked)}\n"
    return found + yaml.safe_dump(value, sort_keys=False, allow_unicode=True)


def _described(file: SourceFile) -> dict[str, Any]:
    # A directory is what is there when it is built.
    fixed = {"sha256": file.sha256, "unpack": False} if file.sha256 else {}
    return {**file.source, **fixed}


def relations(fields: Fields, options: Options) -> list[str]:
    """What must be installed, as Debian writes it, and `Conflicts: ...` for what must not (deb-src-control(5))."""
    kinds = [""] + ["-Arch"] * (options.build != "all") + ["-Indep"] * (options.build != "any")
    found = [part for kind in kinds for part in _parts(fields.get(f"Build-Depends{kind}", ""))]
    found += [f"Conflicts: {part}" for kind in kinds for part in _parts(fields.get(f"Build-Conflicts{kind}", ""))]
    return list(dict.fromkeys(found))


def _parts(field: str) -> list[str]:
    return [text for part in field.split(",") if (text := " ".join(part.split()))]


def control_of(package: SourcePackage) -> Fields:
    """The paragraph of the source in debian/control, {} where it is not known. Raises UsageError if it is none."""
    try:
        return next(iter(paragraphs(package.control)), {})
    except ValueError as error:
        raise UsageError(f"{package.origin}: debian/control: {error}") from error


def needs_root(package: SourcePackage) -> bool:
    """Whether `debian/rules binary` must be root's: Rules-Requires-Root, and its default (deb-src-control(5))."""
    control = control_of(package)
    said = control.get("Rules-Requires-Root", "").strip()
    if said:
        return said != "no"
    # From dpkg-build-api 1 on the default is `no` (dpkg-build-api(7)).
    words = [part.split() for part in _parts(package.fields.get("Build-Depends", "")) if part.startswith(_API)]
    return not any("".join(word).removeprefix(_API).strip("(=)") not in ("", "0") for word in words)


def _summary(package: SourcePackage) -> str:
    try:
        described = [part["Description"] for part in paragraphs(package.control) if part.get("Description")]
    except ValueError:
        described = []
    first = described[0].partition("\n")[0] if described else "Debian's source package"
    return f"{package.name} {package.version}: {first}"
