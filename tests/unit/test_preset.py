from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xbuild.base import paths
from xbuild.base.errors import RecipeError, UsageError
from xbuild.base.yamlfile import load_model
from xbuild.model.load import load_preset, load_presets
from xbuild.model.preset import Option, Phases, Preset, Value

TEXT = """\
schema: 1
name: sample
summary: s
build-directory: in-tree
options:
  some-args: {type: list, default: [], description: d}
  quick: {type: bool, default: false, description: d}
  flavour: {type: string, default: plain, description: d}
phases: {compile: make}
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "sample.yml"
    path.write_text(TEXT)
    return path


def test_presets_of_this_package() -> None:
    presets = load_presets()
    assert set(presets) == {"autoreconf", "autotools", "cmake", "debian", "make", "meson", "pyproject", "wheel"}
    assert {name for name, preset in presets.items() if preset.build_directory == "in-tree"} == {
        "autoreconf",
        "autotools",
        "make",
        "pyproject",
    }


@pytest.mark.parametrize("name", sorted(load_presets()))
def test_phases_are_shell_and_use_every_option(name: str) -> None:
    preset = load_presets()[name]
    scripts = [getattr(preset.phases, phase) for phase in Phases.model_fields]
    for script in scripts:
        subprocess.run(["sh", "-n", "-c", script], check=True)
    for variable in preset.environment({}):
        assert any(f"${variable}" in script for script in scripts)


@pytest.mark.parametrize("name", sorted(load_presets()))
def test_presets_do_not_say_what_the_machine_is(name: str) -> None:
    text = (paths.PRESETS / f"{name}.yml").read_text()
    assert not [
        word for word in ("--host", "--build=", "--target=", "--cross-file", "TOOLCHAIN") if word in text
    ]


def test_unknown_preset() -> None:
    with pytest.raises(UsageError, match=r"unknown preset 'mesno'; did you mean 'meson'\?"):
        load_preset("mesno")


def test_environment(file: Path) -> None:
    preset = load_model(file, Preset)
    assert preset.environment({}) == {"OPT_SOME_ARGS": "", "OPT_QUICK": "", "OPT_FLAVOUR": "plain"}
    given_options: dict[str, Value] = {"some-args": ("--a", "b c"), "quick": True, "flavour": "x y"}
    assert preset.environment(given_options) == {
        "OPT_SOME_ARGS": "--a 'b c'",
        "OPT_QUICK": "1",
        "OPT_FLAVOUR": "x y",
    }


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), max_size=5))
def test_a_list_reaches_the_shell_unchanged(items: list[str]) -> None:
    preset = load_presets()["autotools"]
    script = 'eval "set -- $OPT_CONFIGURE_ARGS"\nfor item in "$@"; do printf "%s\\0" "$item"; done'
    environment = preset.environment({"configure-args": tuple(items)})
    done = subprocess.run(["/bin/sh", "-eu", "-c", script], env=environment, capture_output=True, check=True)
    assert done.stdout.decode() == "".join(f"{item}\0" for item in items)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("type: list, default: []", "type: list, default: x",
         "6:3: options.some-args: default must be a list of text"),
        ("default: false", "default: [a]", "7:3: options.quick: default must be true or false"),
        ("default: plain", "default: true", "8:3: options.flavour: default must be text"),
        ("default: plain", "default: 7",
         "8:27: options.flavour.default: must be text, true, false or a list of text"),
        ("type: list, default: []", "type: list, default: [1]",
         "6:27: options.some-args.default: must be a list of text: quote 1"),
        ("type: bool", "type: boolean",
         "7:11: options.quick.type: 'boolean' is not one of list, string, bool"),
        ("some-args", "Some", "6:3: options.Some: must be lower-case letters, digits and -"),
        ("in-tree", "intree", "4:1: build-directory: 'intree' is not one of in-tree, out-of-tree;"
         " did you mean 'in-tree'?"),
        ("compile:", "comple:", "9:10: phases.comple: unknown field; did you mean 'compile'?"),
    ],
)  # fmt: skip
def test_bad_presets(file: Path, old: str, new: str, expected: str) -> None:
    file.write_text(TEXT.replace(old, new))
    with pytest.raises(RecipeError) as caught:
        load_model(file, Preset)
    (line,) = caught.value.details
    assert line.startswith(f"sample.yml:{expected}")


def test_refusal() -> None:
    option = Option(type="bool", default=False, description="d")
    assert option.refusal(True) is None
    assert option.refusal("yes") == "must be true or false"


@pytest.mark.parametrize("path", ["/build/reproducible-path/", "/build/less-Ab12/less-668", "/build/src/x"])
def test_a_directory_lies_two_levels_below_build(path: str) -> None:
    option = Option(type="directory", default=path, description="d")
    assert option.refusal(path) is None


@pytest.mark.parametrize(
    "path",
    ["", "/build", "/build/less", "/build/run/x", "/build/dest/x", "/tmp/a/b", "build/a/b", "/build/a/../../etc",
     "/build/../a/b", "/build/a/..", "/build/a/b c", "/build/a/b\n/c"],
)  # fmt: skip
def test_other_directories_are_refused(path: str) -> None:
    option = Option(type="directory", default="/build/a/b", description="d")
    assert option.refusal(path) is not None


def test_directories_of_options() -> None:
    preset = load_presets()["debian"]
    assert preset.directories({}) == ("reproducible-path",)
    assert preset.directories({"directory": "/build/less-Ab12/less-668"}) == ("less-Ab12",)
    assert load_presets()["make"].directories({}) == ()
