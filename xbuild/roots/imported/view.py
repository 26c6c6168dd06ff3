"""Where somebody else's archives and images are read: a sandbox that shows one source, nothing else of the user's."""

from __future__ import annotations

import errno
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xbuild.base import paths, process
from xbuild.base.errors import MachineError, UsageError
from xbuild.sandbox import idmap, unpack
from xbuild.sandbox.mounts import Bind
from xbuild.sandbox.run import ROOT_PATH, Sandbox, capture, give_tree
from xbuild.sandbox.view import TMP, RootView

SOURCE, SCRATCH, TREE = "/source", "/scratch", "/tree"
"""Where, inside, the source, a directory for what is in between, and the tree to be filled are."""

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_CHECK = "check where it came from; what is refused is in no honest root"


@dataclass(frozen=True)
class Workshop:
    """A directory of the store, outside, in which a root is made. title: the source, for messages."""

    path: Path
    title: str

    @property
    def scratch(self) -> Path:
        """What is in between: blobs, a decompressed image."""
        return self.path / "scratch"

    @property
    def tree(self) -> Path:
        """What becomes the root."""
        return self.path / "tree"

    def make(self) -> None:
        """Make the directories."""
        for path in (self.path, self.scratch, self.tree, self.path / "view"):
            if not path.exists():
                path.mkdir()
                path.chmod(0o755)
        idmap.own(self.path)
        give_tree(0, tops=[self.scratch, self.tree])

    def sandbox(self, source: Path | None = None) -> Sandbox:
        """Without network; the machine's programs are read-only. source: shown at SOURCE."""
        shown = [place for place in _SYSTEM if Path(place).exists()]
        # A Python of the user's own, and our package, which holds the script.
        shown += [sys.base_prefix] if not sys.base_prefix.startswith("/usr") else []
        binds = [Bind(place, place, readonly=True) for place in (*shown, str(paths.PACKAGE))]
        binds += [Bind(str(self.scratch), SCRATCH), Bind(str(self.tree), TREE)]
        binds += [Bind(str(source), SOURCE, readonly=True)] if source else []
        view = RootView(proc=False, empty=(TMP,), shown=tuple(binds))
        env = {"PATH": ROOT_PATH, "LC_ALL": "C.UTF-8"}
        return Sandbox(mounts=view.mounts(), mount_point=self.path / "view", env=env, locked=True)

    def says(self, command: list[str], source: Path | None = None) -> tuple[int, list[str]]:
        """The returncode and the lines of a program of the machine, which sees `source`."""
        code, said = capture(self.sandbox(source), command)
        return code, said.decode(errors="surrogateescape").splitlines()

    def job(self, do: str, source: Path | None = None, **words: Any) -> dict[str, Any]:
        """Run a job of sandbox/unpack.py; give its report.

        Raises UsageError if the source is at fault, MachineError if the disk is full or a program is missing.
        """
        text = json.dumps({"do": do, **words})
        python = os.path.realpath(sys.executable)
        command = [python, "-I", "-S", str(unpack.__file__), text]
        code, said = capture(self.sandbox(source), command)
        head, _, last = said.decode(errors="replace").rpartition(unpack.MARK)
        if not head and not last.startswith("{"):
            raise MachineError(f"{self.title} could not be read: {process.describe_exit(code)}", details=[last[-2000:]])
        report: dict[str, Any] = json.loads(last)
        if "error" in report:
            self._raise(report)
        return report

    def _raise(self, report: dict[str, Any]) -> None:
        number, message = report.get("errno"), report["message"]
        if number in _FULL:
            # The store's own message for it, from whoever holds `writing_below`.
            raise OSError(number, message)
        if report["error"] == "refused":
            raise UsageError(f"{self.title}: refused: {message}", hint=_CHECK)
        if report["error"] == "damaged":
            hint = "it is cut off or corrupt: get it again, and compare its checksum"
            raise UsageError(f"{self.title}: damaged: {message}", hint=hint)
        raise UsageError(f"{self.title}: {message}", hint="is it complete, and may you read all of it?")
