import base64
import contextlib
import hashlib
import http.server
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from xbuild.base.errors import MachineError, SourceError
from xbuild.model.source import Distribution, Source
from xbuild.sources import FetchContext, fetch, name_of, pool_address
from xbuild.sources.download import Failure, download_file, shown
from xbuild.sources.index import configured_indexes, find_sdist
from xbuild.store.local import Store

CONTENT = b"x" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
WRONG = b"y" * 1000


class Handler(http.server.BaseHTTPRequestHandler):
    """/right, /wrong, /cut, /flaky (500 once), /moved, /secret (login), /endless, /slow, server.pages, or 404."""

    server: "Server"

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        last = self.path.rpartition("/")[2]
        if self.path in self.server.pages:
            content_type, text = self.server.pages[self.path]
            self.answer(200, text.encode(), {"Content-Type": content_type})
        elif last.startswith("right") and not self.path.startswith("/broken/"):
            self.answer(200, CONTENT)
        elif last == "wrong":
            self.answer(200, WRONG)
        elif last == "cut":
            self.answer(200, CONTENT[:500], length=1000)
        elif last == "flaky":
            self.answer(500 if self.server.asked.count(self.path) == 1 else 200, CONTENT)
        elif last == "moved":
            self.answer(302, b"", {"Location": "/right"})
        elif last == "secret":
            login = "Basic " + base64.b64encode(b"me:p@ss").decode()
            self.answer(200 if self.headers["Authorization"] == login else 401, CONTENT)
        elif last in ("endless", "slow") or self.path.startswith("/x/endless"):
            self.without_end(b"x" * 50000 if last != "slow" else b"x")
        else:
            self.answer(404, b"")

    def without_end(self, part: bytes) -> None:
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(OSError):
            while not self.server.closing.wait(0.02):
                self.wfile.write(part)

    def answer(self, code: int, body: bytes, headers: dict[str, str] | None = None, length: int = -1) -> None:
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length < 0 else length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    """asked: the paths that were asked for, in order; pages: path -> content type and text."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []
        self.pages: dict[str, tuple[str, str]] = {}
        self.closing = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("xbuild.sources.download._PAUSE", 0.01)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        yield running
        running.closing.set()
        running.shutdown()
        thread.join()


@pytest.fixture
def context(tmp_path: Path) -> FetchContext:
    (tmp_path / "project").mkdir()
    return FetchContext(Store(tmp_path / "store"), list, tmp_path / "project")


def downloads(context: FetchContext) -> list[str]:
    """All files that fetching left behind."""
    kept = [path.name for path in context.store.directory("downloads").iterdir()]
    return kept + [path.name for path in context.store.directory("tmp").iterdir()]


def test_fetch_from_url_and_then_from_the_store(server: Server, context: FetchContext) -> None:
    source = Source(url=f"{server.url}/right", sha256=SHA256)
    path = fetch(source, context)
    assert path.read_bytes() == CONTENT
    assert path == context.store.root / "downloads" / f"sha256-{SHA256}"
    assert fetch(source, context) == path
    assert server.asked == ["/right"]
    assert downloads(context) == [path.name]


def test_damaged_file_in_the_store_is_fetched_again(
    server: Server, context: FetchContext, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Source(url=f"{server.url}/right", sha256=SHA256)
    path = fetch(source, context)
    path.write_bytes(CONTENT[:-1] + b"?")
    assert fetch(source, context).read_bytes() == CONTENT
    assert "is damaged" in capsys.readouterr().err
    assert server.asked == ["/right", "/right"]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("absent", "HTTP 404 Not Found"),
        ("cut", "the connection was cut after 500 of 1000 bytes"),
        ("wrong", f"wrong sha256: the recipe names {SHA256}, this is {hashlib.sha256(WRONG).hexdigest()}"),
    ],
)
def test_mirror_is_used_when_the_first_address_fails(
    server: Server, context: FetchContext, capsys: pytest.CaptureFixture[str], bad: str, reason: str
) -> None:
    source = Source(url=f"{server.url}/{bad}", mirrors=[f"{server.url}/mirror/right"], sha256=SHA256)
    assert fetch(source, context).read_bytes() == CONTENT
    assert f"{server.url}/{bad}: {reason}" in capsys.readouterr().err
    assert server.asked == [f"/{bad}"] * (2 if bad == "cut" else 1) + ["/mirror/right"]


def test_wrong_file_is_told_and_not_kept(server: Server, context: FetchContext) -> None:
    with pytest.raises(SourceError) as caught:
        fetch(Source(url=f"{server.url}/wrong", sha256=SHA256), context)
    (line,) = caught.value.details
    assert line.startswith(f"{server.url}/wrong: ")
    assert SHA256 in line
    assert hashlib.sha256(WRONG).hexdigest() in line
    assert downloads(context) == []


def test_all_addresses_are_listed_with_their_reasons(server: Server, context: FetchContext) -> None:
    source = Source(url=f"{server.url}/cut", mirrors=[f"{server.url}/a/none"], sha256=SHA256)
    with pytest.raises(SourceError, match="could not be fetched") as caught:
        fetch(source, context)
    assert caught.value.details == (
        f"{server.url}/cut: the connection was cut after 500 of 1000 bytes",
        f"{server.url}/a/none: HTTP 404 Not Found",
    )
    assert "network" in str(caught.value.hint)
    assert downloads(context) == []


def test_dead_network_is_the_machines_fault(server: Server, context: FetchContext) -> None:
    closed = Server()
    closed.server_close()
    with pytest.raises(MachineError) as caught:
        fetch(Source(url=f"{closed.url}/right", sha256=SHA256), context)
    assert "refused" in caught.value.details[0]


def test_server_error_is_tried_twice(server: Server, context: FetchContext) -> None:
    assert fetch(Source(url=f"{server.url}/flaky", sha256=SHA256), context).read_bytes() == CONTENT
    assert server.asked == ["/flaky", "/flaky"]


def test_redirect_is_followed(server: Server, context: FetchContext) -> None:
    assert fetch(Source(url=f"{server.url}/moved", sha256=SHA256), context).read_bytes() == CONTENT


def test_login_in_an_address_is_used_and_never_shown(
    server: Server, context: FetchContext, capsys: pytest.CaptureFixture[str]
) -> None:
    address = server.url.replace("http://", "http://me:p%40ss@")
    source = Source(url=f"{address}/none", mirrors=[f"{address}/secret"], sha256=SHA256)
    assert fetch(source, context).read_bytes() == CONTENT
    assert "p%40ss" not in capsys.readouterr().err
    assert shown(f"{address}/x") == f"{server.url}/x"


def test_file_addresses(context: FetchContext, tmp_path: Path) -> None:
    (tmp_path / "a b").write_bytes(CONTENT)
    source = Source(url=f"file://{tmp_path}/none", mirrors=[f"file://{tmp_path}/a%20b"], sha256=SHA256)
    assert fetch(source, context).read_bytes() == CONTENT
    with pytest.raises(SourceError) as caught:
        fetch(Source(url=f"file://{tmp_path}/none", sha256="0" * 64), context)
    assert caught.value.details == (f"file://{tmp_path}/none: no such file",)


@pytest.mark.parametrize(
    ("name", "setting", "value", "reason"),
    [
        ("endless", "_MOST", 100000, "more than 100000 bytes came, and no end of them"),
        ("slow", "_TIMEOUT", 0.3, "less than 1000 bytes a second"),
        ("right", "_MOST", 999, "has 1000 bytes, and there is room for 999"),
    ],
)
def test_what_would_not_end_is_ended(
    server: Server,
    context: FetchContext,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    setting: str,
    value: float,
    reason: str,
) -> None:
    monkeypatch.setattr(f"xbuild.sources.download.{setting}", value)
    with pytest.raises((SourceError, MachineError), match="could not be fetched") as caught:
        fetch(Source(url=f"{server.url}/{name}", sha256=SHA256), context)
    assert caught.value.details == (f"{server.url}/{name}: {reason}",)
    assert downloads(context) == []


def test_a_full_disk_is_no_fault_of_the_network(
    server: Server, context: FetchContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xbuild.sources.download._LEFT", 1 << 62)
    with pytest.raises(MachineError, match=r"^disk full: ") as caught:
        fetch(Source(url=f"{server.url}/right", sha256=SHA256), context)
    assert "/right: 1000 bytes, and there is room for 0" in caught.value.details[0]
    assert downloads(context) == []


def test_an_endless_index_is_ended(server: Server, context: FetchContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xbuild.sources.index._PAGE_LIMIT", 100000)
    with pytest.raises(Failure, match="more than 100000 bytes came"):
        find_sdist(f"{server.url}/x", "endless/..", "f")


def test_a_name_that_no_machine_can_have_is_told(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="not an address: "):
        download_file(f"http://{'a' * 70}.invalid/x", tmp_path / "file", SHA256)


@pytest.mark.parametrize("odd", ["fifo", "/dev/zero", "."])
def test_only_files_are_fetched_by_file_addresses(context: FetchContext, tmp_path: Path, odd: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(SourceError) as caught:
        fetch(Source(url=f"file://{tmp_path / odd}", sha256=SHA256), context)
    assert caught.value.details[0].endswith(": not a file")


@pytest.mark.parametrize("href", ["http://[::1/right-1-1.0.tar.gz", "//[/right-1-1.0.tar.gz", "http://[::1/x"])
def test_an_odd_link_of_an_index_is_told(server: Server, context: FetchContext, href: str) -> None:
    server.pages["/right-1/"] = ("text/html", f'<a href="{href}">x</a>')
    with pytest.raises(SourceError) as caught:
        fetch(
            Source(pypi="right-1", sha256=SHA256).completed("1.0"),
            FetchContext(context.store, list, context.base, server.url),
        )
    assert caught.value.details[0].startswith(f"{server.url}/right-1/: ")


def test_a_damaged_copy_of_the_distributions_is_fetched_again(server: Server, context: FetchContext) -> None:
    asked: list[str] = []

    def mirrors() -> list[str]:
        asked.append(server.url)
        return asked

    source = Source(distribution=Distribution(package="zlib", file="right.tar.gz"), sha256=SHA256)
    late = FetchContext(context.store, mirrors, context.base)
    path = fetch(source, late)
    assert fetch(source, late) == path
    assert len(asked) == 1, "looking for mirrors takes its time"
    path.write_bytes(b"damaged")
    assert fetch(source, late).read_bytes() == CONTENT


def test_two_fetches_at_once_ask_once(server: Server, context: FetchContext) -> None:
    source = Source(url=f"{server.url}/right", sha256=SHA256)
    threads = [threading.Thread(target=fetch, args=(source, context)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert server.asked == ["/right"]


@pytest.mark.parametrize(
    ("package", "place"),
    [("zlib", "z/zlib"), ("libffi", "libf/libffi"), ("python3.13", "p/python3.13"), ("lib3", "lib3/lib3")],
)
def test_pool_address(package: str, place: str) -> None:
    distribution = Distribution(package=package, file="f+1~2.tar.gz", section="main")
    assert pool_address("http://mirror/d/", distribution) == f"http://mirror/d/pool/main/{place}/f+1~2.tar.gz"


def test_distributions_copy_comes_after_the_url(server: Server, context: FetchContext) -> None:
    copy = Distribution(package="zlib", file="right+dfsg.tar.gz", section="main")
    source = Source(url=f"{server.url}/none", distribution=copy, sha256=SHA256)
    mirrors = [f"{server.url}/broken", f"{server.url}/second"]
    path = fetch(source, FetchContext(context.store, lambda: mirrors, context.base))
    assert path.read_bytes() == CONTENT
    file = "pool/main/z/zlib/right+dfsg.tar.gz"
    assert server.asked == ["/none", f"/broken/{file}", f"/second/{file}"]


def test_distribution_only_without_a_mirror_is_told(context: FetchContext) -> None:
    source = Source(distribution=Distribution(package="zlib", file="f.tar.gz"), sha256=SHA256)
    with pytest.raises(SourceError, match=r"f\.tar\.gz: there is no address") as caught:
        fetch(source, context)
    assert "mirror" in str(caught.value.hint)


JSON_PAGE = json.dumps({"files": [{"url": "../../files/x"}, {"url": "../../files/right_1-1.0.tar.gz"}]})
HTML_PAGE = '<a href="/files/other.whl">o</a><a data-x href="/files/right_1-1.0.tar.gz#sha256=0">r</a>'


@pytest.mark.parametrize(
    ("content_type", "page"), [("application/vnd.pypi.simple.v1+json", JSON_PAGE), ("text/html", HTML_PAGE)]
)
def test_sdist_from_an_index(server: Server, context: FetchContext, content_type: str, page: str) -> None:
    server.pages["/simple/right-1/"] = (content_type, page)
    source = Source(pypi="right.1", sha256=SHA256).completed("1.0")
    path = fetch(source, FetchContext(context.store, list, context.base, f"{server.url}/simple/"))
    assert path.read_bytes() == CONTENT
    assert server.asked == ["/simple/right-1/", "/files/right_1-1.0.tar.gz"]


def test_index_without_the_file_is_told(server: Server, context: FetchContext) -> None:
    server.pages["/simple/right-1/"] = ("text/html", HTML_PAGE)
    source = Source(pypi="right-1", sha256=SHA256).completed("2.0")
    with pytest.raises(SourceError) as caught:
        fetch(source, FetchContext(context.store, list, context.base, f"{server.url}/simple"))
    assert caught.value.details == (f"{server.url}/simple/right-1/: has no right-1-2.0.tar.gz",)


def test_page_that_is_no_index_is_told(server: Server, context: FetchContext) -> None:
    server.pages["/right-1/"] = ("application/json", "[1]")
    source = Source(pypi="right-1", sha256=SHA256).completed("2.0")
    with pytest.raises(SourceError) as caught:
        fetch(source, FetchContext(context.store, list, context.base, server.url))
    assert "not a page of a package index" in caught.value.details[0]


def test_indexes_are_those_of_pip(
    server: Server, context: FetchContext, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    files = tmp_path / "index" / "right-1"
    files.mkdir(parents=True)
    (files / "index.html").write_text('<a href="right_1-1.0.tar.gz">right_1-1.0.tar.gz</a>')
    (files / "right_1-1.0.tar.gz").write_bytes(CONTENT)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"file://{tmp_path}/index")
    assert configured_indexes() == [f"{server.url}/simple", f"file://{tmp_path}/index"]
    assert fetch(Source(pypi="right-1", sha256=SHA256).completed("1.0"), context).read_bytes() == CONTENT
    assert server.asked == ["/simple/right-1/"]


def test_default_index_is_that_of_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    (default,) = configured_indexes()
    assert default.startswith("https://")
    assert default.endswith("/simple")


def test_name_of() -> None:
    assert name_of(Source(url="http://example.invalid/d/a%2Bb.tar.gz?x", sha256=SHA256)) == "a+b.tar.gz"
    assert name_of(Source(git="http://u:p@example.invalid/r", commit="0" * 40, sha256=SHA256)) == (
        "http://example.invalid/r at 000000000000"
    )
