"""The ladder of an ablation: rung by rung more tools run natively (ladder.yml)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from xbuild.base.errors import RecipeError
from xbuild.base.yamlfile import did_you_mean, load_model
from xbuild.model.base import Model, NonEmpty, SchemaVersion
from xbuild.model.policy import Policy
from xbuild.twins.pairing import Pairs

FILE = Path(__file__).with_name("ladder.yml")


class Rung(Model):
    """One step of the ladder."""

    name: str = Field(description="As reports show it")
    adds: Literal["all"] | NonEmpty[str] = Field(description="Tools of the policy that join here; `all` that are left")


class Ladder(Model):
    """The rungs, from the one with the fewest tools to the one with all."""

    schema_version: SchemaVersion = Field(alias="schema", description="Version of the format")
    rungs: NonEmpty[Rung] = Field(description="In the order of climbing")

    @model_validator(mode="after")
    def _ends_with_all(self) -> Self:
        if [rung.adds == "all" for rung in self.rungs] != [False] * (len(self.rungs) - 1) + [True]:
            raise ValueError("the last rung, and no other, adds all")
        named = [tool for rung in self.rungs for tool in rung.adds if rung.adds != "all"]
        twice = sorted({tool for tool in named if named.count(tool) > 1})
        if twice:
            raise ValueError(f"named twice: {', '.join(twice)}")
        return self

    def tools(self, number: int, policy: Policy) -> frozenset[str]:
        """The tools of `policy` that run natively on the rung `number`, from 0."""
        below = self.rungs[: number + 1]
        if any(rung.adds == "all" for rung in below):
            return frozenset(policy.tools)
        return frozenset(tool for rung in below for tool in rung.adds)


def load(policy: Policy, file: Path = FILE) -> Ladder:
    """The ladder, checked against `policy`.

    Raises RecipeError if the file is wrong, or names a tool that the policy does not have.
    """
    ladder = load_model(file, Ladder)
    named = {tool for rung in ladder.rungs for tool in rung.adds if rung.adds != "all"}
    if unknown := sorted(named - set(policy.tools)):
        raise RecipeError(
            f"{file.name} names tools that the policy {policy.name!r} does not have",
            details=[f"{tool!r}{did_you_mean(tool, policy.tools)}" for tool in unknown],
            hint="an ablation needs a policy with the tools that the ladder names",
        )
    return ladder


def switched_off(pairs: Pairs, kept: frozenset[str]) -> frozenset[str]:
    """Target paths of the twins that are taken away where only the tools `kept` run natively.

    pairs: of the build with all tools. What has no twin there is among them: a group that was refused as a whole must
    not come back in parts.
    """
    refused = {refused.path for refused in pairs.refused}
    return frozenset(refused | {twin.target_path for twin in pairs.twins if twin.tool not in kept})
