"""The expressions of recipes: what they can say, and that none runs or grows without end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2.exceptions import TemplateError

from xbuild.model.template import _environment, render, variables

VALUES = variables("zlib", "1.2.13", "armhf")


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("a-{{ version }}.tar", "a-1.2.13.tar"),
        ("{{ version_major_minor }}/{{ name }}", "1.2/zlib"),
        ("{{ version.replace('.', '_') }}", "1_2_13"),
        ("{{ version | replace('.', '-') | upper }}", "1-2-13"),
        ("{{ version.split('.')[0] }}{{ version[-2:] }}", "113"),
        ("{{ version.split('.') | join }}", "1213"),
        ("{{ 'a' if target == 'armhf' else 'b' }}", "a"),
        ("{{ (version.split('.')[0] | int) * 1000 + 7 % 4 }}", "1003"),
        ("{{ '%d%02d' | format(3, 4) }}{{ '%03d' % 5 }}", "304005"),
        ("{{ name ~ '-' ~ 1 }}", "zlib-1"),
    ],
)
def test_what_expressions_can_say(text: str, rendered: str) -> None:
    assert render(text, VALUES) == rendered


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{{ 9**(9**9) }}", "there is no"),
        ("{{ 'a' * 9999999999 }}", "only for numbers"),
        ("{{ [1] * 9999999999 }}", "only for numbers"),
        ("{{ 9999999999 * 9999999999 }}", "a number is larger"),
        ("{{ range(9999999999) | list }}", "only methods of text can be called"),
        ("{{ lipsum(n=9999999) }}", "only methods of text can be called"),
        ("{{ version.ljust(9999999999) }}", "only methods of text can be called"),
        ("{{ version | center(9999999999) }}", "No filter named 'center'"),
        ("{{ '{:9999999999}'.format(1) }}", "only methods of text can be called"),
        ("{{ '%9999999999d' % 1 }}", "may be too wide"),
        ("{{ '%*d' | format(9999999999, 1) }}", "may be too wide"),
        ("{{ version" + " | replace('', version)" * 50 + " }}", "a text is longer"),
        ("{{ version" + ".replace('', version)" * 50 + " }}", "a text is longer"),
        ("{{ " + "(" * 2000 + "1" + ")" * 2000 + " }}", "recursion"),
        ("{{ " + "1+" * 5000 + "1 }}", "may have 4096 characters"),
        ("{{ version.upper }}", "gives no text"),
        ("{{ version.__class__.__mro__ }}", "unsafe"),
        ("{{ none }}", "gives no text"),
    ],
)
def test_what_they_cannot(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        render(text, VALUES)


PARTS = ("{{ version }}", "{{name}}", "{{", "}}", "{", "}", " ", "-", "version", "x", "\n", "\r", "'{{'", "|upper")


@settings(max_examples=200)
@given(
    text=st.lists(st.sampled_from(PARTS), max_size=8).map("".join),
    version=st.sampled_from(["1.2", "{{ name }}", "}}"]),
)
def test_a_mere_variable_is_what_jinja_makes_of_it(text: str, version: str) -> None:
    values = variables("zlib", version, "armhf")

    def said(by: Callable[[], str]) -> str | None:
        try:
            return by()
        except (ValueError, TemplateError):
            return None

    wanted = said(lambda: str(_environment().from_string(text).render(values)))
    assert said(lambda: render(text, values)) == (wanted if "{{" in text else text)


def test_a_mere_variable_is_no_longer_than_others() -> None:
    with pytest.raises(ValueError, match="a text is longer"):
        render("{{ version }}", {"version": "1" * 4097})


def test_a_mere_variable_needs_no_jinja() -> None:
    code = (
        "import sys; from xbuild.model.template import render; text = render('{{ a }}', {'a': 'b'}); "
        "sys.exit((text, 'jinja2' in sys.modules) != ('b', False))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
