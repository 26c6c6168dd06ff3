"""What is worth knowing of a package before it is built."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

from pydantic import Field

from xbuild.base.yamlfile import load_model
from xbuild.model.base import Model, NonEmpty
from xbuild.packages.recipe import Options, relations
from xbuild.packages.source import SourcePackage


class Language(Model):
    """A language whose compiler has no twin."""

    name: str = Field(description="What people call it")
    packages: NonEmpty[str] = Field(description="Patterns of build dependencies that bring its compiler")


class Languages(Model):
    """The file languages.yml."""

    languages: NonEmpty[Language] = Field(description="All of them")


def remarks(package: SourcePackage, options: Options) -> list[str]:
    """What will take long, one line each."""
    needed = [word for part in relations(package.fields, options) for word in part.split("|")]
    names = {word.split()[0].partition(":")[0] for word in needed}
    known = load_model(Path(__file__).with_name("languages.yml"), Languages).languages
    return [
        f"it is built by a compiler of {language.name}, which has no native twin: that runs emulated, and takes long"
        for language in known
        if any(fnmatchcase(name, pattern) for name in names for pattern in language.packages)
    ]
