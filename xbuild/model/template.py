"""The few templates that a recipe may have: Jinja2 expressions in addresses and names of outputs."""

from __future__ import annotations

import re
from collections.abc import Mapping

from xbuild.yamlfile import did_you_mean

_UNDEFINED = re.compile(r"'(\w+)' is undefined")


def variables(name: str, version: str, target: str) -> dict[str, str]:
    """What templates can name; version_major_minor is the first two parts of `version`: 3.13 of 3.13.5."""
    major_minor = ".".join(version.split(".")[:2])
    return {"name": name, "version": version, "version_major_minor": major_minor, "target": target}


def render(text: str, values: Mapping[str, str]) -> str:
    """`text` with each `{{ expression }}` replaced; `values` are the variables.

    Raises ValueError, with words for the user, for anything but expressions and for what cannot be evaluated.
    """
    if "{%" in text or "{#" in text:
        raise ValueError(
            "templates have expressions {{ }} only, no {% or {#; 'overrides' can differ by target"
        )
    if "{{" not in text:
        return text
    # Only here: it takes long to load, and most commands render nothing.
    from jinja2 import StrictUndefined
    from jinja2.exceptions import TemplateError, TemplateSyntaxError, UndefinedError
    from jinja2.sandbox import SandboxedEnvironment

    environment = SandboxedEnvironment(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True)
    try:
        return environment.from_string(text).render(values)
    except UndefinedError as error:
        raise ValueError(_undefined(str(error), values)) from error
    except TemplateSyntaxError as error:
        raise ValueError(f"not a template: {error.message}") from error
    except (TemplateError, ArithmeticError, LookupError, TypeError) as error:
        raise ValueError(f"the template fails: {error}") from error


def _undefined(message: str, values: Mapping[str, str]) -> str:
    found = _UNDEFINED.search(message)
    if not found:
        return f"the template fails: {message}"
    known = ", ".join(sorted(values))
    return (
        f"template variable {found[1]!r} is not defined (there are {known}){did_you_mean(found[1], values)}"
    )
