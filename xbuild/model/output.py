"""What a build must have made."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from xbuild.model.base import Model, RelativePath, fault

Kind = Literal["executable", "shared-library", "static-library", "file"]


class Output(Model):
    """A file of the artifact, and what it must answer when it is run on the target."""

    path: RelativePath = Field(description="Pattern below the artifact's root, e.g. usr/lib/*/libz.so.1")
    kind: Kind = Field("file", description="What the file must be")
    run: tuple[str, ...] | None = Field(None, description="Arguments to run an executable with")
    prints: str | None = Field(None, description="Text that its answer must contain")

    @model_validator(mode="after")
    def _runnable(self) -> Self:
        if self.run is not None and self.kind != "executable":
            raise fault("output", f"'run' is for executables only, not for kind {self.kind!r}")
        if self.prints is not None and self.run is None:
            raise fault("output", "'prints' needs 'run'")
        return self
