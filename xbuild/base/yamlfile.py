"""YAML files as frozen models: every error with file, line and column, and all errors of a file at once.

A file is read into a tree of `Node`s, which know where they came from. Trees can be merged and rewritten
before they are validated, and an error still names the line that the user wrote.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from yaml.composer import Composer
from yaml.constructor import SafeConstructor

from xbuild.base.errors import RecipeError
from xbuild.base.nearest import did_you_mean as did_you_mean

M = TypeVar("M", bound=BaseModel)
Location = tuple[str | int, ...]

_TEXT = "tag:yaml.org,2002:str"
_LONGEST = 1 << 20
"""Bytes of a file: PyYAML reads some 100 kB in a second, and a recipe of a thousand sources has some 200 kB."""
_DEEPEST = 50
"""Levels of a document; our formats have 6."""
_BITS = 64
_NO_TEXT = re.compile("[\0\ud800-\udfff]")
"""NUL ends a file name and an argument; halves of surrogate pairs, which YAML can write, have no bytes."""
_DOUBTFUL = re.compile("[^\n -~\xa1-\u2027\u202a-\ud7ff\ue000-\ufefe]|^%|[|>][-+0-9]*#", re.MULTILINE)
"""Where libyaml and PyYAML could differ: tabs, directives, what ends a line beside \\n, comments behind | and >."""


@dataclass(frozen=True)
class Node:
    """A value in a YAML file with its position (from 1): that of its key in a mapping, else its own."""

    value: Any
    line: int = 1
    column: int = 1

    def plain(self) -> Any:
        """The value without positions: dicts, lists and scalars."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return self.value

    def child(self, part: str | int) -> Node | None:
        """The entry `part` of a mapping or list, None where there is none."""
        if isinstance(self.value, dict):
            found = self.value.get(part)
            return found if isinstance(found, Node) else None
        if isinstance(self.value, list) and isinstance(part, int) and 0 <= part < len(self.value):
            item = self.value[part]
            return item if isinstance(item, Node) else None
        return None

    def find(self, *location: str | int) -> Node | None:
        """The node at `location` below this one, None where there is none."""
        node: Node | None = self
        for part in location:
            node = node.child(part) if node is not None else None
        return node

    def nearest(self, location: Sequence[str | int]) -> Node:
        """The deepest node that exists on the way to `location`."""
        node = self
        for part in location:
            found = node.child(part)
            if found is None:
                break
            node = found
        return node

    def items(self) -> Iterator[tuple[str | int, Node]]:
        """The entries of a mapping or list, with key or index; nothing for a scalar."""
        if isinstance(self.value, dict):
            yield from self.value.items()
        elif isinstance(self.value, list):
            yield from enumerate(self.value)


@dataclass(frozen=True, order=True)
class Problem:
    """One error in a file: position (from 1), field as a dotted path ("" for the file itself), text."""

    line: int
    column: int
    field: str
    text: str

    @classmethod
    def at(cls, tree: Node, location: Sequence[str | int], text: str) -> Problem:
        """The problem `text` of the field at `location` in `tree`, placed at the nearest node that exists."""
        node = tree.nearest(location)
        return cls(node.line, node.column, ".".join(str(part) for part in location), text)

    def __str__(self) -> str:
        field = f"{self.field}: " if self.field else ""
        return f"{self.line}:{self.column}: {field}{self.text}"


Preprocess = Callable[[Node], tuple[Node, list[Problem]]]


def shown(path: Path) -> str:
    """`path` as a user wants to read it: relative to the working directory when it lies below that."""
    absolute = path.absolute()
    here = Path.cwd()
    return str(absolute.relative_to(here) if absolute.is_relative_to(here) else absolute)


def file_error(path: Path, problems: Sequence[Problem]) -> RecipeError:
    """The error that shows all `problems` of the file `path`, in the order of their lines, each once."""
    lines = [f"{shown(path)}:{problem}" for problem in sorted(set(problems))]
    count = "1 error" if len(lines) == 1 else f"{len(lines)} errors"
    return RecipeError(f"{shown(path)}: {count}", details=lines, hint="correct the file and try again")


def load_model(path: Path, model: type[M], preprocess: Preprocess | None = None) -> M:
    """The YAML file `path`, validated as `model`.

    preprocess: rewrites or checks the tree first; the problems that it returns are reported with the others.
    Raises RecipeError with all problems of the file as details.
    """
    tree = read_tree(path)
    problems: list[Problem] = []
    if preprocess is not None:
        tree, problems = preprocess(tree)
    result = validate(tree, model)
    if isinstance(result, list):
        raise file_error(path, result + problems)
    if problems:
        raise file_error(path, problems)
    return result


def validate(tree: Node, model: type[M]) -> M | list[Problem]:
    """`tree` as `model`, or else everything that is wrong with it."""
    try:
        return model.model_validate(tree.plain(), by_alias=True, by_name=False)
    except ValidationError as error:
        faults = [dict(fault) for fault in error.errors(include_url=False)]
    # A file of a newer format has errors everywhere; only the one that explains them is of use.
    newer = [fault for fault in faults if fault["type"] == "newer_schema"]
    return [_problem(fault, tree, model) for fault in newer or faults]


def read_tree(path: Path) -> Node:
    """The one document in the YAML file `path` as a tree.

    Raises RecipeError when the file cannot be read, is not YAML, gives a key twice, has a key that is not
    text, or has what no recipe needs: anchors (which would make a short file mean a huge one, and positions
    ambiguous), tags, more than _DEEPEST levels, numbers of more than 64 bits, characters that no file name can have.
    """
    text = _read(path)
    return _good(text) or _with_errors(path, text)


@lru_cache
def _good(text: str) -> Node | None:
    """The tree of a text that is right, by libyaml; of others None, for what is wrong is PyYAML's to say."""
    if not yaml.__with_libyaml__ or _DOUBTFUL.search(text):
        return None
    problems: list[Problem] = []
    try:
        loader = _QuickLoader(text)
        document = loader.get_single_node()
        tree = _tree(loader, document, problems) if document and document.value else None
    except (yaml.YAMLError, ValueError, OverflowError):
        return None
    return None if problems else tree


def _with_errors(path: Path, text: str) -> Node:
    problems: list[Problem] = []
    loader = None
    try:
        loader = _Loader(text)
        document = loader.get_single_node()
        if document is None:
            raise file_error(path, [Problem(1, 1, "", "the file is empty")])
        tree = _tree(loader, document, problems)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise file_error(path, [Problem(line, column, "", f"not YAML: {error.problem}")]) from error
    except yaml.reader.ReaderError as error:
        reason = f"not YAML: character #x{int(error.character):04x}: {error.reason}"
        raise _at(path, text[: error.position], reason) from error
    except (ValueError, OverflowError) as error:
        # An escape such as "\UFFFFFFFF", which PyYAML does not look at before it converts it.
        position = loader.index if loader else 0
        raise _at(path, text[:position], f"not YAML: {error}") from error
    if problems:
        raise file_error(path, problems)
    return tree


def _read(path: Path) -> str:
    try:
        # A fifo would be waited for.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise RecipeError(f"{shown(path)}: cannot be read: is not a file")
            data = stream.read(_LONGEST + 1)
    except OSError as error:
        raise RecipeError(f"{shown(path)}: cannot be read: {error.strerror}") from error
    if len(data) > _LONGEST:
        raise RecipeError(f"{shown(path)}: cannot be read: has more than {_LONGEST} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start].decode()
        raise _at(path, before, f"is not UTF-8 text: byte {error.start}: {error.reason}") from error


def _at(path: Path, before: str, text: str) -> RecipeError:
    """The error `text` right behind the text `before` of the file `path`."""
    line = before.count("\n")
    return file_error(path, [Problem(line + 1, len(before) - before.rfind("\n"), "", text)])


class _Composing(Composer):
    """PyYAML's composer without anchors and tags, and with an end to its depth."""

    depth = 0
    tags: tuple[str | None, ...] = (None, "!", _TEXT)

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[attr-defined]
        wrong = None
        if getattr(event, "anchor", None) is not None:
            wrong = "anchors and aliases (& and *) are not supported"
        elif getattr(event, "tag", None) not in self.tags:
            wrong = "tags (!) are not supported"
        elif self.depth == _DEEPEST:
            wrong = f"more than {_DEEPEST} levels"
        if wrong:
            raise yaml.MarkedYAMLError(problem=wrong, problem_mark=event.start_mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Loader(_Composing, yaml.SafeLoader):
    """All by PyYAML, whose errors users read."""


if yaml.__with_libyaml__:

    class _QuickLoader(_Composing, yaml.CSafeLoader):
        """The same over libyaml, in a sixth of the time; it also refuses what the two could take in different ways."""

        tags = (None,)

        def __init__(self, text: str) -> None:
            Composer.__init__(self)
            yaml.CSafeLoader.__init__(self, text)

        def compose_scalar_node(self, anchor: dict[Any, yaml.Node]) -> yaml.ScalarNode:
            node = super().compose_scalar_node(anchor)
            if not node.style and "?" in node.value:
                raise yaml.MarkedYAMLError(problem="PyYAML takes no ? in a flow")
            return node


def _tree(loader: SafeConstructor, node: yaml.Node, problems: list[Problem], mark: yaml.Mark | None = None) -> Node:
    """`node` of PyYAML as a `Node`; `mark` is the position of its key. Adds what is wrong to `problems`."""
    at = mark or node.start_mark
    value: Any
    if isinstance(node, yaml.MappingNode):
        value = _entries(loader, node, problems)
    elif isinstance(node, yaml.SequenceNode):
        value = [_tree(loader, item, problems) for item in node.value]
    else:
        try:
            value = loader.construct_object(node)
        except (ValueError, ArithmeticError) as error:  # a date such as 2024-13-45
            raise yaml.MarkedYAMLError(problem=f"{error}: quote it", problem_mark=node.start_mark) from error
        if wrong := _wrong(value):
            problems.append(Problem(at.line + 1, at.column + 1, "", wrong))
    return Node(value, at.line + 1, at.column + 1)


def _wrong(value: Any) -> str | None:
    """Why a scalar is one that nothing here can mean."""
    if isinstance(value, int) and value.bit_length() >= _BITS:
        return "a number of more than 64 bits: quote it"
    if isinstance(value, str) and _NO_TEXT.search(value):
        return "has a character that no text of a recipe can have (NUL, or half of a surrogate pair)"
    return None


def _entries(loader: SafeConstructor, node: yaml.MappingNode, problems: list[Problem]) -> dict[str, Node]:
    entries: dict[str, Node] = {}
    for key, value in node.value:
        line, column = key.start_mark.line + 1, key.start_mark.column + 1
        name = key.value
        if key.tag != _TEXT:
            written = f" {name!r}" if isinstance(name, str) else ""
            problems.append(Problem(line, column, "", f"key{written} must be text: quote it"))
        elif wrong := _wrong(name):
            problems.append(Problem(line, column, "", f"key {wrong}"))
        elif name in entries:
            problems.append(
                Problem(line, column, "", f"key {name!r} given twice (first on line {entries[name].line})")
            )
        else:
            entries[name] = _tree(loader, value, problems, key.start_mark)
    return entries


def _problem(fault: dict[str, Any], tree: Node, model: type[BaseModel]) -> Problem:
    """One of pydantic's errors as a `Problem`, in words that fit a YAML file."""
    location: Location = tuple(part for part in fault["loc"] if part != "[key]")
    return Problem.at(tree, location, _text(fault, location, model))


def _text(fault: dict[str, Any], location: Location, model: type[BaseModel]) -> str:
    value = fault["input"]
    match fault["type"]:
        case "extra_forbidden":
            return "unknown field" + did_you_mean(location[-1], _fields(model, location[:-1]))
        case "missing":
            return "is missing"
        case "string_type":
            return _not_text(value)
        case "literal_error":
            known = [str(choice) for choice in get_args(_annotation(model, location))]
            return f"{value!r} is not one of {', '.join(known)}{did_you_mean(value, known)}"
        case "tuple_type" | "list_type":
            return "must be a list"
        case "dict_type" | "model_type":
            return "must be a mapping"
        case "bool_type":
            return "must be true or false"
        case "int_type":
            return "must be a whole number"
    return str(fault["msg"])


def _not_text(value: object) -> str:
    if value is None:
        return "must be text, but is empty"
    if isinstance(value, dict | list):
        return "must be text"
    kind = "a date"
    if isinstance(value, bool):
        kind = "a yes/no value"
    elif isinstance(value, int | float):
        kind = "a number"
    return f"must be quoted: YAML read {value}, {kind}"


def _fields(model: type[BaseModel], location: Location) -> list[str]:
    """The names, as written in YAML, of the fields that a mapping at `location` may have."""
    found = _annotation(model, location)
    if not (isinstance(found, type) and issubclass(found, BaseModel)):
        return []
    return [field.alias or name for name, field in found.model_fields.items()]


def _annotation(model: type[BaseModel], location: Location) -> Any:
    """The type that `model` wants at `location`, without Annotated and Optional; None when nowhere."""
    current: Any = model
    for part in location:
        if isinstance(current, type) and get_origin(current) is None and issubclass(current, BaseModel):
            fields = {field.alias or name: field.annotation for name, field in current.model_fields.items()}
            current = _bare(fields.get(str(part)))
        else:
            arguments = get_args(current)  # tuple[X, ...] or dict[K, X]
            current = _bare(arguments[-1 if get_origin(current) is dict else 0]) if arguments else None
    return current


def _bare(annotation: Any) -> Any:
    while get_origin(annotation) in (Annotated, Union, UnionType):
        choices = [choice for choice in get_args(annotation) if choice is not type(None)]
        annotation = choices[0]
    return annotation
