"""A kill while a sandbox is being made: when it changes its user the kernel forgets with whom it is to die."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.integration.test_sandbox import sleepers, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("runnable")]

# Stands in for enter.py, and takes half a second where that has a moment.
_SLOW = """
import os, sys, time
from pathlib import Path
sys.path.insert(0, {checkout!r})
from xbuild.sandbox import enter
become_root = enter._become_root
def slowly():
    Path({here!r}).write_text(str(os.getpid()))
    become_root()
    time.sleep(0.5)
enter._become_root = slowly
enter.main()
"""
_RUN = """
import sys
from xbuild.sandbox import run
run._ENTER = sys.argv[1]
run.run(run.machine_view(), ["sleep", sys.argv[2]])
"""


def test_a_killed_one_leaves_no_sandbox_that_was_being_made(tmp_path: Path) -> None:
    here, slow = tmp_path / "here", tmp_path / "enter.py"
    slow.write_text(textwrap.dedent(_SLOW.format(checkout=str(Path(__file__).parents[2]), here=str(here))))
    # By its length no other sleep on the machine.
    seconds = f"9{abs(hash(str(tmp_path))):020}"[:16]
    with subprocess.Popen([sys.executable, "-c", _RUN, slow, seconds]) as parent:
        try:
            assert wait_until(lambda: here.exists() and here.read_text() != "", 20)
        finally:
            parent.kill()
    assert wait_until(lambda: not Path("/proc", here.read_text()).exists(), 5)
    assert sleepers(seconds) == []
