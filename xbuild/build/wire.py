"""Our dataclasses as JSON and back: what is to cross to another machine is written and read here."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from xbuild.base.errors import UsageError

T = TypeVar("T")


def as_json(value: Any) -> Any:
    """A dataclass as what JSON has: objects, lists, texts, numbers."""
    return TypeAdapter(type(value)).dump_python(value, mode="json")


def from_json(kind: type[T], value: Any) -> T:
    """What `as_json` was given. Raises UsageError if `value` is not one of `kind`, with all that is wrong."""
    try:
        return TypeAdapter(kind).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        details = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        message, hint = f"this is no {kind.__name__.lower()} of a build", "was it written by another xbuild?"
        raise UsageError(message, details=details, hint=hint) from error
