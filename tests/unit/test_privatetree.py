from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xbuild.base import paths
from xbuild.base.errors import MachineError
from xbuild.dispatcher.own import marked
from xbuild.formats.debian import Tree
from xbuild.model.load import load_toolchain
from xbuild.model.policy import Policy, ReplacedBytes
from xbuild.twins.pairing import Twin
from xbuild.twins.privatetree import patched_loader, program, replace_string, same_length

WORDS = st.text("ab", min_size=1, max_size=4)


def test_replace_string() -> None:
    assert replace_string(b"\0/old/path\0x", "/old/path", "/new") == b"\0/new\0\0\0\0\0\0x"
    assert replace_string(b"\0aa\0aa\0aa\0", "aa", "b") == b"\0b\0\0b\0\0b\0\0"


@pytest.mark.parametrize("data", [b"\0/old/pathological\0", b"\0/very/old/path\0", b"\0/old/path", b"/old\0/path\0"])
def test_only_whole_strings_are_replaced(data: bytes) -> None:
    assert replace_string(data, "/old/path", "/new") == data


def test_dots_are_dots_and_backslashes_stay() -> None:
    assert replace_string(b"\0a.b\0axb\0", "a.b", "\\1") == b"\0\\1\0\0axb\0"


def test_longer_strings_do_not_fit() -> None:
    with pytest.raises(ValueError, match="'abc' is longer than 'ab'"):
        replace_string(b"\0ab\0", "ab", "abc")


@given(st.lists(WORDS), WORDS, WORDS)
def test_nothing_moves(strings: list[str], old: str, new: str) -> None:
    data = b"\0" + b"".join(text.encode() + b"\0" for text in strings)
    if len(new) > len(old):
        return
    made = replace_string(data, old, new)
    assert len(made) == len(data)
    at = 1
    for text in strings:
        end = at + len(text) + 1
        assert made[at:end] == (new if text == old else text).encode().ljust(len(text) + 1, b"\0")
        at = end


@given(st.lists(st.sampled_from(["a", "bc", ".x"]), min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts)))
def test_same_length(path: str) -> None:
    for room in range(3):
        made = same_length(path, "x" * (len(path) + room))
        assert len(made) == len(path) + room
        assert [part for part in made.split("/") if part] == [part for part in path.split("/") if part]


def test_same_length_keeps_a_last_slash() -> None:
    assert same_length("/a/lib/", "/longer/lib/").endswith("/")
    with pytest.raises(ValueError, match="is longer than"):
        same_length("/abc", "/ab")


LOADER = b"\0".join(
    [b"x", b"/lib/x86_64-linux-gnu/", b"/usr/lib/x86_64-linux-gnu/", b"/etc/ld.so.cache", b"/etc/ld.so.preload", b""]
)


def test_patched_loader() -> None:
    made = patched_loader(LOADER, "amd64", "x86_64-linux-gnu", "shp")
    assert len(made) == len(LOADER)
    folders = [re.sub(b"/+", b"/", text) for text in made.split(b"\0")]
    assert b"/usr/lib" not in made
    assert b"/etc/" not in made
    # Of a library that the cache does not name, the layer's comes first.
    assert folders[1] == b"/.xbuild/layer/lib/"
    assert all(text.startswith(b"/.xbuild/amd64/") for text in folders[2:-1])


def test_another_libc_is_refused() -> None:
    with pytest.raises(MachineError, match="is this another libc"):
        patched_loader(b"\0/lib/\0", "amd64", "x86_64-linux-gnu", "shp")


@pytest.mark.parametrize(("data", "made"), [(b"a\1\x08z", b"a\1\4z"), (b"\x08", None), (b"\1\x08\1\x08", None)])
@pytest.mark.parametrize("trait", ["ilp32", "other"])
def test_bytes_that_tell_of_the_machine(tmp_path: Path, data: bytes, made: bytes | None, trait: str) -> None:
    elf = (Path(__file__).parent / "data/amd64-static").read_bytes()
    (tmp_path / "tool").write_bytes(elf + data)
    told = {"files": ["/tool"], "replace-bytes": [{"trait": trait, "old": "01 08", "new": "01 04"}]}
    words = {"schema": 1, "name": "test", "summary": "for tests", "never": []}
    policy = Policy.model_validate({**words, "tools": {"tool": told}})
    twin, armhf = Twin("tool", "/tool", "amd64", "tool", "1", "/tool"), load_toolchain("armhf", paths.PACKAGE.parent)
    if trait == "other":
        assert program(Tree([tmp_path]), twin, policy, armhf) == marked(elf + data)
    elif made is not None:
        assert program(Tree([tmp_path]), twin, policy, armhf) == marked(elf + made)
    else:
        with pytest.raises(ValueError, match=r"it has the bytes 01 08 [02] times, not once"):
            program(Tree([tmp_path]), twin, policy, armhf)


def test_bytes_are_replaced_by_as_many() -> None:
    with pytest.raises(ValueError, match="equally many bytes"):
        ReplacedBytes(trait="ilp32", old="01 08", new="01")
