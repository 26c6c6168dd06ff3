"""xbuild's command line as a user has it, and what tests look at around it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

from xbuild.base import paths
from xbuild.cli.shapes import output_of
from xbuild.sources import tree_digest

CHECKOUT = paths.PACKAGE.parent
INVOKE = (sys.executable, "-m", "invoke")
# The test's stdin is nobody, and no setting of the user's may change what a test says.
_DROPPED = (
    "XBUILD_CACHE", "XBUILD_PROJECT", "XBUILD_YES", "XBUILD_REQUIRE", "XBUILD_CCACHE", "XBUILD_STORE", "FORCE_COLOR",
)  # fmt: skip


def _hear_control_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass(frozen=True)
class Said:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON object on stdout."""
        return json.loads(self.out)


class Xbuild:
    """xbuild as a user has it: started with `invoke` in the checkout, for the project `project`."""

    def __init__(self, project: Path, cache: Path) -> None:
        self.project = project
        self.cache = cache

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment that commands are started with."""
        kept = {name: value for name, value in os.environ.items() if name not in _DROPPED}
        own = {"XBUILD_CACHE": str(self.cache), "XBUILD_PROJECT": str(self.project)}
        return {**kept, **own, **(more or {})}

    def start(self, *words: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start `invoke WORDS`, its talk on a pipe, in a session of its own."""
        return subprocess.Popen(
            [*INVOKE, *words],
            cwd=CHECKOUT,
            env=self.environment(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            # A test run in the background ignores ^C, and hands that on to all that it starts (signal(7)).
            preexec_fn=_hear_control_c,
        )

    def __call__(self, *words: str, code: int = 0, env: Mapping[str, str] | None = None) -> Said:
        """Run `invoke WORDS` to its end; it must end with `code`."""
        return self.ended(self.start(*words, env=env), code)

    def ended(self, process: subprocess.Popen[bytes], code: int = 0) -> Said:
        """What `process`, which must end with `code`, says."""
        with process:
            out, err = process.communicate()
        said = Said(process.returncode, out.decode(), err.decode())
        assert said.code == code, f"exit code {said.code}, not {code}\n{said.out}\n{said.err}"
        assert "Traceback" not in said.err, said.err
        words = [str(word) for word in process.args[3:]]  # type: ignore[index]
        own = words[: words.index("--")] if "--" in words else words
        if "--json" in own and said.out:
            Draft202012Validator(output_of(own[0])).validate(said.json)
        return said

    def build(self, recipe: str, *words: str, target: str = "armhf") -> Any:
        """The JSON object of a build that must succeed."""
        return self("build", recipe, "--target", target, "--json", *words).json

    def fails(self, recipe: str, *words: str, code: int) -> str:
        """What a build for armhf says that must fail with `code`."""
        return self("build", recipe, "--target", "armhf", *words, code=code).err

    def recipe(
        self,
        name: str = "tiny",
        *,
        files: Mapping[str, str | bytes] | None = None,
        build: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> Path:
        """Write a recipe that takes a second or two: it makes usr/share/answer. Gives its file.

        files: its source. build: what is not the default of its build. fields: other fields, `_` for `-`.
        """
        source = self.project / "sources" / name
        shutil.rmtree(source, ignore_errors=True)
        for file, content in (files or {"README": "nothing\n"}).items():
            path = source / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        phases = {"compile": "echo 42 > answer", "install": 'install -D -m 644 answer "$DESTDIR/usr/share/answer"'}
        value = {
            "schema": 1,
            "name": name,
            "version": "1",
            "summary": "A test",
            "license": "MIT",
            "sources": [{"path": f"sources/{name}", "sha256": tree_digest(source)}],
            "build": {"preset": "make", **phases, **(build or {})},
            "outputs": [{"path": "usr/share/answer"}],
            **{field.replace("_", "-"): value for field, value in fields.items()},
        }
        path = self.project / "recipes" / f"{name}.yml"
        path.write_text(yaml.safe_dump(value, sort_keys=False))
        return path

    def place(self, name: str = "tiny", mode: str = "substituted", target: str = "armhf") -> Path:
        """Where the recipe `name` is built, on the machine."""
        return self.cache / "work" / f"{name}-{target}-trixie-{mode}"

    def log(self, phase: str = "compile", name: str = "tiny") -> str:
        """What the log of a phase holds so far."""
        found = list((self.place(name) / "logs").glob(f"*-{phase}.log"))
        return found[0].read_text(errors="replace") if found else ""


def unpacked(artifact: str | Path) -> dict[str, tuple[str, int, str]]:
    """What an artifact holds: by name, the kind, the mode, and the sha256 of the contents or the link's target."""
    done = subprocess.run(["zstd", "-dcq", artifact], capture_output=True, check=True)
    found = {}
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        for member in tar:
            data = tar.extractfile(member) if member.isreg() else None
            content = hashlib.sha256(data.read()).hexdigest() if data else member.linkname
            found[member.name] = (member.type.decode(), member.mode, content)
    return found


def wait_for(what: str, happened: Callable[[], object], seconds: float = 60) -> None:
    """Wait until `happened()`; `what` it is, for the message."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def own_sleep(number: int) -> str:
    """A `sleep` of some decades that no other run of the tests on this machine has."""
    return f"sleep {number}{os.getpid()}"


def processes(marker: str) -> list[str]:
    """The command lines of all processes of the machine that hold `marker`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if marker in line:
            found.append(line)
    return found


def mounts(below: Path) -> list[str]:
    """The mounts that this test can see, below a directory."""
    return [line for line in Path("/proc/self/mounts").read_text().splitlines() if str(below.resolve()) in line]
