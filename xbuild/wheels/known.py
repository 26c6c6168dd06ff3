"""What is known of Python projects beyond what they say themselves: data."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field

from xbuild.base.errors import UsageError
from xbuild.base.yamlfile import load_model
from xbuild.model.base import Model, NonEmpty, Package, SchemaVersion

_DATA = Path(__file__).with_name("known.yml")


class Complaint(Model):
    """Something that a log says."""

    pattern: str = Field(description="Regular expression")
    hint: str = Field(description="What to do")


class Known(Model):
    """The file `known.yml`."""

    schema_version: SchemaVersion = Field(alias="schema")
    pythons: dict[str, str]
    programs: dict[str, Package]
    modules: dict[str, Literal["any", "same"]]
    backends: dict[str, NonEmpty[str]]
    languages: dict[str, NonEmpty[str]]
    libraries: dict[str, NonEmpty[Package]]
    complaints: tuple[Complaint, ...]

    def suite(self, python: str) -> str:
        """The release of the distribution that has this python. Raises UsageError if none is known."""
        if python not in self.pythons:
            hint = f"there are {', '.join(f'{known} ({suite})' for known, suite in self.pythons.items())}"
            raise UsageError(f"no release of the distribution is known to have python {python}", hint=hint)
        return self.pythons[python]

    def language(self, names: set[str], backend: str) -> str | None:
        """The language without twins that one of these requirements, or the backend, stands for."""
        asked = {*names, re.split(r"[.:]", backend)[0].replace("_", "-")}
        return next((language for language, words in self.languages.items() if asked & set(words)), None)

    def modules_of(self, project: str, *, same_width: bool) -> bool:
        """Whether compiled modules of a project may be this machine's. same_width: words are as wide on the target."""
        return project in self.modules and (same_width or self.modules[project] == "any")

    def hint(self, said: str) -> str | None:
        """What to do about what a log says, if anything is known."""
        return next((one.hint for one in self.complaints if re.search(one.pattern, said)), None)


@cache
def known() -> Known:
    """The file, read."""
    return load_model(_DATA, Known)
