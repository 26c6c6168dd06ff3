"""Where a recipe's source code comes from."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import (
    ConfigDict,
    Field,
    JsonValue,
    StrictBool,
    StrictInt,
    ValidationInfo,
    field_validator,
    model_validator,
)

from xbuild.model.base import Commit, LocalPath, Model, Project, RelativePath, Sha256, Url, Version, fault

Kind = Literal["url", "distribution", "pypi", "git", "path"]

_KINDS: tuple[Kind, ...] = ("url", "distribution", "pypi", "git", "path")

_ONLY_WITH = {"mirrors": "url", "version": "pypi", "file": "pypi", "commit": "git"}
"""Fields that say something of one kind of source only."""

_ONE_KIND: list[JsonValue] = [
    {"required": ["url", "sha256"]},
    {"required": ["distribution", "sha256"], "not": {"required": ["url"]}},
    {"required": ["pypi", "sha256"]},
    {"required": ["git", "commit", "sha256"]},
    {"required": ["path"]},
]
"""JSON schema: exactly one kind; a distribution's copy may stand beside a url. What is not of here has a digest."""


class Distribution(Model):
    """A file of a distribution's source package."""

    package: str = Field(description="The source package, e.g. python3.13")
    file: str = Field(description="The file's name in the distribution's pool")
    section: str = Field("main", description="The pool's section")


class Source(Model):
    """One file or tree: exactly one of url (with or without distribution), distribution, pypi, git, path."""

    model_config = ConfigDict(json_schema_extra={"oneOf": _ONE_KIND})

    url: Url | None = Field(None, description="Upstream's archive")
    mirrors: tuple[Url, ...] = Field((), description="Further addresses of the same file")
    distribution: Distribution | None = Field(None, description="The same file in a distribution's pool")
    pypi: Project | None = Field(None, description="A project of the configured Python package index")
    version: Version | None = Field(None, description="The sdist's version (default: the recipe's)")
    file: str | None = Field(None, description="The sdist's file name (default: NAME-VERSION.tar.gz)")
    git: str | None = Field(None, description="A git repository")
    commit: Commit | None = Field(None, description="The commit of the git repository")
    path: LocalPath | None = Field(None, description="A file or directory of this machine, as it is now")
    sha256: Sha256 | None = Field(
        None,
        validate_default=True,
        description="Digest of the file; for a directory of its tree, for git of the checkout; a path needs none",
    )
    into: RelativePath = Field(".", description="Directory below the source directory to unpack into")
    strip: StrictInt = Field(1, ge=0, description="Leading path components to drop when unpacking")
    unpack: StrictBool = Field(True, description="Whether it is unpacked; else the file lies there as it is")

    @property
    def kind(self) -> Kind:
        """What the source is, first of all: a url with a distribution's copy is a url."""
        return next(kind for kind in _KINDS if getattr(self, kind) is not None)

    @property
    def digest(self) -> str:
        """The sha256, which only a path that nobody has looked at yet does not have."""
        assert self.sha256 is not None
        return self.sha256

    @field_validator("sha256")
    @classmethod
    def _known(cls, value: str | None, info: ValidationInfo) -> str | None:
        # A wrong path is no field of `data`, and one error is enough.
        if value is None and info.data.get("path", "") is None:
            raise fault("missing", "is missing")
        return value

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        given = [kind for kind in _KINDS if getattr(self, kind) is not None]
        if len(given) != 1 and given != ["url", "distribution"]:
            said = f", not {' and '.join(given)}" if given else ""
            raise fault("source_kind", f"must have exactly one of {', '.join(_KINDS)}{said}")
        for field, kind in _ONLY_WITH.items():
            if getattr(self, field) and kind not in given:
                raise fault("source_field", f"{field!r} is for sources with {kind!r} only")
        if self.git and not self.commit:
            raise fault("source_field", "'git' needs 'commit'")
        if self.git and not self.unpack:
            raise fault("source_field", "'unpack: false' is for files, and 'git' gives a tree")
        return self

    def completed(self, version: str) -> Source:
        """This source with the defaults that come from the recipe's `version` filled in (sdists)."""
        if self.pypi is None:
            return self
        own = self.version or version
        return self.model_copy(update={"version": own, "file": self.file or f"{self.pypi}-{own}.tar.gz"})
