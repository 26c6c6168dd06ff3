"""What a project says of its own wheels: [tool.xbuild.wheel] of its pyproject.toml, in cibuildwheel's words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import Field, ValidationError, field_validator

from xbuild.base.errors import UsageError
from xbuild.model.base import Model
from xbuild.model.recipe import Environment
from xbuild.model.relation import Relation
from xbuild.wheels.find import Project
from xbuild.wheels.recipe import Options
from xbuild.wheels.trial import Wanted

_WORDS = ("before_build", "test_command")


class Settings(Model):
    """The table `[tool.xbuild.wheel]`."""

    before_build: str = Field("", description="Shell text that runs before the build backend; a list is joined by &&")
    test_command: str = Field("", description="Shell text that fails when the wheel is wrong; as before-build")
    test_requires: tuple[str, ...] = Field((), description="Requirements that the test command needs")
    environment: Environment = Field({}, description="Variables while it is built")
    depends: tuple[Relation, ...] = Field((), description="The distribution's packages that it is built against")
    build_requires: tuple[str, ...] = Field((), description="Build requirements in the place of its own")
    config_settings: dict[str, str] = Field({}, description="For the build backend")
    repair: bool = Field(True, description="Whether auditwheel takes libraries in, and gives it its tag")
    repair_args: tuple[str, ...] = Field((), description="Further arguments of auditwheel repair")
    data: tuple[str, ...] = Field((), description="Files that are data, also if they are ELF files for other machines")

    @field_validator(*_WORDS, mode="before")
    @classmethod
    def _joined(cls, value: Any) -> Any:
        return " && ".join(map(str, value)) if isinstance(value, list) else value


def settings_of(project: Project) -> Settings:
    """What it says. Raises UsageError if that is wrong."""
    table: Any = project.pyproject
    for name in ("tool", "xbuild", "wheel"):
        table = table.get(name, {}) if isinstance(table, Mapping) else {}
    try:
        return Settings.model_validate(table)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        message = f"{project.name}: [tool.xbuild.wheel] of its pyproject.toml is wrong"
        raise UsageError(message, details=lines) from error


def together(project: Project, asked: Options, tests: Wanted) -> tuple[Options, Wanted]:
    """What the project says of itself, and over it what is asked for."""
    own = settings_of(project)
    options = replace(
        asked,
        depends=tuple(dict.fromkeys([*own.depends, *asked.depends])),
        build_requires=tuple(dict.fromkeys([*own.build_requires, *asked.build_requires])),
        config_settings=(*(f"{key}={value}" for key, value in own.config_settings.items()), *asked.config_settings),
        before_build=asked.before_build or own.before_build,
        environment={**own.environment, **asked.environment},
        repair=asked.repair and own.repair,
        repair_args=(*own.repair_args, *asked.repair_args),
        data=(*own.data, *asked.data),
    )
    return options, Wanted(tests.command or own.test_command, (*own.test_requires, *tests.requires))
