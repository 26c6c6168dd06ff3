"""The few templates that a recipe may have: Jinja2 expressions in addresses and names of outputs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache, wraps
from typing import TYPE_CHECKING, Any

from xbuild.base.yamlfile import did_you_mean

if TYPE_CHECKING:
    from jinja2 import Environment

_LONGEST = 4096
"""Characters of a template, and of each text that it makes on the way: the longest path that Linux takes (PATH_MAX)."""
_LARGEST = 1 << 63
_FILTERS = (
    "abs", "capitalize", "d", "default", "first", "float", "int", "join", "last", "length", "list", "lower", "replace",
    "round", "string", "title", "trim", "upper",
)  # fmt: skip
"""Jinja's filters whose results are no longer than what they are given, multiplied."""
_METHODS = frozenset(
    {
        "capitalize", "count", "endswith", "find", "isalpha", "isdigit", "join", "lower", "lstrip", "partition",
        "removeprefix", "removesuffix", "replace", "rfind", "rpartition", "rsplit", "rstrip", "split", "startswith",
        "strip", "title", "upper",
    }
)  # fmt: skip
"""Methods of text of which the same is true."""
_VARIABLE = re.compile(r"(?<!\{)\{\{ ?([a-z_]+) ?\}\}")
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
    plain = _VARIABLE.sub(lambda found: values.get(found[1], found[0]), text)
    if "{{" not in text or ("{{" not in plain and "\r" not in text and max(len(text), len(plain)) <= _LONGEST):
        return plain
    if len(text) > _LONGEST:
        raise ValueError(f"a template may have {_LONGEST} characters")
    # Only here: it takes long to load, and most templates name a variable and nothing more.
    from jinja2.exceptions import TemplateSyntaxError, UndefinedError

    try:
        return str(_checked(_environment().from_string(text).render(values)))
    except UndefinedError as error:
        raise ValueError(_undefined(str(error), values)) from error
    except TemplateSyntaxError as error:
        raise ValueError(f"not a template: {error.message}") from error
    except (Exception, RecursionError) as error:
        # Whatever an expression brings about, it is the expression's fault.
        raise ValueError(f"the template fails: {str(error) or type(error).__name__}") from error


@cache
def _environment() -> Environment:
    """Jinja's sandbox, with what of its language cannot run or grow without end: see _FILTERS, _METHODS, _checked."""
    from jinja2 import StrictUndefined
    from jinja2.exceptions import SecurityError
    from jinja2.runtime import Context, Undefined
    from jinja2.sandbox import SandboxedEnvironment

    class Bounded(SandboxedEnvironment):
        intercepted_binops = frozenset(SandboxedEnvironment.default_binop_table)

        def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
            numbers = isinstance(left, int | float) and isinstance(right, int | float)
            if operator == "**" or (operator == "*" and not numbers):
                raise SecurityError("there is no **" if operator == "**" else "* is only for numbers")
            if operator == "%" and isinstance(left, str):
                _require_narrow(left)
            return _checked(super().call_binop(context, operator, left, right))

        def call(self, context: Context, called: Any, /, *args: Any, **kwargs: Any) -> Any:
            name = getattr(called, "__name__", "")
            if not isinstance(getattr(called, "__self__", None), str) or name not in _METHODS:
                raise SecurityError(f"only methods of text can be called, and of these {', '.join(sorted(_METHODS))}")
            return _checked(super().call(context, called, *args, **kwargs))

    def text(value: Any) -> Any:
        if not isinstance(value, str | int | float | Undefined):
            raise SecurityError(f"gives no text, but {type(value).__name__}")
        return value

    made = Bounded(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True, finalize=text)
    made.globals.clear()
    made.filters = {name: _bounded(made.filters[name]) for name in _FILTERS}
    made.filters["format"] = lambda pattern, *values: _checked(_require_narrow(pattern) % values)
    return made


def _require_narrow(pattern: str) -> str:
    """`pattern`, for the operator %, if no field of it can be wider than 999. Raises ValueError."""
    if re.search(r"[*]|[0-9]{4}", pattern):
        raise ValueError(f"the format {pattern!r} may be too wide")
    return pattern


def _bounded(call: Callable[..., Any]) -> Callable[..., Any]:
    # wraps takes over Jinja's marks, which say what else a filter wants.
    @wraps(call)
    def checked(*args: Any, **kwargs: Any) -> Any:
        return _checked(call(*args, **kwargs))

    return checked


def _checked(value: Any) -> Any:
    """`value`, if it is not too large to go on with. Raises ValueError."""
    if isinstance(value, int) and abs(value) > _LARGEST:
        raise ValueError(f"a number is larger than {_LARGEST}")
    if isinstance(value, str | list | tuple) and len(value) > _LONGEST:
        raise ValueError(f"a text is longer than {_LONGEST} characters")
    return value


def _undefined(message: str, values: Mapping[str, str]) -> str:
    found = _UNDEFINED.search(message)
    if not found:
        return f"the template fails: {message}"
    known = ", ".join(sorted(values))
    return (
        f"template variable {found[1]!r} is not defined (there are {known}){did_you_mean(found[1], values)}"
    )
