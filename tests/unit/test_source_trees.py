"""Source packages that are directories or git repositories."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.commands import Run
from xbuild.base.errors import SourceError, UsageError
from xbuild.packages.recipe import Options, recipe_text
from xbuild.packages.source import require_for
from xbuild.packages.tree import of_directory, of_git
from xbuild.store.local import Store

PACKAGE = Path(__file__).parents[1] / "e2e" / "data" / "debian-package"


@pytest.fixture
def hail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(PACKAGE, tmp_path / "hail")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "hail"


def git(path: Path, *words: str) -> str:
    own = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    who = {f"GIT_{role}_{what}": "me@here" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    done = subprocess.run(
        ["git", "-C", path, *words], env={**os.environ, **own, **who}, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_a_directory_is_a_package_as_it_is_now(hail: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = of_directory("./hail")
    assert package is not None
    assert (package.name, package.version, package.directory) == ("hail", "1.0", hail)
    assert [(binary.name, binary.architectures) for binary in package.binaries] == [
        ("hail", ("any",)), ("libhail0", ("any",))
    ]  # fmt: skip
    require_for(package, "armhf", independent=False)
    with pytest.raises(UsageError, match="makes no package of Architecture: all"):
        require_for(package, "armhf", independent=True)
    recipe = yaml.safe_load(recipe_text(package, Options()))
    assert recipe["sources"] == [{"path": str(hail)}]
    assert recipe["build"] == {"preset": "debian", "options": {"build": "any"}, "incremental": True}
    assert recipe["depends"]["packages"] == ["debhelper-compat (= 13)"]
    edited = (hail / "debian/control").read_text().replace(
        "Package: hail\n", "Package: hail\nBuild-Profiles: <!nodoc !stage1> <pkg.hail.x>\n"
    )
    (hail / "debian/control").write_text(edited)
    edited_package = of_directory("./hail")
    assert edited_package is not None
    assert edited_package.binaries[0].profiles == "!nodoc,!stage1+pkg.hail.x"
    # A word that can be a package of the archive's is one.
    assert of_directory("hail") is None
    assert of_directory("./none") is None
    monkeypatch.chdir(hail)
    here = of_directory(".")
    assert here is not None
    assert here.directory == hail


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        ("changelog", None, "no source package: it has no debian/changelog"),
        ("rules", None, "no source package: it has no debian/rules"),
        ("changelog", "hail 1.0\n", "debian/changelog does not begin with an entry"),
        ("control", "Source hail\n", "debian/control: line 1: no field"),
        ("control", "", "debian/control"),
    ],
)
def test_what_is_no_source_package_is_told(hail: Path, file: str, text: str | None, told: str) -> None:
    place = hail / "debian" / file
    if text is None:
        place.unlink()
    else:
        place.write_text(text)
    with pytest.raises(UsageError, match=told):
        of_directory("./hail")


def test_a_file_of_debian_that_is_none_is_not_waited_for(hail: Path) -> None:
    place = hail / "debian" / "control"
    place.unlink()
    os.mkfifo(place)
    with pytest.raises(UsageError, match="control: cannot be read: it is a fifo, not a file"):
        of_directory("./hail")
    place.unlink()
    place.symlink_to("rules")
    with pytest.raises(UsageError, match="debian/control"):
        of_directory("./hail")


def test_a_repository_is_fetched_as_it_is_now(hail: Path, tmp_path: Path) -> None:
    store, address = Store(tmp_path / "store"), f"file://{hail}"
    git(hail, "init", "--quiet", "--initial-branch=main")
    git(hail, "add", ".")
    git(hail, "commit", "--quiet", "--message=1")
    git(hail, "tag", "--annotate", "--message=t", "debian/1.0")
    first = git(hail, "rev-parse", "HEAD")
    package = of_git(address, store)
    assert package is not None
    assert package.checked == f"commit {first[:12]}"
    assert package.directory is not None
    assert package.directory.is_relative_to(store.root)
    assert (package.directory / "word.c").read_text() == (hail / "word.c").read_text()
    changelog = hail / "debian" / "changelog"
    changelog.write_text(changelog.read_text().replace("(1.0)", "(2:1.1-1)"))
    (hail / "word.c").unlink()
    git(hail, "commit", "--quiet", "--all", "--message=2")

    def version(word: str) -> str:
        found = of_git(word, store)
        assert found is not None
        assert found.directory is not None
        assert (found.directory / "word.c").exists() == (found.version == "1.0")
        return found.file_version

    assert version(address) == "1.1-1"
    assert version(f"{address}#debian/1.0") == "1.0"
    assert version(f"{address}#main") == "1.1-1"
    assert version(f"{address}#{first}") == "1.0"
    assert of_git("./hail", store) is None
    with pytest.raises(SourceError, match="has no branch or tag 'none'"):
        of_git(f"{address}#none", store)
    with pytest.raises(SourceError, match="cannot be asked"):
        of_git(f"{address}-none", store)


def test_options_of_the_command_line(hail: Path, xbuild: Run) -> None:
    def options(*words: str) -> Any:
        (said,) = xbuild("deb", str(hail), "--recipe", "--json", *words).value["packages"]
        recipe = yaml.safe_load(said["text"])
        return recipe["build"]["options"], recipe["depends"]["profiles"]

    assert options() == ({"build": "any"}, [])
    # What a profile leaves out, rules are told as well.
    words = ["nodoc", "pkg.hail.x", "nocheck"]
    known = {"build": "any", "profiles": words, "build-options": ["nocheck", "nodoc"]}
    assert options("--profiles", "nodoc,pkg.hail.x", "--nocheck") == (known, words)
    assert "+b2) " in options("--binnmu", "2: Rebuild with x")[0]["binnmu"]
    control = hail / "debian/control"
    control.write_text(control.read_text() + "\nPackage: hail-doc\nArchitecture: all\nDescription: words\n")
    assert options("--all", "--any")[0] == {"build": "both"}
    refused = xbuild("deb", str(hail), "--recipe", "--all", "--binnmu", "1")
    assert (refused.code, "not for those of Architecture: all" in refused.err) == (2, True)
