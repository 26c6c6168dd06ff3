"""What is to be in a root, as Debian writes it: names of packages, and relations as in Build-Depends."""

from __future__ import annotations

import re
from typing import Annotated

from xbuild.model.base import text_like

_PACKAGE = r"[a-z0-9][a-z0-9+.-]+"
# As deb-src-control(5) has it. A part matches in one way only.
_ONE = (
    rf"{_PACKAGE}(:[a-z0-9-]+)?( *\( *(<<|<=|<|=|>=|>>|>) *[0-9A-Za-z.+~:-]+ *\))?"
    r"( *\[ *!?[a-z0-9-]+( +!?[a-z0-9-]+)* *\])?( *< *!?[a-z0-9+.-]+( +!?[a-z0-9+.-]+)* *>)*"
)

Relation = Annotated[
    str,
    *text_like(
        rf"(Conflicts: *)?{_ONE}( *\| *{_ONE})*",
        "the name of a distribution package, or a relation such as 'libfoo-dev (>= 2) | libbar-dev'",
    ),
]
"""One part of Build-Depends, or of Build-Conflicts with `Conflicts:` before it."""

Profile = Annotated[str, *text_like(r"[a-z0-9][a-z0-9+.-]*", "a build profile such as nocheck")]
"""One word of DEB_BUILD_PROFILES."""


def is_name(relation: str) -> bool:
    """Whether a `Relation` is no more than the name of a package."""
    return re.fullmatch(_PACKAGE, relation) is not None
