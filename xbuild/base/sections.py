"""Sections of a CI's log that can be folded, and what keeps a build's words from being taken for the CI's. Pure."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping


class Sections:
    """Writes nothing; gives what is to be written before and after a section. environment: os.environ."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._github = environment.get("GITHUB_ACTIONS") == "true"
        self._gitlab = environment.get("GITLAB_CI") == "true"
        # Between these, https://docs.github.com/actions/reference/workflow-commands-for-github-actions, a line of a
        # log that looks like a command to the runner is none.
        self._token = os.urandom(16).hex()

    @property
    def known(self) -> bool:
        """Whether this CI has sections."""
        return self._github or self._gitlab

    def begin(self, title: str) -> str:
        """What opens the section `title`, one line of plain text."""
        if self._github:
            return f"::group::{title}\n::stop-commands::{self._token}\n"
        return self._mark("start", title, title)

    def end(self, title: str) -> str:
        """What closes it."""
        return f"::{self._token}::\n::endgroup::\n" if self._github else self._mark("end", title, "")

    def _mark(self, what: str, title: str, text: str) -> str:
        # https://docs.gitlab.com/ci/jobs/job_logs/#custom-collapsible-sections
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", title)
        return f"\x1b[0Ksection_{what}:{int(time.time())}:xbuild_{name}\r\x1b[0K{text}\n"
