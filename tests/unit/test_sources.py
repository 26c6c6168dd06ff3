import base64
import bz2
import contextlib
import gzip
import hashlib
import http.server
import io
import json
import lzma
import os
import shutil
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xbuild.errors import MachineError, SourceError
from xbuild.model.source import Distribution, Source
from xbuild.sources import FetchContext, fetch, lay_out, name_of, pool_address, tree_digest, unpack
from xbuild.sources.download import shown
from xbuild.sources.index import configured_indexes
from xbuild.store import Store

CONTENT = b"x" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
WRONG = b"y" * 1000


class Handler(http.server.BaseHTTPRequestHandler):
    """/right, /wrong, /cut, /flaky (500 once), /moved, /secret (wants a login), server.pages; else 404."""

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
        else:
            self.answer(404, b"")

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
        running.shutdown()
        thread.join()


@pytest.fixture
def context(tmp_path: Path) -> FetchContext:
    (tmp_path / "project").mkdir()
    return FetchContext(Store(tmp_path / "store"), [], tmp_path / "project")


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
    path = fetch(source, FetchContext(context.store, mirrors, context.project))
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
    path = fetch(source, FetchContext(context.store, [], context.project, f"{server.url}/simple/"))
    assert path.read_bytes() == CONTENT
    assert server.asked == ["/simple/right-1/", "/files/right_1-1.0.tar.gz"]


def test_index_without_the_file_is_told(server: Server, context: FetchContext) -> None:
    server.pages["/simple/right-1/"] = ("text/html", HTML_PAGE)
    source = Source(pypi="right-1", sha256=SHA256).completed("2.0")
    with pytest.raises(SourceError) as caught:
        fetch(source, FetchContext(context.store, [], context.project, f"{server.url}/simple"))
    assert caught.value.details == (f"{server.url}/simple/right-1/: has no right-1-2.0.tar.gz",)


def test_page_that_is_no_index_is_told(server: Server, context: FetchContext) -> None:
    server.pages["/right-1/"] = ("application/json", "[1]")
    source = Source(pypi="right-1", sha256=SHA256).completed("2.0")
    with pytest.raises(SourceError) as caught:
        fetch(source, FetchContext(context.store, [], context.project, server.url))
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


@pytest.fixture
def repository(tmp_path: Path) -> tuple[Path, str, str]:
    """A git repository, its older commit, and the sha256 of that commit's archive."""
    path = tmp_path / "repository"
    names = {f"GIT_{who}_{what}": "a" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = {**os.environ, **names, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}

    def git(*words: str) -> bytes:
        command = ["git", "-C", str(path), *words]
        return subprocess.run(command, env=environment, check=True, capture_output=True).stdout

    path.mkdir()
    git("init", "--quiet")
    (path / "configure").write_text("#!/bin/sh\n")
    (path / "configure").chmod(0o755)
    git("add", "."), git("commit", "--quiet", "-m", "one")
    commit = git("rev-parse", "HEAD").decode().strip()
    (path / "later").touch()
    git("add", "."), git("commit", "--quiet", "-m", "two")
    return path, commit, hashlib.sha256(git("archive", "--format=tar", commit)).hexdigest()


needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@needs_git
@pytest.mark.parametrize(
    ("any_commit", "setting", "config"),
    [
        ("true", "GIT_CONFIG_GLOBAL", ""),
        ("false", "HOME", ".gitconfig"),
        ("true", "XDG_CONFIG_HOME", "git/config"),
    ],
)
def test_git(
    repository: tuple[Path, str, str],
    context: FetchContext,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    any_commit: str,
    setting: str,
    config: str,
) -> None:
    path, commit, sha256 = repository
    with (path / ".git" / "config").open("a") as stream:
        stream.write(f"[uploadpack]\n\tallowAnySHA1InWant = {any_commit}\n")
    # What the user has set must not reach the archive.
    file = tmp_path / "settings" / config
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("[tar]\n\tumask = 0077\n[core]\n\tautocrlf = true\n")
    monkeypatch.delenv("GIT_CONFIG_GLOBAL", raising=False)
    monkeypatch.setenv(setting, str(tmp_path / "settings"))
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(tmp_path / "nowhere"))
    source = Source(git=f"file://{path}", commit=commit, sha256=sha256)
    archive = fetch(source, context)
    assert downloads(context) == [f"sha256-{sha256}"]
    lay_out(source, archive, tmp_path / "src")
    assert [file.name for file in (tmp_path / "src").iterdir()] == ["configure"]
    assert (tmp_path / "src" / "configure").read_bytes() == b"#!/bin/sh\n"
    assert os.access(tmp_path / "src" / "configure", os.X_OK)


@needs_git
def test_git_with_another_digest(repository: tuple[Path, str, str], context: FetchContext) -> None:
    path, commit, sha256 = repository
    with pytest.raises(SourceError, match="not the one that the recipe names") as caught:
        fetch(Source(git=f"file://{path}", commit=commit, sha256="0" * 64), context)
    assert caught.value.details == (f"recipe: {'0' * 64}", f"found:  {sha256}")
    assert downloads(context) == []


@needs_git
def test_git_without_the_commit(repository: tuple[Path, str, str], context: FetchContext) -> None:
    with pytest.raises(SourceError, match="cannot get commit") as caught:
        fetch(Source(git=f"file://{repository[0]}", commit="0" * 40, sha256="0" * 64), context)
    assert caught.value.details
    assert downloads(context) == []


def test_path_to_a_directory(context: FetchContext, tmp_path: Path) -> None:
    tree = context.project / "own"
    (tree / "sub").mkdir(parents=True)
    (tree / "configure").write_text("#!/bin/sh\n")
    (tree / "configure").chmod(0o755)
    (tree / "sub" / "link").symlink_to("../configure")
    source = Source(path="own", into="deeper", sha256=tree_digest(tree))
    archive = fetch(source, context)
    first = archive.read_bytes()
    os.utime(tree / "configure", (5, 5))
    assert fetch(source, context).read_bytes() == first
    lay_out(source, archive, tmp_path / "src")
    assert tree_digest(tmp_path / "src" / "deeper") == source.sha256
    (tree / "configure").write_text("#!/bin/sh\nfalse\n")
    with pytest.raises(SourceError, match="not the one that the recipe names"):
        fetch(source, context)


def test_path_to_an_archive(context: FetchContext, tmp_path: Path) -> None:
    file = context.project / "a.tar"
    file.write_bytes(tar_of({"a-1.0/f": b"1"}))
    source = Source(path="a.tar", sha256=hashlib.sha256(file.read_bytes()).hexdigest())
    lay_out(source, fetch(source, context), tmp_path / "src")
    assert (tmp_path / "src" / "f").read_bytes() == b"1"
    with pytest.raises(SourceError, match="not found"):
        fetch(Source(path="none", sha256="0" * 64), context)


def test_tree_digest_sees_what_counts(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("1")
    (tmp_path / "l").symlink_to("a")
    seen = {tree_digest(tmp_path)}

    def changed(change: Callable[[], Any]) -> bool:
        change()
        count = len(seen)
        seen.add(tree_digest(tmp_path))
        return len(seen) > count

    assert changed(lambda: file.write_text("2"))
    assert changed(lambda: file.chmod(0o755))
    assert changed(lambda: file.rename(tmp_path / "b"))
    assert changed(lambda: ((tmp_path / "l").unlink(), (tmp_path / "l").symlink_to("b")))
    assert changed(lambda: ((tmp_path / "d").mkdir(), (tmp_path / "d" / "e").symlink_to(".")))
    assert not changed(lambda: os.utime(tmp_path / "b", (1, 1)))
    assert not changed(lambda: (tmp_path / "empty").mkdir())
    assert not changed(lambda: (tmp_path / ".git").mkdir())
    assert not changed(lambda: (tmp_path / ".git" / "HEAD").touch())


def test_tree_digest_is_stable(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    one = hashlib.sha256(b"1").hexdigest().encode()
    assert tree_digest(tmp_path) == hashlib.sha256(b"a\0f\0" + one + b"\0").hexdigest()


def test_special_files_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SourceError, match="pipe"):
        tree_digest(tmp_path)


def test_name_of() -> None:
    assert name_of(Source(url="http://example.invalid/d/a%2Bb.tar.gz?x", sha256=SHA256)) == "a+b.tar.gz"
    assert name_of(Source(git="http://u:p@example.invalid/r", commit="0" * 40, sha256=SHA256)) == (
        "http://example.invalid/r at 000000000000"
    )


def tar_of(files: dict[str, bytes], *extra: tarfile.TarInfo) -> bytes:
    """A tar file with `files` (name -> contents), then `extra` members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.mode = len(content), 1000000, 0o4777
            tar.addfile(member, io.BytesIO(content))
        for member in extra:
            tar.addfile(member)
    return buffer.getvalue()


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def zip_of(files: dict[str, bytes], mode: int = 0o100755) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, (2001, 2, 3, 4, 5, 6))
            entry.external_attr = mode << 16
            archive.writestr(entry, content)
    return buffer.getvalue()


def zstandard(content: bytes) -> bytes:
    return subprocess.run(["zstd", "-q"], input=content, stdout=subprocess.PIPE, check=True).stdout


FILES = {"./p-1/configure": b"c" * 5000, "p-1/sub/f": b"f", "top": b"t"}
needs_zstd = pytest.mark.skipif(shutil.which("zstd") is None, reason="zstd is not installed")


@pytest.mark.parametrize(
    "compress",
    [bytes, gzip.compress, bz2.compress, lzma.compress, pytest.param(zstandard, marks=needs_zstd)],
    ids=["plain", "gz", "bz2", "xz", "zst"],
)
def test_unpack_tar(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    hard = link("p-1/hard", "p-1/sub/f", tarfile.LNKTYPE)
    (tmp_path / "archive").write_bytes(compress(tar_of(FILES, hard)))
    destination = tmp_path / "src"
    destination.mkdir()
    unpack(tmp_path / "archive", destination, 1)
    assert sorted(path.relative_to(destination).as_posix() for path in destination.rglob("*")) == [
        "configure",
        "hard",
        "sub",
        "sub/f",
    ]
    status = (destination / "configure").stat()
    assert (status.st_mtime, status.st_mode & 0o7777) == (1000000, 0o755)
    assert (destination / "hard").samefile(destination / "sub" / "f")


def test_unpack_zip(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(zip_of(FILES))
    destination = tmp_path / "src"
    destination.mkdir()
    unpack(tmp_path / "archive", destination, 1)
    assert (destination / "sub" / "f").read_bytes() == b"f"
    status = (destination / "configure").stat()
    assert (status.st_mtime, status.st_mode & 0o7777) == (981173106, 0o755)


def test_strip_that_leaves_nothing_is_told(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(tar_of({"a": b"1", "b": b"2"}))
    with pytest.raises(SourceError, match="nothing is left") as caught:
        unpack(tmp_path / "archive", tmp_path, 1, "name.tar")
    assert "strip" in str(caught.value.hint)


ESCAPES = {
    "dots": tar_of({"p/../../evil": b"1"}),
    "link out": tar_of({}, link("p/l", "../../evil")),
    "absolute link": tar_of({}, link("p/l", "/etc/passwd")),
    "through a link": tar_of({}, link("p/l", "../.."), link("p/l/evil", "x")),
    "hard link out": tar_of({}, link("p/l", "p/../../evil", tarfile.LNKTYPE)),
    "device": tar_of({}, link("p/null", "", tarfile.CHRTYPE)),
    "zip dots": zip_of({"p/../../evil": b"1"}),
    "zip link out": zip_of({"p/l": b"../../evil"}, 0o120777),
}


@pytest.mark.parametrize("archive", ESCAPES.values(), ids=ESCAPES)
def test_unpack_refuses_escapes(tmp_path: Path, archive: bytes) -> None:
    (tmp_path / "archive").write_bytes(archive)
    destination = tmp_path / "deep" / "src"
    destination.mkdir(parents=True)
    with pytest.raises(SourceError, match=r"name\.tar: refused"):
        unpack(tmp_path / "archive", destination, 1, "name.tar")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["archive", "deep", "src"]


def test_absolute_names_stay_below(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(tar_of({"/p/etc/f": b"1"}))
    destination = tmp_path / "src"
    destination.mkdir()
    unpack(tmp_path / "archive", destination, 1)
    assert (destination / "etc" / "f").exists()


NOISE = os.urandom(20000)
DAMAGED = {
    "empty": b"",
    "text": b"<html>404</html>" * 100,
    "cut tar": tar_of({"p/f": NOISE})[:9000],
    "cut gz": gzip.compress(tar_of({"p/f": NOISE}))[:9000],
    "cut bz2": bz2.compress(tar_of({"p/f": NOISE}))[:9000],
    "cut xz": lzma.compress(tar_of({"p/f": NOISE}))[:9000],
    "hard link to nothing": tar_of({"p/g": b""}, link("p/f", "p/none", tarfile.LNKTYPE)),
}
with contextlib.suppress(FileNotFoundError):
    DAMAGED["cut zst"] = zstandard(tar_of({"p/f": NOISE}))[:9000]


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_archive_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / "archive").write_bytes(DAMAGED[name])
    with pytest.raises(SourceError, match=r"name\.tar: not an archive, or damaged"):
        unpack(tmp_path / "archive", tmp_path, 1, "name.tar")


def test_damaged_zip_is_told(tmp_path: Path) -> None:
    content = bytearray(zip_of({"p/f": NOISE}))
    content[10000] ^= 0xFF
    (tmp_path / "archive").write_bytes(content)
    with pytest.raises(SourceError, match="not an archive, or damaged"):
        unpack(tmp_path / "archive", tmp_path, 1)


SEGMENTS = st.lists(st.sampled_from(["a", "b", "..", ".", ""]), min_size=1, max_size=6)


@given(SEGMENTS, st.integers(0, 3))
def test_no_name_leaves_the_destination(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str], strip: int
) -> None:
    base = tmp_path_factory.mktemp("escape")
    destination = base / "x" / "src"
    destination.mkdir(parents=True)
    (base / "archive").write_bytes(tar_of({"/".join(parts) or "a": b"1"}))
    with contextlib.suppress(SourceError, OSError):
        unpack(base / "archive", destination, strip)
    outside = [path for path in base.rglob("*") if not path.is_relative_to(destination)]
    assert sorted(path.name for path in outside) == ["archive", "x"]
