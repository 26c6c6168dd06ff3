"""Reports as HTML files that need nothing beside them: no script, no network, no other file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xbuild.base.text import clean, human_size, human_time
from xbuild.proof.compare.outcome import Comparison
from xbuild.proof.report import compare, reproduce
from xbuild.proof.reproduce.verdict import Row


def render(template: str, folder: Path = Path(__file__).parent, /, **values: Any) -> str:
    """The text of the template file `template` in `folder`; all values are escaped. Pages extend `base.html.j2`."""
    # Only here: it takes long to load, and most commands make no page.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"time": human_time, "size": human_size, "clean": clean}
    return templates.get_template(template).render(**values)


def compare_page(comparison: Comparison) -> str:
    """The page of a comparison of modes."""
    return render("compare.html.j2", view=compare.View(comparison))


def reproduce_page(rows: Sequence[Row]) -> str:
    """The page of packages that were held against the archive's own."""
    return render("reproduce.html.j2", view=reproduce.View(rows))
