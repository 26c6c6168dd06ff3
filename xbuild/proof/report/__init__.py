"""Reports as HTML files that need nothing beside them: no script, no network, no other file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xbuild.base.log import human_size, human_time
from xbuild.proof.compare.outcome import Comparison
from xbuild.proof.report import compare


def render(template: str, **values: Any) -> str:
    """The page of the template file `template`, which extends `base.html.j2`; all values are escaped."""
    # Only here: it takes long to load, and most commands make no page.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"time": human_time, "size": human_size}
    return templates.get_template(template).render(**values)


def compare_page(comparison: Comparison) -> str:
    """The page of a comparison of modes."""
    return render("compare.html.j2", view=compare.View(comparison))


def write(file: Path, page: str) -> None:
    """Write `page` to `file`, which appears only when complete; its directory is made if it is missing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.new")
    # A name of a file in a build tree may hold any bytes.
    beside.write_text(page, encoding="utf-8", errors="backslashreplace")
    beside.replace(file)
