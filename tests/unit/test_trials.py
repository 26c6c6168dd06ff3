"""What is asked about packages that were built."""

from __future__ import annotations

import pytest

from xbuild.base.errors import CheckError, UsageError
from xbuild.packages.trials import Trial, Trials, trials_of


def test_trials_by_name() -> None:
    assert trials_of(()) == Trials()
    assert trials_of(["install", "lintian", "install"]) == Trials(("install", "lintian"))
    assert trials_of(["autopkgtest"]).names == ("autopkgtest",)
    assert trials_of(["lintian=fail"]) == Trials(("lintian",), strict=True)
    with pytest.raises(UsageError, match="no trial 'lintain'; did you mean 'lintian'"):
        trials_of(["lintain"])


def test_what_does_not_pass_ends_with_exit_code_5() -> None:
    Trial("install", True, ()).require()
    with pytest.raises(CheckError, match="trial install: it did not pass") as caught:
        Trial("install", False, ("xbuild: left or changed: f /etc/x",)).require()
    assert caught.value.exit_code == 5
    assert caught.value.details == ("xbuild: left or changed: f /etc/x",)
