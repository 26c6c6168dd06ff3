"""Two compilers of one version: are they the same?"""

from __future__ import annotations

import pytest

from xbuild.base.errors import CheckError
from xbuild.build.canary.compilers import compare_answers

OWN = ["#define __ARM_ARCH 6", '#define __VERSION__ "14.2.0"', "\tmov r0, #0"]


def test_equal_answers() -> None:
    compare_answers(OWN, list(OWN))


def test_other_defaults() -> None:
    native = ["#define __ARM_ARCH 7", *OWN[1:]]
    with pytest.raises(CheckError, match="not its defaults") as caught:
        compare_answers(OWN, native)
    assert "-#define __ARM_ARCH 6" in caught.value.details
    assert "+#define __ARM_ARCH 7" in caught.value.details
    assert "compilers" in (caught.value.hint or "")


def test_no_answer_is_no_agreement() -> None:
    with pytest.raises(CheckError, match="nothing"):
        compare_answers([], [])
