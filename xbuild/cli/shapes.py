"""What the objects of --json hold, command by command, and the lines of --events: JSON schemas, written by `reference`.

A command that is not in `COMMANDS` is one whose fields nobody has promised yet.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xbuild.base.events import SCHEMA

Schema = dict[str, Any]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_KINDS = ("usage", "recipe", "source", "phase", "check", "machine", "bug")


def _a(kind: str, text: str = "") -> Schema:
    """`string`, `number?` (or null), `[string]` (a list): a value of this kind. text: what it means."""
    if kind.startswith("["):
        return _many(_a(kind[1:-1]), text)
    bare = kind.rstrip("?")
    known = {} if bare == "any" else {"type": [bare, "null"] if kind.endswith("?") else bare}
    return {**known, **({"description": text} if text else {})}


def _many(item: Schema, text: str = "") -> Schema:
    return {"type": "array", "items": item, **({"description": text} if text else {})}


def _of(text: str = "", /, *, optional: Mapping[str, Schema] | None = None, **fields: Schema | str) -> Schema:
    """An object with these fields and no others; those of `optional` may be missing."""
    known = {name: _a(kind) if isinstance(kind, str) else kind for name, kind in fields.items()}
    value: Schema = {"type": "object", "properties": {**known, **(optional or {})}, "required": list(known)}
    return {**value, "additionalProperties": False, **({"description": text} if text else {})}


def _and(base: Schema, **fields: Schema | str) -> Schema:
    """`base` with more fields, which may not be missing."""
    more = {name: _a(kind) if isinstance(kind, str) else kind for name, kind in fields.items()}
    return {**base, "properties": {**base["properties"], **more}, "required": [*base["required"], *more]}


_SIGNED = _of(name="string", kind="string", key="string", bytes="integer", fault=_a("string", "empty: it is right"),
              signer="string?", made="string?")  # fmt: skip
_PARTS = _many(_of(name="string", seconds="number"))
_WHERE = _of("the place in a file that is wrong, counted from 1", file="string", line="integer", column="integer")
_ERROR = _of(
    "why it failed; null if it did not, or told so in fields of its own",
    kind={"enum": list(_KINDS)},
    code=_a("integer", "the exit code"),
    message=_a("string", "what is wrong, in one line"),
    where={"anyOf": [_WHERE, {"type": "null"}]},
    details=_a("[string]", "further lines, such as the last ones of a log"),
    hint=_a("string?", "what to do next"),
    log=_a("string?", "the file with all that the failed phase said"),
)
_COMMON = {
    "schema": {"const": SCHEMA, "description": "grows when a field goes or changes its meaning"},
    "status": _a("string", '"ok" or a word of the command for what went well; "failed"; "interrupted"'),
    "exit_code": _a("integer"),
    "error": {"anyOf": [_ERROR, {"type": "null"}]},
    "warnings": _a("[string]"),
}
_TAUGHT = _of(recipe="string", target="string", suite="string", program="string", package="string", phase="string")
_STEP = _of(name="string", verdict={"enum": ["run", "skip", "resume", "after"]}, reason="string")
_PLAN = _of(
    key=_a("string?", "of the artifact; null: recipes that it needs are to be built before it is known"),
    plan=_many(_STEP),
    taught=_many(_TAUGHT),
)
_ENTRY = _of(
    name="string", type={"enum": ["M", "E"]}, interpreter="string", flags="string", enabled="boolean?",
    source="string?",
    optional={
        **{name: _a("string") for name in ("magic", "mask", "extension", "package", "detector")},
        "offset": _a("integer"), "architecture": _a("string?"),
    },
)  # fmt: skip
_INSTANCE = _of(
    owner="string", place="string?", enabled="boolean", namespace="any", pid="integer?", entries=_many(_ENTRY)
)
_CHANGE = _of(title="string", done="boolean", steps="[string]", notes="[string]")
_HELD = _of(
    kind="string", name="string", key="string?", what="string", bytes="integer", used="string", in_use="boolean"
)
_BUILT = _of(
    recipe="string", version="string", target="string", mode="string", artifact=_a("string", "the file"),
    sha256=_a("string", "of the artifact"), bytes="integer", manifest="string",
    records=_a("string", "the directory with what ran"),
    anew=_many(_of(phase="string", programs="[string]"), "phases after which the build began again"),
    began_again=_a("object", "how often programs began natively and again emulated"),
    phases={**_PARTS, "description": "of the build that made the artifact"},
    parts={**_PARTS, "description": "of this run"},
    optional={
        "debug": _a("string", "the file with debug information that was split off"),
        "sbom": _a("string", "the file"),
        "provenance": _a("string", "the file"),
        "compiler_cache": _of(
            "what became of calls of compilers that the compiler cache got; others: those that cannot be kept",
            hits="integer", misses="integer", others="integer",
        ),
        "fallback": _a("object", "why the mode that was asked for failed, where another one took its place"),
        **{mode: _a("object", f"what mode {mode} tells") for mode in ("distcc", "system", "emulated", "substituted")},
    },
)  # fmt: skip
_ONE = _of(
    title=_a("string", "recipe, target, and what is not the default"), status="string",
    reason=_a("string", "why it had to run"), because=_a("string?", "what failed, where it was skipped for that"),
    worker=_a("string?", "the machine of a cluster that did it; null: this one"),
    began=_a("number?", "seconds since the beginning of the whole"), seconds="number",
    memory=_a("integer?", "bytes that it had at most"), log=_a("string?", "of the failed phase, else all that it said"),
    error={"anyOf": [_ERROR, {"type": "null"}]}, optional=_BUILT["properties"],
)  # fmt: skip
_RUN = {"jobs": _a("integer"), "seconds": _a("number"), "junit": _a("string?"), "page": _a("string?")}
_PLANNED = _of(
    title="string", recipe="string", target="string", needs=_a("[string]", "titles"), asked="boolean",
    verdict={"enum": ["up-to-date", "build", "later", "wrong"]}, reason="string", key="string?",
)  # fmt: skip
_AMONG = _and(_PLANNED, by=_a("object", "by title: the build dependency for which it needs that one"))
_ANSWER = _of(
    asked="string", path="string?", package="string?", native="boolean", why="string", reason="string",
    remedy="string?", twin="object?", other_twin="string?", loads_modules="boolean", rules="object", next="[object]",
)  # fmt: skip
_SUMS = ("seconds", "native", "emulated", "error", "share_emulated", "share_unseen")
_SUM = {"execs": _of(native="integer", emulated="integer"), **{name: _a("number?") for name in _SUMS}}
_USE = {"execs": _a("integer"), **{name: _a("number") for name in ("seconds", "unseen", "error")}}
_TRACED = {
    "of": _a("string"),
    "from": _a("string"),
    "records": _a("string"),
    "phases": _many(_of(name="string", status="string", whole="boolean", unrecorded="number?", **_SUM)),
    "totals": _of(**_SUM),
    "programs": _many(
        _of(program="string", package="string?", native=_of(**_USE), emulated=_of(reasons="object", **_USE))
    ),
    "advice": _many(
        _of(why="string", reason="string", remedy="string?", possible="boolean", packages="[string]",
            programs="object", emulated="number", gain="number?")
    ),
    "slowdown": _a("number"),
}  # fmt: skip
_RAN = _of(
    mode="string", status="string", seconds="number", phases=_PARTS, resumed="boolean", artifact="string?",
    bytes="integer?", files="integer?", objects="integer?",
    optional={"distcc": _a("object"), "message": _a("string?"), "log": _a("string?")},
)  # fmt: skip
_PAIR = _of(
    modes="[string]", identical="boolean", same_code="boolean", artifact="object", objects="object?",
    differences="[object]", generated="[string]",
)  # fmt: skip
_COMPARED = _of(
    recipe="string", version="string", target="string", suite="string", modes=_many(_RAN), identical="boolean",
    pairing="string", risks="[string]", pairs=_many(_PAIR), again="object?", not_reproducible="any", html="string?",
)  # fmt: skip
_BISECTED = _of(
    recipe="string", version="string", target="string", culprits="[object]", noise="[string]", tries="integer",
    seconds="number",
    optional={
        **{name: _a("string") for name in ("phase", "start", "what")}, "message": _a("string?"),
        **{name: _a("any") for name in ("suspects", "files", "log", "others", "workaround", "kept")},
    },
)  # fmt: skip
_REPRODUCED = _of(
    source="string", version="string", target="string", mode="string", recipe=_a("string", "the file that was built"),
    seconds=_a("object", "of all phases, by mode; native: the build for the machine itself"),
    debs=_many(_a("object"), "each package: sums, where it differs, causes, what has none"),
    control=_many(_a("object"), "the same of the native build"), failed="string", details="[string]",
    exit_code="integer", references="string", notes="[string]", verdict="string?",
    verdicts=_a("object", "by the name of the package"), ratio="number?",
)  # fmt: skip
_ROOT = _of(name="string", targets="[string]", sha256="string", source="string", tree="string", facts="object")
_CARRIED: dict[str, Any] = {"kind": "string", "name": "string", "key": "string", "present": "boolean"}

COMMANDS: dict[str, list[Schema]] = {
    "build": [
        _BUILT,
        _of(builds=_many(_ONE, "where there are several, in an order in which all can be built"), **_RUN),
        _PLAN,
        _of(planned=_many(_PLANNED, "--plan, where there are several")),
    ],
    "deb": [
        _of(
            builds=_many(
                _of(target="string", package="string", version="string",
                    files=_many(_of(file="string", bytes="integer", sha256="string"), "all that was built"),
                    build=_a("object", "as of `build`"),
                    optional={"trials": _a("object", "by name: whether it passed, and its lines")})
            ),
            optional={name: _a("string?") for name in ("junit", "page")},
        ),
        _of(packages=_many(_a("object"), "what --plan and --recipe tell, one a target")),
        _of(planned=_many(_AMONG, "--plan, where there are several")),
    ],
    "wheel": [
        _of(
            wheels=_many(
                _of(target="string", python=_a("string", "its version"), project="string", version="string",
                    file="string", sha256="string", bytes="integer", kind={"enum": ["pure", "abi3", "compiled"]},
                    tags="[string]",
                    bundled=_a("[string]", "the libraries that auditwheel took in"),
                    build=_a("object", "as of `build`"),
                    optional={"tried": _of("what came of the trial in a plain root", imported="[string]",
                                           tested="boolean", lines="[string]",
                                           system=_a("object", "libraries of the system by name: the packages"),
                                           lacking=_a("string", "what no index has, so that nothing was tried"))})
            ),
            files=_a("[string]", "all wheels, those from the index too"),
        ),
        _of(wheels=_many(_a("object"), "what --plan and --recipe tell, one a target")),
    ],
    "why": [_and(_PLAN, changes="[string]"), _ANSWER],
    "list": [
        _of(
            recipes=_many(
                _of(name="string", version="string", summary="string", license="string", homepage="string?",
                    file="string", origin={"enum": ["project", "xbuild"]}, phases="[string]")
            ),
            targets=_many(
                _of(name="string", summary="string", architecture="string", triplet="string", suite="string",
                    native="boolean", builds="boolean", file="string", origin={"enum": ["project", "xbuild"]})
            ),
            modes=_many(_of(name="string", summary="string", default="boolean")),
        )
    ],
    "lock": [_of(lock="string")],
    "forget": [_of(forgotten=_many(_TAUGHT))],
    "check": [
        _of(of="string", where={"enum": ["sandbox", "machine"]}, artifact="string", phase="string?", seconds="number",
            outputs="integer", faults="[string]", log="string?")
    ],
    "compare": [
        _COMPARED,
        _of(files=_a("[string]", "of --against"), verdict="string", sections="[string]",
            optional={"members": _many(_a("object"), "what differs inside"), "lines": _a("[string]"),
                      "detail": _a("string")}),
    ],
    "bisect": [_BISECTED],
    "reproduce": [
        _of(rows=_many(_REPRODUCED), counts=_a("object", "how many packages have which verdict"), mean_ratio="number?",
            html="string?", markdown="string?", optional={name: _a("string?") for name in ("junit", "page")})
    ],
    "trace": [_of(**_TRACED)],
    "bench": [
        _of(command="string", machine="object", rounds="integer", complete="boolean", variants="[object]",
            runs="[object]", figures="[object]", failures="[object]", differing="[object]"),
        _of(dispatched_us="number", direct_us="number"),
    ],
    "deploy": [
        _of(recipe="string", version="string", target="string", board="string", directory="string", artifact="string",
            by=_a("string?", "rsync or tar; null if nothing was to be sent"),
            new="[string]", changed="[string]", foreign=_a("[string]", "of the changed ones: put there by others"),
            removed="[string]", left=_a("[string]", "put there once, changed since, and not touched"),
            same=_a("integer", "how many were as wanted"), bytes=_a("integer", "of files that are sent"),
            dry_run="boolean")
    ],
    "export": [
        _of(path="string", name="string?", digest="string", platform="object", twins="integer", layers="[object]")
    ],
    "doctor": [
        _of(ok="boolean", probes=_many(_of(name="string", status="string", text="string", hint="string?",
                                           optional={"detail": _a("any")})))
    ],
    "root.import": [_and(_ROOT, remarks="[string]")],
    "root.list": [_of(imported=_many(_ROOT), kept="[object]")],
    "store.ls": [
        _of(store="string", bytes="integer", entries=_many(_HELD)),
        _of(shared=_many(_of(store="string", records=_many(_SIGNED)))),
    ],
    "store.verify": [
        _of(entries=_many(_of(kind="string", name="string", faults="[string]", partly="boolean")), removed="[string]"),
        _of(records=_many(_SIGNED), removed="[string]"),
    ],
    "store.gc": [
        _of(removed=_many(_HELD), freed="integer", left="integer", dry_run="boolean"),
        _of(shared_removed=_a("[string]", "names of files"), freed="integer", left="integer", dry_run="boolean"),
    ],
    "store.push": [_of(entries=_many(_of(kind="string", key="string", sha256="string", bytes="integer")))],
    "store.pull": [_of(entries=_many(_of(kind="string", key="string", present="boolean")))],
    "store.keys": [_of(file="string", public="string", signer=_a("string", "as stores name it"))],
    "store.trust": [
        _of(file="string", keys=_many(_of(name="string", signer="string", fingerprint="string", options="string",
                                          revoked="boolean")))
    ],
    "store.pack": [
        _of(file="string", bytes="integer", sha256="string", entries=_many(_of(**_CARRIED, contents="string")))
    ],
    "store.unpack": [_of(entries=_many(_of(**_CARRIED)))],
    "binfmt.list": [
        _of(supported="boolean", effective={"anyOf": [_INSTANCE, {"type": "null"}]}, others=_many(_INSTANCE),
            certain="boolean", remark="string?")
    ],
    "binfmt.explain": [
        _of(file="string", root="string", verdict="string", cause="string?", text="string", errno="string?",
            certain="boolean", chain="[string]", notes="[string]", hints="[string]", comparisons="[object]")
    ],
    "binfmt.render": [
        _and(_ENTRY, magic_escaped="string", mask_escaped="string", register="string", explanation="any",
             notes="[string]", **dict.fromkeys(("binfmt.d", "binfmt-support"), _a("string")))
    ],
    "binfmt.parse": [_of(format="string", entries=_many(_ENTRY))],
    "binfmt.install": [_CHANGE],
    "binfmt.remove": [_CHANGE],
}  # fmt: skip
"""What each command gives if all went well: one of these."""

_EVENTS: dict[str, Schema] = {
    "began": _of(name="string", depth=_a("integer", "in how many others"), optional={"log": _a("string", "its file")}),
    "ended": _of(name="string", seconds="number", depth="integer", optional={"log": _a("string")}),
    "failed": _of(name="string", seconds="number", depth="integer", optional={"log": _a("string")}),
    "progress": _of(name="string", done=_a("integer", "bytes"), total="integer?"),
    "info": _of(text="string"),
    "warning": _of(text="string"),
    "error": _of(error=_ERROR),
    "finished": _of(status="string", exit_code="integer"),
    "build-began": _of(reason="string", log="string"),
    "build-ended": _of(status="string", seconds="number"),
    "build-skipped": _of(because=_a("string", "the build that failed")),
}


def output_of(command: str) -> Schema:
    """The schema of what `command` writes to stdout with --json, in success and in failure."""
    wanted = COMMANDS.get(command, [{"properties": {}, "required": []}])
    fields = {name: part for shape in wanted for name, part in shape["properties"].items()}
    failed = {"properties": {"exit_code": {"not": {"const": 0}}}}
    return {
        "$schema": _DIALECT,
        "title": f"xbuild {command} --json",
        "type": "object",
        "properties": {**fields, **_COMMON},
        "required": list(_COMMON),
        # What failed may have come to its fields, or not.
        "anyOf": [failed, *({"required": shape["required"]} for shape in wanted)],
        **({"additionalProperties": False} if command in COMMANDS else {}),
    }


def event() -> Schema:
    """The schema of a line of --events."""
    kinds = []
    for name, shape in _EVENTS.items():
        head = {"schema": {"const": SCHEMA}, "time": _a("number", "seconds since 1970"), "event": {"const": name}}
        more = {"build": _a("string", "of which of many builds this is told")}
        fields = {**head, **more, **shape["properties"]}
        kinds.append({**shape, "properties": fields, "required": [*head, *shape["required"]]})
    return {"$schema": _DIALECT, "title": "a line of xbuild --events", "oneOf": kinds}


def files() -> dict[str, str]:
    """The text of each schema, by the name of its file below docs/schema."""
    found = {f"output/{command}.json": output_of(command) for command in COMMANDS}
    return {name: json.dumps(text, indent=2) + "\n" for name, text in {**found, "events.json": event()}.items()}


def write(directory: Path) -> None:
    """Write them below `directory`."""
    (directory / "output").mkdir(parents=True, exist_ok=True)
    for name, text in files().items():
        (directory / name).write_text(text)

