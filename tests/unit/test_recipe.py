from __future__ import annotations

import re
import shutil
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xbuild.base.errors import EXIT_USAGE, RecipeError, UsageError
from xbuild.base.yamlfile import Node
from xbuild.model.load import load_presets, load_recipe, load_toolchain, patches_directory, recipe_names, recipe_path
from xbuild.model.overrides import merge
from xbuild.model.phases import Phase, resolve_phases
from xbuild.model.recipe import Recipe

CHECKOUT = Path(__file__).parents[2]
SHA = "a" * 64
PRESETS = ", ".join(load_presets())
HEAD = 'schema: 1\nname: demo\nversion: "1.2.3"\nsummary: s\nlicense: MIT\n'
SOURCES = f"sources: [{{url: 'https://x.test/{{{{ name }}}}-{{{{ version }}}}.tar', sha256: {SHA}}}]\n"
BUILD = "build: {preset: autotools}\n"
OUTPUTS = "outputs: [{path: usr/bin/demo}]\n"
GOOD = HEAD + SOURCES + BUILD + OUTPUTS


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(CHECKOUT / "toolchains", tmp_path / "toolchains")
    (tmp_path / "recipes").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(project: Path, text: str, target: str = "armhf") -> Recipe:
    (project / "recipes" / "demo.yml").write_text(text)
    return load_recipe("demo", load_toolchain(target, project), project)


def errors(project: Path, text: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load(project, text)
    assert caught.value.exit_code == EXIT_USAGE
    return [line.removeprefix("recipes/demo.yml:") for line in caught.value.details]


def test_smallest_recipe(project: Path) -> None:
    recipe = load(project, GOOD)
    assert recipe.sources[0].url == "https://x.test/demo-1.2.3.tar"
    assert (recipe.idle_limit, recipe.check, recipe.env) == (900, None, {})


@pytest.mark.parametrize("target", ["armhf", "arm64", "amd64"])
@pytest.mark.parametrize("name", recipe_names(CHECKOUT))
def test_recipes_of_this_project(name: str, target: str) -> None:
    recipe = load_recipe(name, load_toolchain(target, CHECKOUT), CHECKOUT)
    assert "{{" not in recipe.model_dump_json()
    assert {"compile", "install"} <= {phase.name for phase in resolve_phases(recipe, load_presets())}


@pytest.mark.parametrize("name", recipe_names(CHECKOUT))
def test_recipes_of_this_project_know_nothing_of_cross_compilation(name: str) -> None:
    text = (CHECKOUT / "recipes" / f"{name}.yml").read_text()
    assert not [word for word in ("--host", "--build=", "--target", "ac_cv_", "gnueabi", "cross") if word in text]
    assert len(text.splitlines()) <= 40


def test_the_variant_of_python_is_python_but_for_what_its_page_names() -> None:
    armhf = load_toolchain("armhf", CHECKOUT)
    python, native = (load_recipe(name, armhf, CHECKOUT) for name in ("python", "python-native"))
    assert {*native.depends.packages} - {*python.depends.packages} == {"python3"}
    page = (CHECKOUT / "docs/how-to/add-a-recipe.md").read_text()
    words = native.build.options.pop("install-args")
    assert isinstance(words, tuple)
    assert words[0] in page
    changed = {"name", "summary", "depends", "env", "twins", "outputs"}
    assert python.model_dump(exclude=changed) == native.model_dump(exclude=changed)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD.replace('"1.2.3"', "1.2"), "3:1: version: must be quoted: YAML read 1.2, a number"),
        (GOOD.replace("schema: 1", "schema: 2") + "news: 1\n",
         "1:1: schema: schema 2 needs a newer xbuild: this one reads schema 1"),
        (GOOD.replace("name: demo", "name: dmo"), "2:1: name: must be 'demo', as the file is called"),
        (GOOD.replace(SHA, "a" * 63),
         f"6:64: sources.0.sha256: must be 64 lower-case hex digits, not '{'a' * 63}'"),
        (GOOD.replace(SHA, "A" * 64),
         f"6:64: sources.0.sha256: must be 64 lower-case hex digits, not '{'A' * 64}'"),
        (GOOD.replace(f", sha256: {SHA}", ""), "6:11: sources.0.sha256: is missing"),
        (GOOD.replace("url:", "uri:"), "6:12: sources.0.uri: unknown field; did you mean 'url'?"),
        (GOOD.replace("{{ version }}", "{% if 1 %}x{% endif %}"),
         "6:12: sources.0.url: templates have expressions {{ }} only, no {% or {#; 'overrides' can"
         " differ by target"),
        (GOOD.replace("{{ version }}", "{{ verison }}"),
         "6:12: sources.0.url: template variable 'verison' is not defined"
         " (there are name, target, version, version_major_minor); did you mean 'version'?"),
        (GOOD.replace("{{ version }}", "{{ version"),
         "6:12: sources.0.url: not a template: unexpected end of template, expected 'end of print"
         " statement'."),
        (GOOD.replace("{{ version }}", "{{ 1 / 0 }}"),
         "6:12: sources.0.url: the template fails: division by zero"),
        (GOOD.replace("autotools", "autotool"),
         f"7:9: build.preset: 'autotool' is not one of {PRESETS}; did you mean 'autotools'?"),
        (GOOD.replace("autotools", "autotools, options: {configure-arg: []}"),
         "7:38: build.options.configure-arg: preset 'autotools' has no such option; did you mean"
         " 'configure-args'?"),
        (GOOD.replace("autotools", "autotools, options: {configure-args: --x}"),
         "7:38: build.options.configure-args: must be a list of text"),
        (GOOD.replace("autotools", "cmake, options: {build-type: [x]}"),
         "7:34: build.options.build-type: must be text"),
        (GOOD.replace("autotools", "autotools, confgure: x"),
         "7:28: build.confgure: unknown field; did you mean 'configure'?"),
        (GOOD.replace("autotools", "autotools, as-root: [fetch]"),
         "7:38: build.as-root.0: 'fetch' is not one of prepare, configure, compile, install, check"),
        (GOOD.replace("autotools", "autotools, keep-owners: true"),
         "7:1: build: 'keep-owners' wants a phase in 'as-root': else all files are one user's"),
        (HEAD + "sources: []\n" + BUILD + OUTPUTS, "6:1: sources: must have at least one entry"),
        (GOOD + "patches: [demo/x.patch]\n", "9:11: patches.0: no file recipes/demo/x.patch"),
        (GOOD + "depends: {recipes: [zlbi]}\n",
         "9:21: depends.recipes.0: there is no recipe 'zlbi'; did you mean 'zlib'?"),
        (GOOD + "depends: {packages: [Lib]}\n",
         "9:22: depends.packages.0: must be the name of a distribution package, or a relation such as"
         " 'libfoo-dev (>= 2) | libbar-dev', not 'Lib'"),
        (GOOD + "depends: {packages: [a-b, 'foo, bar']}\n",
         "9:27: depends.packages.1: must be the name of a distribution package, or a relation such as"
         " 'libfoo-dev (>= 2) | libbar-dev', not 'foo, bar'"),
        (GOOD + "depends: {packages: ['foo (=> 2)']}\n",
         "9:22: depends.packages.0: must be the name of a distribution package, or a relation such as"
         " 'libfoo-dev (>= 2) | libbar-dev', not 'foo (=> 2)'"),
        (GOOD + "depends: {profiles: ['!nocheck']}\n",
         "9:22: depends.profiles.0: must be a build profile such as nocheck, not '!nocheck'"),
        (GOOD + "env: {DESTDIR: /x}\n", "9:7: env.DESTDIR: DESTDIR is set by xbuild itself"),
        (GOOD + "env: {OPT_X: a}\n", "9:7: env.OPT_X: OPT_X is set by xbuild itself"),
        (GOOD + "env: {A-B: a}\n", "9:7: env.A-B: must be letters, digits and _, not 'A-B'"),
        (GOOD + "env: {A: 1}\n", "9:7: env.A: must be quoted: YAML read 1, a number"),
        (GOOD + "twins: {add: [perl, sed], remove: [sed]}\n", "9:1: twins: in both 'add' and 'remove': sed"),
        (GOOD + "check: {command: x, timeout: 30}\n",
         "9:21: check.timeout: must be a duration such as 90s, 30m or 2h, not 30"),
        (GOOD + "check: {timeout: 30m}\n", "9:1: check.command: is missing"),
        (GOOD + "overrides: [{targets: [amrhf]}]\n",
         "9:24: overrides.0.targets.0: 'amrhf' matches no target; did you mean 'armhf'?"),
        (GOOD + "overrides: [{targets: ['*'], buidl: {}}]\n",
         "9:30: overrides.0.buidl: unknown field; did you mean 'build'?"),
        (GOOD + "overrides: [{targets: ['arm64'], build: {preset: mseon}}]\n",
         f"9:42: overrides.0.build.preset: 'mseon' is not one of {PRESETS}; did you mean 'meson'?"),
        (GOOD + "overrides: [{targets: ['arm64'], build: {options: {x: y}}}]\n",
         "9:52: overrides.0.build.options.x: preset 'autotools' has no such option"),
        (GOOD.replace("usr/bin/demo", "/usr/bin/demo"),
         "8:12: outputs.0.path: must be a relative path without '..', not '/usr/bin/demo'"),
        (GOOD.replace("usr/bin/demo", "a, kind: file, run: [x]"),
         "8:11: outputs.0: 'run' is for executables only, not for kind 'file'"),
        (GOOD.replace("usr/bin/demo", "a, kind: executable, prints: x"),
         "8:11: outputs.0: 'prints' needs 'run'"),
    ],
)  # fmt: skip
def test_bad_recipes(project: Path, text: str, expected: str) -> None:
    assert errors(project, text) == [expected]


def test_errors_of_every_sort_come_together(project: Path) -> None:
    text = GOOD.replace("{{ version }}", "{{ x }}").replace("autotools", "auto") + "patches: [p]\nnope: 1\n"
    assert [line.split(":")[0] for line in errors(project, text)] == ["6", "7", "9", "10"]


def test_patches_lie_below_recipes(project: Path) -> None:
    (project / "x.patch").touch()
    expected = "9:11: patches.0: must be a relative path without '..', not '../x.patch'"
    assert errors(project, GOOD + "patches: [../x.patch]\n") == [expected]
    (project / "recipes" / "demo").mkdir()
    (project / "recipes" / "demo" / "x.patch").touch()
    assert load(project, GOOD + "patches: [demo/x.patch]\n").patches == ("demo/x.patch",)


def test_duplicate_key(project: Path) -> None:
    assert errors(project, GOOD + "name: demo\n") == ["9:1: key 'name' given twice (first on line 2)"]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{}", "must have exactly one of url, distribution, pypi, git, path"),
        ("{url: 'https://x.test/a', path: a}", "must have exactly one of .*, not url and path"),
        ("{pypi: a, git: b, commit: COMMIT}", "must have exactly one of .*, not pypi and git"),
        ("{git: 'https://x.test/a'}", "'git' needs 'commit'"),
        ("{path: a, commit: COMMIT}", "'commit' is for sources with 'git' only"),
        ("{git: g, commit: COMMIT, unpack: false}", "'unpack: false' is for files, and 'git' gives a tree"),
        ("{path: a, mirrors: ['https://x.test/a']}", "'mirrors' is for sources with 'url' only"),
        ("{url: 'https://x.test/a', file: b}", "'file' is for sources with 'pypi' only"),
        ("{git: a, commit: abc}", "must be the 40 hex digits of a git commit, not 'abc'"),
        ("{url: x.test/a}", "must be an address such as https://site/file, not 'x.test/a'"),
        ("{path: ''}", "must be a path, not ''"),
        ("{path: a, strip: -1}", "greater than or equal to 0"),
        ("{path: a, strip: '1'}", "must be a whole number"),
    ],
)
def test_bad_sources(project: Path, source: str, expected: str) -> None:
    body = source.replace("COMMIT", "b" * 40).replace("{", f"{{sha256: {SHA}, ", 1)
    text = HEAD + f"sources: [{body}]\n" + BUILD + OUTPUTS
    with pytest.raises(RecipeError) as caught:
        load(project, text)
    (line,) = caught.value.details
    assert line.startswith("recipes/demo.yml:6:")
    assert re.search(expected, line)


def test_kinds_of_sources(project: Path) -> None:
    sources = [
        "{url: 'https://x.test/a', distribution: {package: a, file: 'a_{{ version }}.tar'}",
        "{distribution: {package: a, file: b}",
        "{pypi: some-thing",
        "{pypi: other, version: '9', file: other-9.zip",
        f"{{git: 'https://x.test/g', commit: {'b' * 40}",
        "{path: src, into: sub, strip: 0",
    ]
    text = (
        HEAD
        + "sources:\n"
        + "".join(f"  - {source}, sha256: {SHA}}}\n" for source in sources)
        + BUILD
        + OUTPUTS
    )
    found = load(project, text).sources
    assert [source.kind for source in found] == ["url", "distribution", "pypi", "pypi", "git", "path"]
    assert found[0].distribution is not None
    assert (found[0].distribution.file, found[0].distribution.section) == ("a_1.2.3.tar", "main")
    assert (found[2].version, found[2].file) == ("1.2.3", "some-thing-1.2.3.tar.gz")
    assert (found[3].version, found[3].file) == ("9", "other-9.zip")
    assert (found[5].into, found[5].strip) == ("sub", 0)


def test_unknown_recipe(project: Path) -> None:
    load(project, GOOD)
    with pytest.raises(UsageError, match=r"unknown recipe 'dmeo'; did you mean 'demo'\?") as caught:
        load_recipe("dmeo", load_toolchain("armhf", project), project)
    assert caught.value.hint == f"known: {', '.join(sorted(['demo', *recipe_names(CHECKOUT)]))}"
    with pytest.raises(UsageError, match=r"did you mean 'sqlite'\?"):
        load_recipe("sqlit", load_toolchain("armhf", project), project)


def test_the_projects_own_recipe_comes_first(project: Path) -> None:
    """Each with its own patches; a project needs nothing but what it adds."""
    shutil.rmtree(project / "toolchains")
    toolchain = load_toolchain("armhf", project)
    assert load_recipe("zlib", toolchain, project).name == "zlib"
    (project / "recipes" / "zlib.yml").write_text(GOOD.replace("demo", "zlib") + "patches: [p.patch]\n")
    with pytest.raises(RecipeError, match="1 error"):
        load_recipe("zlib", toolchain, project)
    (project / "recipes" / "p.patch").touch()
    assert load_recipe("zlib", toolchain, project).version == "1.2.3"
    own, shipped = (recipe_path(name, project) for name in ("zlib", "lua"))
    assert patches_directory(own) == own.parent == project / "recipes"
    assert patches_directory(shipped) == shipped.parent == CHECKOUT / "recipes"
    assert patches_directory(Path("elsewhere/x.yml")) == Path.cwd() / "elsewhere"


def test_recipe_by_path(project: Path) -> None:
    (project / "mine.yml").write_text(GOOD)
    toolchain = load_toolchain("armhf", project)
    assert load_recipe("mine.yml", toolchain, project) == load_recipe(
        str(project / "mine.yml"), toolchain, project
    )
    with pytest.raises(RecipeError, match=r"^other.yml: cannot be read"):
        load_recipe("./other.yml", toolchain, project)


OVERRIDES = """\
check: {command: make test, timeout: 5m}
env: {A: base, B: base}
depends: {packages: [libx-dev]}
overrides:
  - targets: ["arm*"]
    env: {B: arm, C: arm}
    build: {options: {configure-args: [--arm]}, after-install: "true"}
    depends: {packages: [liby-dev]}
    check: {timeout: 2h}
  - targets: [armhf, mips]
    build: {configure: "./configure-{{ version }}"}
    outputs: [{path: "lib/{{ target }}"}]
    twins: {remove: [sed]}
"""


def test_overrides(project: Path) -> None:
    text = GOOD.replace("autotools", "autotools, options: {configure-args: [--base]}")
    (project / "toolchains" / "mips.yml").touch()
    armhf = load(project, text + OVERRIDES)
    assert armhf.env == {"A": "base", "B": "arm", "C": "arm"}
    assert armhf.depends.packages == ("libx-dev", "liby-dev")
    assert armhf.build.options == {"configure-args": ("--base", "--arm")}
    assert armhf.build.configure == "./configure-{{ version }}", "shell text is never a template"
    assert armhf.check is not None
    assert (armhf.check.command, armhf.check.timeout) == ("make test", 7200)
    assert [output.path for output in armhf.outputs] == ["usr/bin/demo", "lib/armhf"]
    assert armhf.twins.remove == ("sed",)
    arm64 = load(project, text + OVERRIDES, "arm64")
    assert (arm64.build.configure, arm64.build.after_install) == (None, "true")
    amd64 = load(project, text + OVERRIDES, "amd64")
    assert (amd64.env, amd64.build.after_install) == ({"A": "base", "B": "base"}, None)


def test_contradiction_that_only_an_override_makes(project: Path) -> None:
    text = GOOD + "twins: {add: [sed]}\noverrides: [{targets: [armhf], twins: {remove: [sed]}}]\n"
    assert errors(project, text) == ["9:1: twins: in both 'add' and 'remove': sed"]
    assert load(project, text, "arm64").twins.add == ("sed",)


def test_check_that_only_an_override_has(project: Path) -> None:
    text = GOOD + "overrides: [{targets: [armhf], check: {timeout: 1m}}]\n"
    assert errors(project, text) == ["9:32: check.command: is missing"]


def test_options_are_checked_against_the_preset_of_the_override(project: Path) -> None:
    text = GOOD.replace("autotools", "autotools, options: {configure-args: [x]}")
    wrong = errors(project, text + "overrides: [{targets: [armhf], build: {preset: make}}]\n")
    assert wrong == ["7:38: build.options.configure-args: preset 'make' has no such option"]


def test_phases(project: Path) -> None:
    text = GOOD.replace(
        "{preset: autotools}",
        "{preset: make, fetch: get, before-compile: first, compile: body, after-compile: last, install: '',"
        " after-prepare: tidy, as-root: [check]}",
    )
    phases = resolve_phases(load(project, text + "check: {command: make test}\n"), load_presets())
    assert phases == (
        Phase("fetch", "get\n", network=True),
        Phase("prepare", "tidy\n"),
        Phase("compile", "first\nbody\nlast\n"),
        Phase("check", "make test\n", root=True),
    )


def test_resolved_recipe_is_plain_data_and_frozen(project: Path) -> None:
    recipe = load(project, GOOD)
    data = recipe.model_dump(mode="json", by_alias=True)
    assert data["idle-limit"] == 900
    assert "overrides" not in data
    with pytest.raises(ValueError, match="frozen"):
        recipe.name = "x"  # type: ignore[misc]


scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.text(string.ascii_lowercase, max_size=3))
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abcd"), inner, max_size=3)
    ),
    max_leaves=8,
)


def tree(value: Any) -> Node:
    if isinstance(value, dict):
        return Node({key: tree(child) for key, child in value.items()})
    return Node([tree(child) for child in value]) if isinstance(value, list) else Node(value)


def merged(base: Any, change: Any) -> Any:
    return merge(tree(base), tree(change)).plain()


@given(values, values)
def test_merge_rule(base: Any, change: Any) -> None:
    result = merged(base, change)
    if isinstance(base, dict) and isinstance(change, dict):
        assert set(result) == set(base) | set(change)
        for key, value in result.items():
            if key in base and key in change:
                assert value == merged(base[key], change[key])
            else:
                assert value == (base[key] if key in base else change[key])
    elif isinstance(base, list) and isinstance(change, list):
        assert result == base + change
    else:
        assert result == change


@given(values, values, values)
def test_merge_of_like_trees_is_associative(one: Any, two: Any, three: Any) -> None:
    one, two, three = ({"a": [part]} for part in (one, two, three))
    assert merged(merged(one, two), three) == merged(one, merged(two, three))


@given(st.dictionaries(st.sampled_from("abcd"), values))
def test_merge_with_nothing_changes_nothing(base: Any) -> None:
    assert merged(base, {}) == base == merged({}, base)


@given(values, values)
def test_merge_leaves_its_arguments_alone(base: Any, change: Any) -> None:
    before, after = tree(base), tree(change)
    merge(before, after)
    assert (before.plain(), after.plain()) == (base, change)
