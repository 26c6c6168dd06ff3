"""The names of a step's files, and the table of phases that they are named by."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xbuild.build.stepfiles import StepFiles, accounted, logged, recorded
from xbuild.model.base import Model
from xbuild.model.phases import BUILDING, IN_SOURCE, KINDS, NOT_BUILDING, STEPS
from xbuild.model.preset import Phases
from xbuild.model.recipe import PartialBuild

COMPILE = StepFiles(2, "compile")
KINDS_OF_FILES = ("script", "log", "console", "record", "marks", "accounts")


def test_names_of_a_phase() -> None:
    names = ["02-compile.sh", "02-compile.log", "02-compile.console", "02-compile", "02-compile.marks"]
    names += ["02-compile.cpu.json"]
    assert [getattr(COMPILE, kind) for kind in KINDS_OF_FILES] == names


@given(st.one_of(st.none(), st.integers(0, 120)), st.sampled_from((*STEPS, "check-sandbox", "distccd", "a.b")))
def test_what_is_made_is_read_again(number: int | None, step: str) -> None:
    files = StepFiles(number, step)
    assert [StepFiles.named(getattr(files, kind)) for kind in KINDS_OF_FILES] == [files] * len(KINDS_OF_FILES)


def test_they_sort_in_the_order_of_the_steps() -> None:
    names = [StepFiles(number, step).name for number, step in enumerate(STEPS)]
    assert names == sorted(names)
    assert names[:2] == ["00-unpack", "01-fetch"]


def test_what_is_there(tmp_path: Path) -> None:
    install, again = StepFiles(3, "install"), StepFiles(None, "check-sandbox")
    for name in (install.log, again.log, COMPILE.log, "distcc.log", COMPILE.console, COMPILE.script):
        (tmp_path / name).touch()
    assert logged(tmp_path) == [COMPILE, install, again, StepFiles(None, "distcc")]
    assert recorded(tmp_path) == accounted(tmp_path) == []
    for name in (install.record, COMPILE.record, install.accounts):
        (tmp_path / name).touch()
    assert (recorded(tmp_path), accounted(tmp_path)) == ([COMPILE, install], [install])
    assert logged(tmp_path / "missing") == []


@pytest.mark.parametrize(("model", "affixes"), [(Phases, ("",)), (PartialBuild, ("", "before_", "after_"))])
def test_files_have_a_field_for_each_phase(model: type[Model], affixes: tuple[str, ...]) -> None:
    """What a preset and a recipe can say, as the table says it, in its order."""
    names = [kind.name for kind in KINDS if kind.preset]
    fields = [name for name in model.model_fields if name.rpartition("_")[2] in names]
    assert sorted(fields) == sorted(f"{affix}{name}" for affix in affixes for name in names)
    assert [name for name in fields if name in names] == names


def test_presets_tell_where_their_phases_run() -> None:
    told = {name: f"{field.description}" for name, field in Phases.model_fields.items()}
    assert {name for name, text in told.items() if text.startswith("Run in the source directory")} == (
        {kind.name for kind in KINDS if kind.preset} & IN_SOURCE
    )


def test_each_step_is_for_building_or_not() -> None:
    assert {*BUILDING, *NOT_BUILDING, "prepare"} == {*STEPS}
    assert not {*BUILDING} & {*NOT_BUILDING}
