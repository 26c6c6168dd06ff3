from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from xbuild.roots import mirror

LIST = """\
# deb http://commented.example/debian trixie main
deb http://one.example/debian/ trixie main
  deb\t[arch=amd64 signed-by=/usr/share/keyrings/x.gpg] http://two.example/debian trixie main # http://no.example
deb-src http://source.example/debian trixie main
deb cdrom:[Debian GNU/Linux]/ trixie main
deb http://one.example/debian trixie-updates main
"""

SOURCES = """\
Types: deb
# URIs: http://commented.example/debian
URIs: http://three.example/debian
 http://four.example/debian/
Suites: trixie
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 URIs: http://key.example/
 -----END PGP PUBLIC KEY BLOCK-----

Types: deb-src
URIs: http://source.example/debian

Types: deb deb-src
uris:http://five.example/debian
Enabled: yes

Enabled: no
Types: deb
URIs: http://disabled.example/debian
"""

RELEASE = b"Origin: Debian\nSuite: stable\nCodename: trixie\nArchitectures: all amd64 armhf\nComponents: main\n"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/debian/dists/trixie/Release":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(RELEASE)
        elif self.path.startswith("/garbage"):
            self.wfile.write(b"this is not HTTP\r\n\r\n")
        else:
            self.send_error(404)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def apt(root: Path, **files: str) -> Path:
    (root / "sources.list.d").mkdir()
    for name, text in files.items():
        (root / "sources.list.d" / name.replace("_", ".")).write_text(text)
    return root


def test_one_line_format(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text(LIST)
    assert mirror.of_machine(apt(tmp_path)) == ["http://one.example/debian", "http://two.example/debian"]


def test_deb822_format(tmp_path: Path) -> None:
    assert mirror.of_machine(apt(tmp_path, debian_sources=SOURCES)) == [
        f"http://{name}.example/debian" for name in ("three", "four", "five")
    ]


def test_other_files_do_not_count(tmp_path: Path) -> None:
    place = apt(tmp_path, debian_sources=SOURCES, old_bak=LIST)
    assert len(mirror.of_machine(place)) == 3
    (place / "sources.list").write_text(LIST)
    assert mirror.of_machine(place)[0] == "http://one.example/debian"


def test_no_configuration(tmp_path: Path) -> None:
    assert mirror.of_machine(tmp_path / "none") == []


def test_of_root(tmp_path: Path) -> None:
    (tmp_path / "etc/apt").mkdir(parents=True)
    (tmp_path / "etc/apt/sources.list").write_text("deb http://one.example/debian trixie main\n")
    assert mirror.of_root(tmp_path) == ["http://one.example/debian"]


def test_serves(server: str) -> None:
    assert mirror.serves(f"{server}/debian", "trixie", "armhf")
    assert not mirror.serves(f"{server}/debian", "trixie", "arm")
    assert not mirror.serves(f"{server}/debian", "bookworm", "armhf")


def test_what_does_not_answer_properly_serves_nothing(server: str) -> None:
    assert not mirror.serves(f"{server}/garbage", "trixie", "armhf")
    assert not mirror.serves("http://127.0.0.1:1/debian", "trixie", "armhf")
    assert not mirror.serves("unknown://x/debian", "trixie", "armhf")
    assert not mirror.serves("http://[broken/debian", "trixie", "armhf")


def test_find(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [f"{server}/garbage", f"{server}/debian", f"{server}/later"]
    monkeypatch.setattr(mirror, "of_machine", lambda: asked)
    monkeypatch.delenv(mirror.SETTING, raising=False)
    assert mirror.find("trixie", "armhf") == f"{server}/debian"
    assert mirror.find("bookworm", "armhf") is None


def test_the_setting_is_taken_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(mirror.SETTING, "http://mine.example/debian/")
    assert mirror.find("trixie", "armhf") == "http://mine.example/debian"
