"""Projects without a recipe: what is recognised, what is written, what changes in a tree that stays."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from xbuild.base.errors import RecipeError, SourceError, UsageError
from xbuild.build.environment import WorkPlace
from xbuild.build.kept import Kept, begins_anew, configures
from xbuild.build.plan import Step
from xbuild.model.load import load_presets, load_recipe, load_toolchain
from xbuild.projects import add_packages, is_own, recipe_of, recipe_word, recognise, write_recipe
from xbuild.sources.local import look
from xbuild.store.local import Store

PROJECT = Path(__file__).resolve().parents[2]
EXAMPLES = PROJECT / "tests" / "e2e" / "projects"
VERSIONS = {"cmake": "1.4.2", "meson": "0.3", "autotools": "0", "autoreconf": "2.1", "make": "0", "pyproject": "0.9"}
needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.mark.parametrize("name", sorted(VERSIONS))
def test_examples_are_recognised(name: str) -> None:
    found = recognise(EXAMPLES / name)
    assert (found.name, found.preset, found.version, found.others) == (name, name, VERSIONS[name], ())


def test_every_preset_that_can_be_recognised_has_an_example() -> None:
    assert {name for name, preset in load_presets().items() if preset.recognised} == set(VERSIONS)


@pytest.mark.parametrize(
    ("files", "preset", "others"),
    [
        (["Makefile", "CMakeLists.txt"], "cmake", ("make",)),
        (["configure", "configure.ac", "Makefile.in"], "autotools", ()),
        (["pyproject.toml", "setup.py", "meson.build"], "meson", ("pyproject",)),
        (["GNUmakefile", "src/CMakeLists.txt"], "make", ()),
    ],
)
def test_of_several_the_likeliest_is_taken(
    tmp_path: Path, files: list[str], preset: str, others: tuple[str, ...]
) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = recognise(tmp_path)
    assert (found.preset, found.others) == (preset, others)
    chosen = recognise(tmp_path, "make")
    assert (chosen.preset, set(chosen.others)) == ("make", {preset, *others} - {"make"})


@pytest.mark.parametrize(
    ("directory", "name"),
    [("My Project", "my-project"), ("-x-", "x"), ("\n'\"", "project"), ("a" * 200, "a" * 60)],
)
def test_names_of_directories(tmp_path: Path, store: Store, directory: str, name: str) -> None:
    top = tmp_path / directory
    top.mkdir()
    (top / "Makefile").touch()
    file = recipe_of(top, store)
    assert file.name == f"{name}.yml"
    recipe = load_recipe(str(file), load_toolchain("armhf", PROJECT), PROJECT)
    assert (recipe.name, recipe.sources[0].path, recipe.build.incremental) == (name, str(top), True)
    assert is_own(str(file), store)
    assert not is_own("zlib", store)


@pytest.mark.parametrize("text", ["VERSION 1 2", "project(x VERSION ../x)", f"project(x VERSION {'1' * 100})", "\xff"])
def test_versions_that_are_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "CMakeLists.txt").write_bytes(text.encode("latin-1"))
    assert recognise(tmp_path).version == "0"


def test_a_directory_that_no_recipe_can_name(tmp_path: Path, store: Store) -> None:
    (tmp_path / "\udcff").mkdir()
    with pytest.raises(UsageError, match="is not UTF-8"):
        recipe_of(tmp_path / "\udcff", store)


def test_a_build_file_that_is_none_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "CMakeLists.txt")
    assert recognise(tmp_path).version == "0"


@pytest.mark.parametrize(
    ("word", "said"), [("no.tar.gz", "there is no archive"), ("notes", "is no recipe, and no archive")]
)
def test_files_that_cannot_be_built(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, word: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes").write_text("all:\n")
    with pytest.raises(UsageError, match=said) as caught:
        recipe_word(word, tmp_path, lambda: store)
    assert "an archive" in str(caught.value.hint)


def test_a_preset_is_for_what_has_no_recipe(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zlib").mkdir()
    for word in ("zlib", "own.yml", "./own.yml"):
        with pytest.raises(UsageError, match="names a recipe"):
            recipe_word(word, tmp_path, lambda: store, "make")
        assert recipe_word(word, tmp_path, lambda: store) == word
    assert is_own(recipe_word("./zlib", tmp_path, lambda: store, "make"), store)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read all")
@pytest.mark.parametrize("mode", [0o600, 0o300, 0])
def test_a_directory_that_cannot_be_read(tmp_path: Path, store: Store, mode: int) -> None:
    top = tmp_path / "closed"
    top.mkdir(mode=mode)
    for ask in (lambda: recipe_word(str(top), tmp_path, lambda: store), lambda: write_recipe(top, store)):
        with pytest.raises(UsageError, match="closed: the directory cannot be read"):
            ask()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read all")
def test_a_directory_without_a_build_file_is_not_read_through(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "Makefile").touch()
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises(UsageError, match="no build system"):
        recognise(tmp_path)
    (tmp_path / "Makefile").touch()
    with pytest.raises(SourceError, match="closed: Permission denied"):
        recognise(tmp_path)


def test_what_has_no_build_system(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no build system is recognised") as caught:
        recognise(tmp_path)
    assert "cmake: CMakeLists.txt" in caught.value.details
    (tmp_path / "debian").mkdir()
    (tmp_path / "debian" / "control").touch()
    with pytest.raises(UsageError) as caught:
        recognise(tmp_path)
    assert "deb" in str(caught.value.hint)


def test_words_for_recipes(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zlib").mkdir()
    for name in ("zlib", "mine"):
        shutil.copytree(EXAMPLES / "make", tmp_path / name, dirs_exist_ok=True)

    def word(text: str, preset: str | None = None) -> str:
        return recipe_word(text, PROJECT, lambda: store, preset)

    assert (word("zlib"), word("none"), word("x/none.yml")) == ("zlib", "none", "x/none.yml")
    assert [Path(word(text)).name for text in ("mine", "./zlib", "mine/")] == ["mine.yml", "zlib.yml", "mine.yml"]
    monkeypatch.chdir(tmp_path / "mine")
    assert word("") == word(".") == word("../mine")
    add_packages(Path(word("")), ["libx-dev"])
    add_packages(Path(word("")), ["liba-dev"])
    armhf = load_toolchain("armhf", PROJECT)
    assert load_recipe(word(""), armhf, PROJECT).depends.packages == ("liba-dev", "libx-dev")
    assert word("../mine") != word("../zlib")
    written = write_recipe(tmp_path / "mine", store)
    assert word("") == "recipes/mine.yml"
    begun = load_recipe(str(written), armhf, PROJECT)
    assert (begun.build.preset, begun.depends.packages) == ("make", ("liba-dev", "libx-dev"))
    with pytest.raises(UsageError, match="is there already"):
        write_recipe(tmp_path / "mine", store)
    (tmp_path / "mine" / "recipes" / "more.yml").touch()
    with pytest.raises(UsageError, match="several recipes"):
        word("")
    assert "projects" in word("", "make")


def test_an_archive_is_a_project(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, top in (("one-1.0.tar.gz", "one-1.0"), ("flat.tar", ".")):
        with tarfile.open(tmp_path / name, "w:gz") as tar:
            tar.add(EXAMPLES / "make", top)
        words = {recipe_word(str(tmp_path / name), PROJECT, lambda: store) for _ in range(2)}
        (word,) = words
        recipe = load_recipe(word, load_toolchain("armhf", PROJECT), PROJECT)
        assert sorted(path.name for path in Path(str(recipe.sources[0].path)).iterdir()) == [
            "Makefile", "greet.c", "greet.h", "main.c",
        ]  # fmt: skip
    (tmp_path / "bad.tar").write_text("none")
    with pytest.raises(SourceError, match="damaged"):
        recipe_word(str(tmp_path / "bad.tar"), PROJECT, lambda: store)


@needs_git
def test_a_repository_is_a_project(tmp_path: Path, store: Store) -> None:
    top = tmp_path / "mine.git"
    shutil.copytree(EXAMPLES / "make", top)
    git = ["git", "-C", str(top), "-c", "user.name=a", "-c", "user.email=a"]

    def save() -> None:
        for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message=x"]):
            subprocess.run([*git, *words], check=True)

    save()
    word = recipe_word(f"file://{top}", PROJECT, lambda: store)
    tree = Path(str(load_recipe(word, load_toolchain("armhf", PROJECT), PROJECT).sources[0].path))
    assert (Path(word).name, tree.name) == ("mine.yml", "mine")
    (top / "new").touch()
    (tree / "local").touch()
    save()
    assert recipe_word(f"file://{top}", PROJECT, lambda: store) == word
    assert (tree / "new").exists()
    with pytest.raises(SourceError, match="cannot be fetched"):
        recipe_word(f"file://{tmp_path}/none.git", PROJECT, lambda: store)


def test_incremental_wants_one_path(tmp_path: Path) -> None:
    file = tmp_path / "x.yml"
    text = "schema: 1\nname: x\nversion: '1'\nbuild: {preset: make, incremental: true}\n"
    file.write_text(text + "sources: [{path: .}]\n")
    armhf = load_toolchain("armhf", PROJECT)
    assert load_recipe(str(file), armhf, PROJECT).outputs == ()
    file.write_text(text + "sources: [{path: .}, {path: x}]\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(str(file), armhf, PROJECT)
    assert "wants one source, a path" in caught.value.details[0]


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kept:
    """The state of a tree; whose the place is does not matter here."""
    place = WorkPlace(tmp_path / "place")
    place.source.mkdir(parents=True)
    monkeypatch.setattr(WorkPlace, "strange", False)
    return Kept(place, "base")


def test_what_changed_since_the_tree_was_made(tmp_path: Path, kept: Kept) -> None:
    top = tmp_path / "top"
    top.mkdir()
    for name in ("same", "edited", "gone", "script", "link\udcff"):
        (top / name).write_text(name, errors="surrogateescape")
    assert not kept.there
    kept.note(look(top).records, ())
    step = Step("configure", "")
    kept.done(step)
    again = Kept(kept._place, "base")
    assert (again.there, again.ready) == (True, ("configure",))
    assert str(again.change(look(top))) == "nothing changed"
    assert not Kept(kept._place, "other").there
    (top / "edited").write_text("other")
    (top / "gone").unlink()
    (top / "script").chmod(0o755)
    (top / "link\udcff").unlink()
    (top / "link\udcff").symlink_to("same")
    os.utime(top / "same", (1, 1))
    change = again.change(look(top))
    assert (change.written, change.gone, change.renamed) == ((b"edited", b"link\xff", b"script"), (b"gone",), True)
    again.begun(step)
    assert Kept(kept._place, "base").ready == ()
    (kept._place.path / "kept.json").write_text("{}")
    assert not Kept(kept._place, "base").there


def test_what_a_change_comes_to(tmp_path: Path, kept: Kept) -> None:
    (tmp_path / "sub").mkdir()

    def come_to(preset: str, *names: str) -> tuple[bool, bool]:
        kept.note(look(tmp_path / "sub").records, ())
        for name in names:
            with (tmp_path / "sub" / name).open("a") as stream:
                stream.write("x")
        how = load_presets()[preset].incremental
        change = kept.change(look(tmp_path / "sub"))
        return begins_anew(how, change), configures(how, change)

    assert come_to("make", "a.c") == (False, False)
    assert come_to("make", "a.h") == (True, False)
    assert come_to("cmake", "b.c") == (False, True)
    assert come_to("cmake", "b.c", "a.h") == (False, False)
    assert come_to("autotools", "configure") == (False, True)
    assert come_to("pyproject", "new.py") == (True, False)
    assert come_to("pyproject", "new.py") == (False, False)
