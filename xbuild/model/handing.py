"""How what was built is handed over: what becomes of debug information, the form of the archive, papers beside it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field
from pydantic import WithJsonSchema as JsonSchema

from xbuild.model.base import Model, fault

DEBUG_PACKAGE = "debug-package"

Form = Literal["tar.zst", "tar.gz", "dir"]
FORMS: tuple[Form, ...] = get_args(Form)


def _strip(value: Any) -> Any:
    if isinstance(value, bool) or value == DEBUG_PACKAGE:
        return value
    raise fault("strip", f"must be true, false or {DEBUG_PACKAGE}, not {value!r}")


Strip = Annotated[
    bool | Literal["debug-package"],
    BeforeValidator(_strip),
    JsonSchema({"enum": [True, False, DEBUG_PACKAGE]}),
]


class Handing(Model):
    """How the finished build is handed over."""

    strip: Strip = Field(
        False, description="Debug information: false keeps it, true drops it, debug-package has it in a second archive"
    )
    format: Form = Field("tar.zst", description="Form of the copy in dist/: an archive, or a directory")
    sbom: bool = Field(False, description="Write beside it what went into it, as SPDX")
    provenance: bool = Field(False, description="Write beside it how it was built, as an in-toto statement")
