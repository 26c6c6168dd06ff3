"""Entries for the whole machine, with a private binfmt_misc in the place of the machine's."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.conftest import Armhf
from xbuild.base.paths import PACKAGE
from xbuild.sandbox.run import capture, machine_view

pytestmark = pytest.mark.integration


def test_install_and_remove(armhf: Armhf) -> None:
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": str(PACKAGE.parent), "LC_ALL": "C.UTF-8"}
    script = Path(__file__).with_name("binfmt_installing.py")
    sandbox = replace(machine_view(), env=env)
    code, said = capture(sandbox, [sys.executable, script, armhf.natives.private / "qemu"])
    assert code == 0, said.decode()
