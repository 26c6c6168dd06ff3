"""Whose scripts an interpreter's twin runs: what goes into the table, and what the shipped policy asks for where."""

from __future__ import annotations

from pathlib import Path

import pytest

from xbuild.base import paths
from xbuild.base.yamlfile import load_model
from xbuild.dispatcher.table import Entry
from xbuild.formats.debian import Tree
from xbuild.model.policy import Policy
from xbuild.model.toolchain import Toolchain
from xbuild.twins.scripts import slots

PYTHON = "/usr/bin/python3.13"
SCRIPTS = {
    "/usr/bin/meson": "#!/usr/bin/python3\n",
    "/usr/share/dh-python/pybuild": "#! /usr/bin/python3\n",
    "/usr/bin/scons": "#!/usr/bin/python3\n",
    "/usr/bin/program": "\x7fELF",
    "/usr/share/dh-python/other": "#!/usr/bin/python3\n",
}


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_model(paths.PACKAGE / "policies/default.yml", Policy)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    info = tmp_path / "var/lib/dpkg/info"
    info.mkdir(parents=True)
    (info / "a.list").write_text("".join(f"{path}\n" for path in (*SCRIPTS, "/usr/bin/pybuild")))
    (tmp_path / "var/lib/dpkg/status").write_text(
        "Package: a\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n"
    )
    for path, text in {**SCRIPTS, "/usr/bin/nobodys": "#!/usr/bin/python3\n"}.items():
        place = tmp_path / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    (tmp_path / "usr/bin/pybuild").symlink_to("../share/dh-python/pybuild")
    (tmp_path / "usr/bin/gone").symlink_to("nowhere")
    return Tree([tmp_path])


def test_scripts_of_packages_have_a_slot(tree: Tree, policy: Policy) -> None:
    """By the real path; not what runs a project's own code, a program, what no package has, nor what is in no PATH."""
    entries = slots(tree, policy, ["python3"], as_packaged=False)
    assert [(entry.path, entry.script) for entry in entries] == [
        ("/usr/bin/meson", True),
        ("/usr/share/dh-python/pybuild", True),
    ]
    place = tree.find("/usr/bin/meson")
    assert place is not None
    state = place.stat()
    assert entries[0] == Entry(
        "/usr/bin/meson", "", size=state.st_size, ctime=divmod(state.st_ctime_ns, 1_000_000_000), script=True
    )


def test_where_the_owner_may_have_changed_them_the_package_tells(tree: Tree, policy: Policy) -> None:
    assert slots(tree, policy, ["python3"], as_packaged=True) == ()


@pytest.mark.parametrize(
    ("target", "added", "asked"), [("armhf", False, True), ("armhf", True, False), ("arm64", False, False)]
)
def test_whose_script_it_is_counts_where_words_are_narrow(
    policy: Policy, target: str, added: bool, asked: bool
) -> None:
    toolchain = load_model(paths.PACKAGE.parent / f"toolchains/{target}.yml", Toolchain)
    rules = policy.tools["python3"].further_for(PYTHON, toolchain.triplet, toolchain.traits, added=added)
    assert any(known.script_options for known in rules) is asked
