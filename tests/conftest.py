"""What all tests share."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.configuration import set_hypothesis_home_dir

from xbuild.doctor import reason_not_runnable

REQUIRED = os.environ.get("XBUILD_REQUIRE") == "1"
"""Set to 1 where everything has to work: there a test that is skipped has failed."""

# The checkout may be read-only, and what one run found must not decide what the next one tries. No deadline: the
# machine may be busy.
set_hypothesis_home_dir(Path(tempfile.gettempdir()) / f"xbuild-hypothesis-{os.getuid()}")
settings.register_profile("xbuild", database=None, deadline=None)
settings.load_profile("xbuild")


@pytest.fixture(scope="session")
def runnable() -> None:
    """Skips, with the reason, on a machine that cannot run builds."""
    if reason := reason_not_runnable():
        pytest.skip(reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make a skip a failure where it is forbidden."""
    report = yield
    if REQUIRED and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was to be skipped, but XBUILD_REQUIRE=1: {reason}"
    return report
