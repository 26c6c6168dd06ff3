"""Shared stores behind real servers: sftp by an sshd, https by a certificate."""

import contextlib
import http.server
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.unit.test_shared_store import keys, warnings
from xbuild.store.shared.place import Place
from xbuild.store.shared.records import Record
from xbuild.store.shared.shared import Shared, SharedError
from xbuild.store.shared.trust import Keys

__all__ = ["keys", "warnings"]

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
KEY = "1" * 64


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def sshd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path, "subprocess.Popen[bytes]"]]:
    """An sshd of the test's own that gives sftp alone: the store's address, the file of known machines, the server."""
    pytest.importorskip("sshfs", reason="needs the extra `store`")
    if not SSHD or os.geteuid() == 0:
        pytest.skip("needs openssh-server; and root's sshd wants a user of its own")
    folder, port = tmp_path / "sshd", free_port()
    (folder / "home/.ssh").mkdir(parents=True)
    for key in ("machine", "home/.ssh/id_ed25519"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/machine\n"
        f"AuthorizedKeysFile {folder}/home/.ssh/id_ed25519.pub\nSubsystem sftp internal-sftp\n"
        "ForceCommand internal-sftp\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPidFile none\n"
    )
    known = folder / "home/.ssh/known_hosts"
    known.write_text(f"[127.0.0.1]:{port} {(folder / 'machine.pub').read_text()}")
    monkeypatch.setenv("HOME", str(folder / "home"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with (folder / "log").open("wb") as talk:
        server = subprocess.Popen([SSHD, "-D", "-e", "-f", folder / "sshd_config"], stderr=talk)
        try:
            await_port(port)
            yield f"sftp://127.0.0.1:{port}{tmp_path}/store", known, server
        finally:
            server.kill()
            server.wait()


def await_port(port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise AssertionError("the server does not listen")


def write_and_read(shared: Shared, tmp_path: Path) -> None:
    file = tmp_path / "in"
    file.write_bytes(os.urandom(9_000_001))
    blob = shared.put_blob(file)
    shared.put_record("roots", KEY, Record({"entry": blob}))
    shared.put_record("roots", KEY, Record({"entry": blob}, {"again": True}))
    found = shared.get_record("roots", KEY)
    assert found is not None
    assert found.facts == {"again": True}
    assert shared.get_blob(blob, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == file.read_bytes()
    assert shared.get_record("roots", "2" * 64) is None


def test_sftp(sshd: tuple[str, Path, Any], keys: Keys, tmp_path: Path, warnings: list[str]) -> None:
    address, _, _ = sshd
    write_and_read(Shared([address], keys), tmp_path)
    names = [name for name, _ in Place(address).names("")]
    assert len(names) == 2
    assert sorted(names) == sorted(str(path.relative_to(tmp_path / "store")) for path in files(tmp_path / "store"))
    assert Place(address).changed(names[0]) is not None
    assert warnings == []


def files(top: Path) -> list[Path]:
    return [path for path in top.rglob("*") if path.is_file()]


@pytest.mark.parametrize("known", ["", "another"])
def test_a_machine_whose_key_is_not_known_is_refused(
    known: str, sshd: tuple[str, Path, Any], keys: Keys, tmp_path: Path, warnings: list[str]
) -> None:
    address, file, _ = sshd
    key = (tmp_path / "keys/key.pub").read_text()
    file.write_text(f"{file.read_text().split()[0]} {key}" if known else "")
    shared = Shared([address], keys)
    assert shared.get_record("roots", KEY) is None
    assert len(warnings) == 1
    assert "Host key is not trusted" in warnings[0]
    with pytest.raises(SharedError):
        Shared([address], keys).put_record("roots", KEY, Record())
    assert not (tmp_path / "store").exists()


def descendants(process: int) -> list[int]:
    try:
        words = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:
        return []
    return [*(one for word in words for one in descendants(int(word))), process]


def kill_all(process: int) -> None:
    for one in descendants(process):
        # A connection may end by itself meanwhile.
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)


def test_an_sftp_server_that_was_killed_is_asked_again(
    sshd: tuple[str, Path, "subprocess.Popen[bytes]"], keys: Keys, tmp_path: Path, warnings: list[str]
) -> None:
    """As a run on a cluster does it, which takes hours."""
    address, _, server = sshd
    shared = Shared([address], keys)
    shared.rest = 0.1
    write_and_read(shared, tmp_path)
    found = shared.get_record("roots", KEY)
    assert found is not None
    kill_all(server.pid)
    began = time.monotonic()
    assert not shared.get_blob(found.blobs["entry"], tmp_path / "none")
    assert shared.faulty_since(began)
    command = [str(SSHD), "-D", "-e", "-f", str(tmp_path / "sshd/sshd_config")]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as new:
        try:
            await_port(int(address.split(":")[2].partition("/")[0]))
            time.sleep(0.2)
            began = time.monotonic()
            assert shared.get_blob(found.blobs["entry"], tmp_path / "again")
            assert not shared.faulty_since(began)
        finally:
            kill_all(new.pid)
    assert (tmp_path / "again").read_bytes() == (tmp_path / "in").read_bytes()
    assert len(warnings) == 1


def test_sftp_that_is_gone_in_the_middle(
    sshd: tuple[str, Path, "subprocess.Popen[bytes]"], keys: Keys, tmp_path: Path, warnings: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    address, _, server = sshd
    shared = Shared([address], keys)
    write_and_read(shared, tmp_path)
    found = shared.get_record("roots", KEY)
    assert found is not None
    fetch = Place.fetch

    def cut(place: Place, blob: Any, stream: Any) -> bool:
        # What serves us are children of its own.
        kill_all(server.pid)
        server.wait()
        return fetch(place, blob, stream)

    monkeypatch.setattr(Place, "fetch", cut)
    assert not shared.get_blob(found.blobs["entry"], tmp_path / "again")
    assert not (tmp_path / "again").exists()
    assert shared.get_record("roots", KEY) is None
    assert len(warnings) == 1


class Handler(http.server.SimpleHTTPRequestHandler):
    """Files of a directory; `fault` may answer in its place."""

    fault: Callable[["Handler"], bool] = staticmethod(lambda _: False)
    seen: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        type(self).seen.append(self.path)
        if not type(self).fault(self):
            super().do_GET()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def https(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, type[Handler]]]:
    """A server of the directory `store`, with a certificate that only this process trusts."""
    pytest.importorskip("aiohttp", reason="needs the extra `store`")
    words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    paths = ["-keyout", str(tmp_path / "tls.key"), "-out", str(tmp_path / "tls.crt")]
    subprocess.run(["openssl", *words.split(), *paths], check=True, capture_output=True)
    (tmp_path / "store").mkdir()

    class Own(Handler):
        seen: ClassVar[list[str]] = []

        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(tmp_path / "store"))

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Own)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "tls.crt"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield f"https://localhost:{server.server_port}", Own
    server.shutdown()
    server.server_close()


def filled(tmp_path: Path, keys: Keys) -> Any:
    """A record of a blob in the directory `store`."""
    file = tmp_path / "in"
    file.write_bytes(os.urandom(5_000_001))
    shared = Shared([str(tmp_path / "store")], keys)
    blob = shared.put_blob(file)
    shared.put_record("roots", KEY, Record({"entry": blob}))
    return blob


def test_https_is_read(
    https: tuple[str, type[Handler]], keys: Keys, tmp_path: Path, warnings: list[str]
) -> None:
    blob = filled(tmp_path, keys)
    shared = Shared([https[0]], keys)
    assert shared.get_record("roots", KEY) is not None
    assert shared.get_record("roots", "2" * 64) is None
    assert shared.get_blob(blob, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == (tmp_path / "in").read_bytes()
    assert shared.find_blob(blob.sha256) == blob
    assert not shared.writes
    assert warnings == []


def test_https_by_an_unknown_authority_is_refused(
    https: tuple[str, type[Handler]], keys: Keys, tmp_path: Path, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path, keys)
    monkeypatch.delenv("SSL_CERT_FILE")
    assert Shared([https[0]], keys).get_record("roots", KEY) is None
    assert len(warnings) == 1
    assert "certificate" in warnings[0].lower()


def answer_500(handler: Handler) -> bool:
    handler.send_error(500)
    return True


def cut_short(handler: Handler) -> bool:
    if "blobs" not in handler.path:
        return False
    handler.send_response(200)
    handler.send_header("Content-Length", "5000001")
    handler.end_headers()
    handler.wfile.write(bytes(1000))
    handler.close_connection = True
    return True


def silent(handler: Handler) -> bool:
    if "blobs" in handler.path:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.flush()
        time.sleep(9)
    return "blobs" in handler.path


@pytest.mark.parametrize("fault", [answer_500, cut_short, silent], ids=lambda fault: fault.__name__)
def test_a_faulty_server_costs_one_warning(
    fault: Callable[[Handler], bool], https: tuple[str, type[Handler]], keys: Keys, tmp_path: Path,
    warnings: list[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    blob = filled(tmp_path, keys)
    address, handler = https
    monkeypatch.setattr(handler, "fault", staticmethod(fault))
    monkeypatch.setattr("xbuild.store.shared.place._ANSWER", 2.0)
    shared = Shared([address.replace("https://", "https://joe:secret@")], keys)
    shared.get_record("roots", KEY)
    assert not shared.get_blob(blob, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    before = len(handler.seen)
    assert shared.get_record("roots", KEY) is None
    assert not shared.get_blob(blob, tmp_path / "out")
    # It is not asked any more.
    assert len(handler.seen) == before
    assert len(warnings) == 1
    assert "secret" not in warnings[0]
