"""Options of commands that say how what was built is handed over."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from xbuild.base.errors import UsageError
from xbuild.base.yamlfile import did_you_mean
from xbuild.model.handing import FORMS, Form

Strip = bool | Literal["debug-package"] | None
_WORDS: dict[str, Strip] = {"": None, "true": True, "false": False, "debug-package": "debug-package"}
_DEFAULTS = {"strip": "", "format": "", "sbom": False, "provenance": False}
"""The options; their help stands in `xbuild.cli.words`."""


@dataclass(frozen=True)
class Handover:
    """What the options say; None and False: nothing."""

    strip: Strip = None
    format: Form | None = None
    sbom: bool = False
    provenance: bool = False

    @property
    def here(self) -> dict[str, Any]:
        """Fields of `Here`."""
        return {"format": self.format, "sbom": self.sbom, "provenance": self.provenance}

    @property
    def words(self) -> list[str]:
        """The same as on the command line, without what a request says of itself."""
        papers = [f"--{name}" for name in ("sbom", "provenance") if getattr(self, name)]
        return [*(["--format", self.format] if self.format else []), *papers]

    @property
    def published(self) -> bool:
        """Whether they are about files of the user's, who then wants to have some."""
        return any(self.here.values())


NOTHING = Handover()


def strip_of(text: str) -> Strip:
    """The word of --strip. Raises UsageError."""
    if text not in _WORDS:
        known = [word for word in _WORDS if word]
        raise UsageError(f"--strip is no {text!r}{did_you_mean(text, known)}", hint=f"one of {', '.join(known)}")
    return _WORDS[text]


def _form_of(text: str) -> Form | None:
    for known in FORMS:
        if text == known:
            return known
    if text:
        raise UsageError(f"--format is no {text!r}{did_you_mean(text, FORMS)}", hint=f"one of {', '.join(FORMS)}")
    return None


def handing_over(task: Callable[..., int | None]) -> Callable[..., int | None]:
    """Give the command `task` these options, which it gets as one argument, `over`."""
    signature = inspect.signature(task)

    @functools.wraps(task)
    def wrapper(*args: Any, **kwargs: Any) -> int | None:
        words = {name: kwargs.pop(name, default) for name, default in _DEFAULTS.items()}
        papers = {"sbom": bool(words["sbom"]), "provenance": bool(words["provenance"])}
        return task(*args, over=Handover(strip_of(words["strip"]), _form_of(words["format"]), **papers), **kwargs)

    own = [parameter for name, parameter in signature.parameters.items() if name != "over"]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=value) for name, value in _DEFAULTS.items()
    ]
    wrapper.__signature__ = signature.replace(parameters=[*own, *added])  # type: ignore[attr-defined]
    return wrapper
