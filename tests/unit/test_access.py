"""How indexes are reached: certificates, trusted servers and a proxy, as pip is set to use them."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.test_sources import CONTENT, SHA256, Server
from xbuild.sources.access import Access
from xbuild.sources.download import Failure, download_file
from xbuild.sources.index import configured_access, files_of, find_sdist


@pytest.fixture
def sealed_server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address of a server on the loopback, and its certificate, which nobody else has signed."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    words = "openssl req -x509 -newkey rsa:2048 -nodes -days 9 -subj /CN=localhost -keyout key -out cert.pem"
    subprocess.run(
        [*words.split(), "-addext", "subjectAltName=DNS:localhost"], cwd=tmp_path, check=True, stderr=subprocess.DEVNULL
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key")
    with Server() as running:
        running.pages["/simple/right-1/"] = ("text/html", f'<a href="../../right_1-1.0.tar.gz#sha256={SHA256}">x</a>')
        running.socket = context.wrap_socket(running.socket, server_side=True)
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        yield f"https://localhost:{running.server_address[1]}/simple", tmp_path / "cert.pem"
        running.closing.set()
        running.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PIP_CERT", "{cert}", ""),
        ("REQUESTS_CA_BUNDLE", "{cert}", ""),
        ("PIP_TRUSTED_HOST", "localhost", ""),
        ("PIP_TRUSTED_HOST", "other.example", "CERTIFICATE_VERIFY_FAILED"),
        ("PIP_CERT", "/none.pem", "cannot be read: /none.pem"),
        ("PIP_PROXY", "127.0.0.1:1", "refused"),
    ],
)
def test_certificates_are_those_of_pip(
    sealed_server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str, said: str
) -> None:
    address, certificate = sealed_server
    for other in ("PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv(name, value.format(cert=certificate))
    if said:
        with pytest.raises(Failure, match=said):
            files_of(address, "right-1")
    else:
        assert [file.sha256 for file in files_of(address, "right-1")] == [SHA256]
        found = find_sdist(address, "right-1", "right_1-1.0.tar.gz")
        download_file(found, tmp_path / "file", SHA256, configured_access())
        assert (tmp_path / "file").read_bytes() == CONTENT


def test_trust_is_in_a_server_not_in_where_it_leads() -> None:
    access = Access(trusted=("a.example", "B.example:8443"))
    assert access.trusts("https://a.example:77/x")
    assert access.trusts("https://b.example:8443/")
    assert not access.trusts("https://b.example/")
    assert not access.trusts("https://c.example/a.example")
