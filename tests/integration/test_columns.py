"""The text that shows columns, which the compiler cache looks at besides the preprocessor's (dispatcher/columns.c)."""

from __future__ import annotations

import pytest

from tests.integration.conftest import Target

pytestmark = pytest.mark.integration

SEEN = """
cd /tmp
printf %s "$SOURCE" > it.cc
g++ -std=gnu++17 "$ARGUMENT" -E -o plain.i it.cc
/.xbuild/columns /usr/bin/g++ -std=gnu++17 "$ARGUMENT" -E -o it.i it.cc
head -c "$(stat -c %s plain.i)" it.i | cmp - plain.i
tail -c "+$(($(stat -c %s plain.i) + 1))" it.i | sed '1,/^# 1 "it.cc"$/d'
"""
# What is written, and what of it is seen.
SOURCES = {
    "blanks between words": ("int   a ;\n", "int   a ;\n"),
    "blanks at the end": ("int a; \t\n", "int a;\n"),
    "comment within": ("int /* b */ a;\n", "int         a;\n"),
    "smallest comments": ("int /**/ a /*/ b */ ;\n", "int      a          ;\n"),
    "comment at the end": ("int a; // b\n", "int a;\n"),
    "continued comment": ("int a; // b \\\nint b;\nint c;\n", "int a;\n\nint c;\n"),
    "comment over lines": ("int a; /* b\nc */ int d;\n", "int a;\n     int d;\n"),
    "in a string": ('const char *a = "/*\\"//"; // */\n', 'const char *a = "/*\\"//";\n'),
    "in a character": ("int a = '\"', b = '\\''; /* ' */\n", "int a = '\"', b = '\\'';\n"),
    "characters with a prefix": ("int a = L'\"', b = u8'\"'; // '\n", "int a = L'\"', b = u8'\"';\n"),
    "in a number": ("int a = 1'000'000; int b = 0xf'f; // '\n", "int a = 1'000'000; int b = 0xf'f;\n"),
    "raw string": ('auto a = R"x(/* ")" )x", b = u8R"(//)"; // R"(\n', 'auto a = R"x(/* ")" )x", b = u8R"(//)";\n'),
    "not a raw string": ('#define LAR\nauto a = LAR"(/*"; // b\n', '#define LAR\nauto a = LAR"(/*";\n'),
    "macro": ("#define A(x) ((x) + 1) /* b */\nint a = A( 1 );\n", "#define A(x) ((x) + 1)\nint a = A( 1 );\n"),
    "left out": ("#if 0\nits\n#endif\nint a; // b\n", "\n\n\nint a;\n"),
}


@pytest.mark.parametrize("name", SOURCES)
def test_what_is_seen_of_a_source(target: Target, name: str) -> None:
    source, seen = SOURCES[name]
    env = {"SOURCE": source, "ARGUMENT": "-ggdb", "XBUILD_COLUMNS": "-fsanitize* -g*"}
    assert target.sh(SEEN, env) + "\n" == seen
    assert target.sh(SEEN, {**env, "ARGUMENT": "-O1"}) == ""


def test_a_failure_is_the_compilers(target: Target) -> None:
    call = "cd /tmp; {} -g -E -o it.i nothing.c || echo $?"
    env = {"XBUILD_COLUMNS": "-g*"}
    plain = target.sh(call.format("/usr/bin/gcc"), env)
    assert target.sh(call.format("/.xbuild/columns /usr/bin/gcc"), env) == plain
    assert plain.endswith("\n1")
