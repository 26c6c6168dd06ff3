"""Which twins take part while a root is made, and what comes of one that asked too late for a library of the target."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from xbuild.base.errors import MachineError
from xbuild.base.paths import PACKAGE
from xbuild.base.process import InVain
from xbuild.formats.record import Choice
from xbuild.model.load import load_policy, load_toolchain
from xbuild.roots import apt, enclosed
from xbuild.roots.making import Foreign, Making, TwinsTooLateError
from xbuild.roots.twinned import entries, make
from xbuild.sandbox.mounts import Bind
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

    def run_logged(*_: object, in_vain: InVain) -> None:
        assert not in_vain()
        head = struct.pack("<HBBIQ", 16 + len(PERL), choice, 0, 7, 1)
        (tmp_path / "record").write_bytes(head + PERL.encode())
        assert bool(in_vain()) is (choice is Choice.TOO_LATE)
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


def test_nothing_of_the_user_is_seen_where_roots_are_made(tmp_path: Path) -> None:
    binds = [mount for mount in enclosed.mounts(tmp_path) if isinstance(mount, Bind)]
    assert {mount.target.split("/")[1] for mount in binds} <= {
        "usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc", "staging",
    }  # fmt: skip
    assert [mount.target for mount in binds if not mount.readonly] == ["/staging"]
    made = enclosed.sandbox(tmp_path)
    assert (made.network, made.known, made.mount_point) == (False, False, tmp_path)
    assert set(made.env) == {"PATH", "LC_ALL"}


@pytest.mark.parametrize("given", ["environment", "apt"])
def test_what_the_user_says_of_proxies_is_for_fetching_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    for name in ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    own = tmp_path / "own.pem"
    own.touch()
    lines = ['Acquire::http::Proxy "http://b.example:1";', f'Acquire::https::CaInfo "{own}";']
    text = "\n".join(['APT::Architecture "amd64";', *lines, 'Acquire::Languages "none";', ""])
    monkeypatch.setattr(enclosed, "_settings", lambda: text if given == "apt" else "")
    if given == "environment":
        monkeypatch.setenv("http_proxy", "http://a.example:1")
        monkeypatch.setenv("TOKEN", "a secret")
    made = enclosed.fetching(tmp_path, ["http://c.example/debian", f"copy://{tmp_path}", "file:/nowhere"])
    assert made.network
    assert made.env.get("http_proxy") == ("http://a.example:1" if given == "environment" else None)
    assert "TOKEN" not in made.env
    assert enclosed.transport() == (lines if given == "apt" else [])
    targets = {mount.target for mount in made.mounts}
    assert str(tmp_path) in targets
    assert (str(own) in targets) == (given == "apt")
    assert "/nowhere" not in targets
    assert "http_proxy" not in enclosed.sandbox(tmp_path).env


def test_every_user_of_the_root_may_write_the_record(tmp_path: Path) -> None:
    making = Making(Store(tmp_path), tmp_path, ARMHF, Foreign(tmp_path / "private", lambda *_: ((), None)))
    assert [mount.describe() for mount in making._window(tmp_path)] == [
        f"bind {tmp_path} at /answer (read-only)",
        f"overlay at /native: nothing over {tmp_path}/private over {tmp_path}/nothing",
        f"bind {tmp_path}/record at /native/record",
    ]
    assert (tmp_path / "record").stat().st_mode & 0o777 == 0o666
