"""The documentation: links lead somewhere, commands and files are valid, the messages that it quotes are ours."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from invoke.exceptions import ParseError
from invoke.parser.context import ParserContext

from tests.unit.commands import parsed_by_invoke
from tests.unit.sources import modules, strings
from xbuild.base import paths
from xbuild.base.errors import UsageError
from xbuild.base.yamlfile import load_model
from xbuild.cli import line as lines_
from xbuild.cli import table
from xbuild.cli.arguments import mode_words, recipe_word
from xbuild.cli.namespace import namespace
from xbuild.model.base import Model
from xbuild.model.load import load_presets, load_recipe, load_toolchain, recipe_names, toolchain_names
from xbuild.model.policy import Policy
from xbuild.model.preset import Preset
from xbuild.model.recipe import RecipeFile
from xbuild.model.toolchain import Toolchain

PROJECT = Path(__file__).resolve().parents[2]
DOCS = PROJECT / "docs"
PAGES = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
TROUBLESHOOTING = DOCS / "troubleshooting.md"

# A word that stands for something else, as in the usage of a command: RECIPE, FILE, http://mirror.example.
PLACEHOLDER = re.compile(r"[A-Z][A-Z_]*|\.\.\.")
LEAST_LETTERS = 7
"""So many letters of a message must be written in the code as they stand, not be filled in there."""


def name_of(page: Path) -> str:
    return str(page.relative_to(PROJECT))


def blocks(text: str) -> Iterator[tuple[str, list[str]]]:
    """The code blocks of Markdown, fenced and indented: language (or "") and lines without indentation."""
    fenced: tuple[str, list[str]] | None = None
    indented: list[str] = []
    before = ""
    for line in [*text.splitlines(), ""]:
        if line.startswith("```"):
            if fenced:
                yield fenced
            fenced = None if fenced else (line.removeprefix("```").strip(), [])
        elif fenced:
            fenced[1].append(line)
        elif line.startswith("    ") and (indented or not before):
            indented.append(line[4:])
        elif indented and line:
            yield "", indented
            indented = []
        before = line
    if indented:
        yield "", indented


def prose(text: str) -> str:
    """Markdown without its code blocks."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"^    .*$", "", text, flags=re.MULTILINE)


# Links


def headings(page: Path) -> list[str]:
    return re.findall(r"^#+ +(.+?) *#*$", prose(page.read_text()), re.MULTILINE)


@cache
def anchors(page: Path) -> frozenset[str]:
    """What links can lead to, by the rule of the usual sites: lower case, no punctuation, blanks as hyphens."""
    found: list[str] = []
    for heading in headings(page):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        found.append(slug if slug not in found else f"{slug}-{found.count(slug)}")
    return frozenset(found)


def links(page: Path) -> list[str]:
    return re.findall(r"\]\(([^()\s]+)\)", prose(page.read_text()))


def broken(page: Path) -> list[str]:
    found = []
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            found.append(link)
    return found


def test_links_lead_somewhere() -> None:
    assert {page: wrong for page in PAGES if (wrong := broken(page))} == {}


def test_a_broken_link_would_be_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One, two\n[a](#one-two) [b](#one) [c](none.md) [d](page.md#one-two) [e](https://site/x)\n")
    assert broken(page) == ["#one", "none.md"]


def test_the_index_has_every_page() -> None:
    index = DOCS / "README.md"
    assert {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md") if page != index} <= {*links(index)}


# Commands


def simple_commands(line: str) -> Iterator[list[str]]:
    """The commands of a line of shell, each as its words, without assignments and redirections."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if re.fullmatch(r"[|&;]+", word):
            yield words
            words = []
        elif words or not re.fullmatch(r"\w+=.*", word):
            words.append(word)


def invocations(lines: Sequence[str]) -> Iterator[list[str]]:
    """The words of all calls of our commands in the lines of a code block."""
    for line in lines:
        shown = line.removeprefix("$ ").strip()
        if re.match(r"(\w+=\S* +)*(\.venv/bin/)?(invoke|xbuild(?! repo ))\s|.*&& \.venv/bin/invoke\s", shown):
            for words in simple_commands(re.sub(r"\s\(resumes at this phase\)$", "", shown)):
                if words[:1] and words[0].rpartition("/")[2] in ("invoke", "xbuild"):
                    redirected = next((number for number, word in enumerate(words) if word in "<>>"), len(words))
                    yield words[:redirected]


def spans(text: str) -> Iterator[list[str]]:
    """The words of all calls of our commands that stand in the text as code."""
    # What stands in a heading is a message.
    plain = re.sub(r"^#.*", "", prose(text), flags=re.MULTILINE)
    for code in re.findall(r"`((?:\.venv/bin/)?(?:invoke|xbuild)\s[^`]+)`", plain):
        yield shlex.split(re.split("[#>]", code)[0])


def parsed(words: Sequence[str], *, whole: bool = True) -> list[ParserContext]:
    """What our parser makes of a command. Raises ParseError; for a missing word only if it is to be whole."""
    try:
        return parsed_by_invoke(words)
    except ParseError as error:
        if whole or "did not receive required positional" not in str(error):
            raise
        return []


def faults(words: Sequence[str], *, whole: bool = True) -> list[str]:
    """What is wrong with a command: its options, or the names of modes and targets that it has."""
    shown = " ".join(words)
    # One may be named without being given.
    named = not whole and len(words) == 2 and (words[1] in namespace.task_names or words[1].startswith("-"))
    if named or PLACEHOLDER.fullmatch(words[1]):
        return []
    try:
        return unknown_words(shown, read(words) if words[0].endswith("xbuild") else given(words, whole=whole))
    except (ParseError, UsageError, SystemExit) as error:
        return [f"{shown}: {error}"]


def given(words: Sequence[str], *, whole: bool) -> list[dict[str, str]]:
    """What an `invoke` line gives to each of its commands."""
    return [
        {name: str(argument.value) for name, argument in context.args.items() if argument.got_value}
        for context in parsed(words, whole=whole)
    ]


def read(words: Sequence[str]) -> list[dict[str, str]]:
    """The same of an `xbuild` line, which has one command. Raises UsageError."""
    if words[1] in ("help", "--help", "--version"):
        return []
    known = table.load().commands.get(words[1])
    if known is None:
        raise UsageError(f"no command {words[1]}")
    values = lines_.read(known, words[2:]).values
    return [{one.name: str(values[one.parameter]) for one in known.options if values[one.parameter] != one.default}]


def unknown_words(shown: str, values: Sequence[dict[str, str]]) -> list[str]:
    """Targets that nobody has. Raises UsageError for modes, and for options that were taken for recipes."""
    found = []
    for given in values:
        # An unknown option would be taken for a recipe that is not named.
        recipe_word(given.get("recipe", ""))
        for option in ("mode", "modes", "fallback"):
            text = given.get(option, "")
            if text and not PLACEHOLDER.fullmatch(text):
                mode_words(text)
        found += [f"{shown}: no target {word}" for word in targets(given) if word not in known_targets()]
    return found


def targets(given: dict[str, str]) -> Iterator[str]:
    for word in f"{given.get('target', '')},{given.get('targets', '')}".split(","):
        if word and not PLACEHOLDER.fullmatch(word):
            yield word


@cache
def known_targets() -> frozenset[str]:
    """The targets that there are, and those that pages make."""
    made = {name for page in PAGES for name in re.findall(r"^name: (\S+)$", page.read_text(), re.MULTILINE)}
    told = {name for page in PAGES for name in re.findall(r"toolchains/([\w-]+)\.yml", page.read_text())}
    return frozenset({*toolchain_names(PROJECT), *made, *told})


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_can_be_given(page: Path) -> None:
    text = page.read_text()
    wrong = [fault for _, lines in blocks(text) for words in invocations(lines) for fault in faults(words)]
    wrong += [fault for words in spans(text) for fault in faults(words, whole=False)]
    assert wrong == []


def test_a_wrong_command_would_be_found() -> None:
    shown = ["$ XBUILD_X=1 invoke build zlib --target armfh", "invoke why --json > x", "invoke list && invoke bild x"]
    found = [faults(words) for words in invocations(shown)]
    assert ["no target armfh" in found[0][0], len(found[1]), found[2], len(found[3])] == [True, 1, [], 1]
    mentioned = [faults(words, whole=False) for words in spans("`invoke build` and `invoke build --no-such`")]
    assert [len(wrong) for wrong in mentioned] == [0, 1]


def test_commands_are_found() -> None:
    lines = [words for page in PAGES for _, block in blocks(page.read_text()) for words in invocations(block)]
    assert len(lines) > 50
    assert {words[1] for words in lines} >= {"build", "shell", "trace", "compare", "bisect", "bench", "log", "doctor"}


# Files

MODELS: dict[str, type[Model]] = {
    "recipe": RecipeFile, "toolchain": Toolchain, "preset": Preset, "policy": Policy,
}  # fmt: skip
BASES = {
    "toolchain": PROJECT / "toolchains/armhf.yml",
    "preset": paths.PRESETS / "make.yml",
    "policy": paths.POLICIES / "default.yml",
}


def kind_of(value: object) -> str | None:
    """Which kind of file these top-level keys belong to."""
    keys = set(value) if isinstance(value, dict) else {"no mapping"}
    fields = {name: {field.alias or key for key, field in model.model_fields.items()} for name, model in MODELS.items()}
    return next((name for name, known in fields.items() if keys <= known), None)


@cache
def recipes() -> list[dict[str, Any]]:
    """Ours, without what would not fit with a changed part."""
    files = sorted((PROJECT / "recipes").glob("*.yml"))
    return [{"check": {"command": "true"}, **yaml.safe_load(file.read_text()), "overrides": []} for file in files]


def base_of(kind: str, value: Any) -> Any:
    """The file that a part is put into: of recipes one whose preset has the options."""
    if kind != "recipe":
        return yaml.safe_load(BASES[kind].read_text())
    builds = [value.get("build", {}), *(override.get("build", {}) for override in value.get("overrides", ()))]
    wanted = {option for build in builds for option in build.get("options", {})}
    preset = next((build["preset"] for build in builds if "preset" in build), None)
    presets = load_presets()
    return next(
        recipe
        for recipe in recipes()
        if (preset or recipe["build"]["preset"]) not in presets
        or wanted <= set(presets[preset or recipe["build"]["preset"]].options)
    )


def validated(text: str, folder: Path) -> None:
    """Read a whole file or a part of one, which is put into a file that there is. Raises RecipeError if it is wrong."""
    value = yaml.safe_load(text)
    kind = kind_of(value)
    assert kind, f"of no kind of file that there is: {text}"
    whole = "schema" in value
    base = {} if whole else base_of(kind, value)
    merged = {**base, **value} if kind != "policy" or whole else {**base, "tools": {**base["tools"], **value["tools"]}}
    file = folder / f"{merged['name']}.yml"
    # A whole one is read as it stands, since quotes matter.
    file.write_text(text if whole else yaml.safe_dump(merged))
    if kind == "recipe":
        zlib, needs = (PROJECT / "recipes/zlib.yml").read_text(), value.get("depends", {}).get("recipes", ())
        for name in {need if isinstance(need, str) else need["name"] for need in needs} - {*recipe_names(PROJECT)}:
            (folder / f"{name}.yml").write_text(zlib.replace("name: zlib", f"name: {name}"))
        load_recipe(str(file), load_toolchain("armhf", PROJECT), PROJECT)
    else:
        load_model(file, MODELS[kind])


def pieces() -> list[tuple[str, str]]:
    return [
        (name_of(page), "\n".join(lines))
        for page in PAGES
        for language, lines in blocks(page.read_text())
        if language == "yaml"
    ]


@pytest.mark.parametrize(("page", "text"), pieces(), ids=[name for name, _ in pieces()])
def test_files_are_valid(page: str, text: str, tmp_path: Path) -> None:
    validated(text, tmp_path)


def test_a_wrong_file_would_be_found(tmp_path: Path) -> None:
    for text in ("build: {preset: makee}", "depends: {packages: [1]}", "twins: {add: x}", "tools: {x: 1}"):
        with pytest.raises(Exception, match="error"):
            validated(text, tmp_path)


# Messages


def templates() -> Iterator[list[str | None]]:
    """The strings of the code, without docstrings: pieces of text, and None for what is filled in."""
    for node in (node for file in modules() for node in strings(file)):
        if isinstance(node, ast.JoinedStr):
            yield [str(part.value) if isinstance(part, ast.Constant) else None for part in node.values]
        else:
            yield [None if re.fullmatch(r"\{\d\}", part) else part for part in re.split(r"(\{\d\})", str(node.value))]
    dispatcher = (PROJECT / "xbuild/dispatcher/dispatcher.c").read_text()
    yield from ([piece, None] for piece in re.findall(r'"(xbuild: .*?)"', dispatcher))
    enter = (PROJECT / "xbuild/dispatcher/enter.c").read_text()
    for text in re.findall(r'fprintf\(stderr, "(xbuild: .*?)\\n"', enter):
        yield [None if part == "%s" else part for part in re.split("(%s)", text)]


def runs(text: str) -> Iterator[str]:
    """`text` and its parts between punctuation and what is filled in (NUL)."""
    filled = [match.start() for match in re.finditer("\0", text)]
    marks = {match.end() for match in re.finditer(r"[:;,] |\n|\0", text)}
    cuts = sorted({0, len(text), *filled, *marks})
    for number, first in enumerate(cuts):
        for last in cuts[number + 1 :]:
            yield text[first:last].strip(" :;,\n")


@cache
def sayings() -> list[tuple[str, list[str]]]:
    """What the code can say, whole and in parts: the longest piece that is always in it, and all pieces."""
    texts = {"".join("\0" if part is None else part for part in parts) for parts in templates()}
    known = {run for text in texts for run in runs(text) if sum(map(str.isalpha, run)) >= LEAST_LETTERS}
    return [(max(run.split("\0"), key=len), run.split("\0")) for run in sorted(known)]


def is_ours(message: str) -> bool:
    """Whether the code can say `message`, or says it as a part. `...` at its beginning or end is not looked at."""
    bare = re.sub(r"^\.\.\. | ?\.\.\.$", "", message).rstrip(":")
    return any(longest in bare and _fits(pieces, bare) for longest, pieces in sayings())


def _fits(pieces: Sequence[str], text: str) -> bool:
    return re.fullmatch(".+".join(map(re.escape, pieces)), text) is not None


QUOTED = [found[2] for heading in headings(TROUBLESHOOTING) for found in re.finditer(r"(`+)(.+?)\1(?!`)", heading)]


def test_quoted_messages_are_ours() -> None:
    assert [message for message in QUOTED if not is_ours(message)] == []


def test_a_message_that_nobody_says_would_be_found() -> None:
    assert len(QUOTED) > 80
    for message in ("no user namespaces were found", "a root could not be mended", "zlb is unknown", "zlib: x"):
        assert not is_ours(message)
