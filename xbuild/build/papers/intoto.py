"""How a build came to be: an in-toto statement (v1) with SLSA provenance (v1). It is not signed: a signer wraps it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xbuild import __name__ as tool
from xbuild.build.papers.inputs import Origin, origins, own_version, packages

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:x-xbuild:build:1"
"""What externalParameters and internalParameters hold here, for who reads them."""
BUILDER = "urn:x-xbuild:local"
"""Whoever runs it on his own machine: SLSA's build level 1."""


def provenance(told: Mapping[str, Any]) -> dict[str, Any]:
    """The statement. told: the manifest."""
    made = [told[name].get("packed", told[name]) for name in ("artifact", "debug") if name in told]
    decided = {name: told["inputs"][name] for name in ("policy", "makers", "twins") if name in told["inputs"]}
    return {
        "_type": STATEMENT,
        "subject": [{"name": one["file"], "digest": {"sha256": one["sha256"]}} for one in made],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    **{name: told[name] for name in ("name", "version", "target", "suite", "mode")},
                    "strip": told.get("strip", False),
                },
                "internalParameters": {"key": told["key"], "sourceDateEpoch": told["source-date-epoch"], **decided},
                "resolvedDependencies": [
                    *map(_source, origins(told)),
                    *map(_recipe, told.get("recipes", ())),
                    *(
                        {"name": package.name, "uri": package.purl,
                         **({"digest": {"sha256": package.sha256}} if package.sha256 else {})}
                        for package in packages(told)
                    ),
                ],
            },
            "runDetails": {"builder": {"id": BUILDER, "version": {tool: own_version()}}},
        },
    }  # fmt: skip


def _recipe(one: Mapping[str, Any]) -> dict[str, Any]:
    """The artifact of another recipe, whose own statement has the same digest."""
    return {"name": f"{one['name']} {one['version']}", "digest": {"sha256": one["sha256"]}}


def _source(origin: Origin) -> dict[str, Any]:
    digest = {"sha256": origin.sha256, "xbuildTree": origin.tree, "gitCommit": origin.commit}
    uri = origin.address or origin.purl
    return {
        "name": origin.name,
        **({"uri": uri} if uri else {}),
        # A tree that was changed is none of that commit.
        "digest": {
            kind: value for kind, value in digest.items() if value and not (kind == "gitCommit" and origin.dirty)
        },
        **({"annotations": {"commit": origin.commit, "dirty": True}} if origin.dirty else {}),
    }
