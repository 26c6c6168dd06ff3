"""Packages resolved from a real, signed index, over a mirror on this machine that can lose what it has."""

from __future__ import annotations

import http.server
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import Armhf
from xbuild.base import paths
from xbuild.base.errors import EXIT_MACHINE, MachineError
from xbuild.formats.debian import Tree
from xbuild.model.load import load_toolchain
from xbuild.model.native import here
from xbuild.roots import mirror as mirrors
from xbuild.roots.distribution import Roots
from xbuild.roots.index import packages_files
from xbuild.roots.resolve import require_same
from xbuild.store.local import Store

TOOLCHAIN = load_toolchain("armhf", paths.PACKAGE.parent)
SUITE = TOOLCHAIN.distribution.suite
DATE = "20260131T000000Z"


class Mirror:
    """A mirror that asks another one, but for what is `gone`: parts of paths. asked: all paths.

    Below /DATE/ it is the distribution's archive of snapshots, which has one day only.
    """

    def __init__(self) -> None:
        upstream = mirrors.find(SUITE, here().name)
        if upstream is None:
            pytest.skip(f"no mirror serves {SUITE}")
        served: str = upstream
        gone, asked = self.gone, self.asked = set[str](), list[str]()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                path = self.path.removeprefix(f"/{DATE}")
                try:
                    if path.startswith("/2") or any(part in path for part in gone):
                        raise OSError("gone")
                    with urllib.request.urlopen(served + path, timeout=60) as answer:
                        data = answer.read()
                except OSError:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    known = Mirror()
    monkeypatch.setenv("XBUILD_MIRROR", known.address)
    yield known
    known.server.shutdown()
    known.server.server_close()


def roots(store: Store, snapshot: str | None = None) -> Roots:
    return Roots(store, TOOLCHAIN, None, snapshot=snapshot)


def debs(mirror: Mirror) -> list[str]:
    return [path for path in mirror.asked if path.endswith(".deb")]


def test_what_is_resolved_is_what_is_made(store: Store, mirror: Mirror, tmp_path: Path) -> None:
    """And the same from another store: the key says what is in it."""
    known = roots(store)
    value = known.machine_value(["hostname"])
    assert {"hostname", "libc6"} < set(value["packages"])
    assert debs(mirror) == []
    tree = known.machine_root(["hostname"])
    assert (tree / "usr/bin/hostname").is_file()
    fetched = debs(mirror)
    assert len(fetched) == len(value["packages"])
    other = Store(tmp_path / "another/place", store._remove_tree)
    assert roots(other).machine_value(["hostname"]) == value
    # Later looks cost no look at the mirror.
    mirror.asked.clear()
    assert roots(store).machine_value(["hostname"]) == value
    assert mirror.asked == []


@pytest.mark.long
def test_a_mirror_that_changes_in_between(store: Store, mirror: Mirror, capfd: pytest.CaptureFixture[str]) -> None:
    """What was resolved is of yesterday: an older version, whose file the mirror no longer has."""
    known = roots(store)
    question = known.machine_question(["hostname"])
    today = dict(known.resolver.packages(question))
    version = today["hostname"].split()[0]
    place = known.resolver.place(question)
    for file in (*packages_files(place / "lists"), place / "packages.json"):
        file.write_text(file.read_text().replace(version, "3.0~yesterday"))
    (place / "SHA256SUMS").unlink()
    assert roots(store).machine_value(["hostname"])["packages"]["hostname"].startswith("3.0~yesterday ")
    for file in packages_files(place / "lists"):
        file.write_text(file.read_text().replace("pool/main/h/hostname/", "pool/main/h/yesterday/"))
    again = roots(store)
    assert (again.machine_root(["hostname"]) / "usr/bin/hostname").is_file()
    assert "the mirror has changed" in capfd.readouterr().err
    assert dict(again.resolver.packages(question)) == today
    (entry,) = (value for _, _, value in store.finished("roots"))
    assert entry["packages"] == today


@pytest.mark.long
def test_a_package_that_stays_away(store: Store, mirror: Mirror) -> None:
    mirror.gone.add("/hostname_")
    with pytest.raises(MachineError, match="the root could not be made") as caught:
        roots(store).machine_root(["hostname"])
    assert any("404" in line and "hostname_" in line for line in caught.value.details)
    assert store.finished("roots") == []


def test_a_snapshot(store: Store, mirror: Mirror) -> None:
    address = f"{mirror.address}/{DATE}"
    known = roots(store, address)
    plain = roots(store).machine_value(["hostname"])
    mirror.asked.clear()
    assert known.machine_value(["hostname"]) == plain
    assert all(path.startswith(f"/{DATE}/") for path in mirror.asked)
    assert (known.machine_root(["hostname"]) / "usr/bin/hostname").is_file()


def test_a_snapshot_that_does_not_exist(store: Store, mirror: Mirror) -> None:
    with pytest.raises(MachineError, match=r"there is no snapshot of trixie at http://127.0.0.1:") as caught:
        roots(store, f"{mirror.address}/20010101T000000Z").machine_value(["hostname"])
    assert caught.value.exit_code == EXIT_MACHINE
    assert "another DATE" in (caught.value.hint or "")
    assert store.finished("indexes") == []


def test_a_layer_over_a_root(armhf: Armhf) -> None:
    """The real roots of the user's store hold what was resolved for them."""
    question = armhf.roots.layer_question(["pkgconf"])
    require_same(armhf.roots.resolver.packages(question), Tree(armhf.roots.layers(["pkgconf"])), "layer")
