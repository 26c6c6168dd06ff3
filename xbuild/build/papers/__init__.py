"""Papers about what was built, in forms that others read: what went into it (SPDX), how it came to be (in-toto).

They are made of the manifest and of the archive alone, and are the same each time.
"""

from xbuild.build.papers.intoto import provenance
from xbuild.build.papers.spdx import sbom

ENDINGS = {"sbom": ".spdx.json", "provenance": ".intoto.json"}
"""How the names of the papers' files end."""

__all__ = ["ENDINGS", "provenance", "sbom"]
