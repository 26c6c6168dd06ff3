"""JSON schemas of the files that users write: for editors, and as a reference."""

from __future__ import annotations

import json
from pathlib import Path

from xbuild.model.architectures import Architectures
from xbuild.model.base import Model
from xbuild.model.native import Native
from xbuild.model.preset import Preset
from xbuild.model.recipe import RecipeFile
from xbuild.model.toolchain import Toolchain

DIALECT = "https://json-schema.org/draft/2020-12/schema"

FILES: dict[str, type[Model]] = {
    "recipe": RecipeFile,
    "toolchain": Toolchain,
    "preset": Preset,
    "architectures": Architectures,
    "native": Native,
}


def schemas() -> dict[str, str]:
    """The text of each schema, by the name of its file."""
    return {f"{name}.json": _text(name, model) for name, model in FILES.items()}


def write_schemas(directory: Path) -> list[Path]:
    """Writes the schemas into `directory` (made when missing); returns their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in schemas().items():
        path = directory / name
        path.write_text(text)
        written.append(path)
    return written


def _text(name: str, model: type[Model]) -> str:
    body = model.model_json_schema(by_alias=True, mode="validation")
    schema = {"$schema": DIALECT, **body, "title": f"xbuild {name}"}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
