"""pip, with the environment markers of a target: a script for the machine's own Python, which nobody imports.

pip takes tags of other platforms (`--platform`), but answers markers such as `platform_machine` for where it runs. So
does `install` with what a project says of the python that it needs, whatever `--python-version` says.
"""

from __future__ import annotations

import importlib
import json
import sys


def main() -> int:
    """Run pip with the words behind the first one, which is the markers as JSON."""
    markers = importlib.import_module("pip._vendor.packaging.markers")
    own = markers.default_environment
    asked = json.loads(sys.argv[1])
    setattr(markers, own.__name__, lambda: {**own(), **asked})
    candidates = importlib.import_module("pip._internal.resolution.resolvelib.candidates")
    python = candidates.RequiresPythonCandidate
    version = tuple(map(int, asked["python_full_version"].split(".")))
    set_version = python.__init__
    python.__init__ = lambda self, given: set_version(self, given or version)
    pip = importlib.import_module("pip._internal.cli.main")
    return int(pip.main(sys.argv[2:]))


if __name__ == "__main__":
    sys.exit(main())
