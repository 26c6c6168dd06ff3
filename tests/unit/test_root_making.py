"""Which twins take part while a root is made, and what comes of one that asked too late for a library of the target."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from xbuild.base.errors import MachineError
from xbuild.base.paths import PACKAGE
from xbuild.formats.record import Choice
from xbuild.model.load import load_policy, load_toolchain
from xbuild.roots import apt
from xbuild.roots.making import Foreign, Making, TwinsTooLateError
from xbuild.roots.twinned import entries, make
from xbuild.sandbox.run import Sandbox
from xbuild.store.local import Store
from xbuild.twins.pairing import Twin

ARMHF = load_toolchain("armhf", PACKAGE.parent)
PERL, MODULE = "/usr/bin/perl", "/usr/lib/arm-linux-gnueabihf/perl-base/auto/POSIX/POSIX.so"
TWINS = (
    Twin("perl", PERL, "amd64", "perl-base", "5.40.1-6", PERL),
    Twin("perl-modules", MODULE, "amd64", "perl-base", "5.40.1-6", "x"),
    Twin("sed", "/usr/bin/sed", "amd64", "sed", "4.9-2", "/usr/bin/sed"),
)


@pytest.mark.parametrize(
    ("version", "with_perl"), [("5.40.1-6", True), ("5.40.1-6+deb13u1", False), ("5.36.0-7", False), (None, False)]
)
def test_what_loads_modules_must_be_of_the_version_that_there_will_be(version: str | None, *, with_perl: bool) -> None:
    policy = load_policy(ARMHF)
    assert policy is not None
    held = {"sed": "4.8-1 armhf 00"} | ({"perl-base": f"{version} armhf 00"} if version else {})
    paths = {entry.path for entry in entries(TWINS, held, policy, ARMHF)}
    assert paths == {"/usr/bin/sed", *((PERL, MODULE) if with_perl else ())}
    assert {entry.path for entry in entries(TWINS, held, policy, ARMHF, without=frozenset({PERL}))} == paths - {PERL}


def late(program: str) -> TwinsTooLateError:
    error = TwinsTooLateError(f"{program} was too late")
    error.programs = frozenset({program})
    return error


def test_a_root_is_made_anew_without_the_twin_that_was_too_late(tmp_path: Path) -> None:
    chosen, seen = [], []
    staging = tmp_path / "staging"
    staging.mkdir()

    def work(without: frozenset[str]) -> None:
        chosen.append(without)
        seen.append([path.name for path in staging.iterdir()])
        (staging / "upper/below").mkdir(parents=True)
        if len(seen) < 3:
            raise late(f"/usr/bin/{len(seen)}")

    make(staging, Store(tmp_path / "store"), work)
    assert chosen == [frozenset(), {"/usr/bin/1"}, {"/usr/bin/1", "/usr/bin/2"}]
    assert seen == [[], [], []]
    assert [path.name for path in staging.iterdir()] == ["upper"]


def test_what_is_late_all_the_same_is_an_error(tmp_path: Path) -> None:
    def work(_: frozenset[str]) -> None:
        raise late(PERL)

    with pytest.raises(TwinsTooLateError, match="perl was too late"):
        make(tmp_path, Store(tmp_path), work)


@pytest.mark.parametrize("fails", [True, False])
@pytest.mark.parametrize("choice", [Choice.TWIN, Choice.TOO_LATE])
def test_the_mark_counts_however_the_command_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, choice: Choice, *, fails: bool
) -> None:
    making = Making(Store(tmp_path), tmp_path, ARMHF, Foreign(tmp_path, lambda *_: ((), None)))

    def run_logged(*_: object) -> None:
        head = struct.pack("<HBBIQ", 16 + len(PERL), choice, 0, 7, 1)
        (tmp_path / "record").write_bytes(head + PERL.encode())
        if fails:
            raise MachineError("it failed")

    monkeypatch.setattr(apt, "run_logged", run_logged)
    if choice is Choice.TOO_LATE:
        with pytest.raises(TwinsTooLateError, match="/usr/bin/perl asked for a library") as error:
            making._run(Sandbox(), [], "complaint")
        assert error.value.programs == {PERL}
    elif fails:
        with pytest.raises(MachineError, match="it failed"):
            making._run(Sandbox(), [], "complaint")
    else:
        making._run(Sandbox(), [], "complaint")


def test_every_user_of_the_root_may_write_the_record(tmp_path: Path) -> None:
    making = Making(Store(tmp_path), tmp_path, ARMHF, Foreign(tmp_path / "private", lambda *_: ((), None)))
    mounts, places = making._window(tmp_path)
    assert places == [tmp_path, tmp_path, tmp_path / "private"]
    assert [mount.describe() for mount in mounts] == [f"bind {tmp_path}/record at {tmp_path}/private/record"]
    assert (tmp_path / "record").stat().st_mode & 0o777 == 0o666
