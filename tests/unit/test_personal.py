"""What of the user's settings reaches a session, and what is secret and does not."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from xbuild.formats.debian import Tree
from xbuild.roots.network import make_network
from xbuild.sandbox.mounts import Bind, Text
from xbuild.session import personal

BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
ADDED = "/usr/local/share/ca-certificates"


def certificate(text: str) -> str:
    return f"-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"


KEY = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"
PUBLIC, PRIVATE, OWN = (certificate(text) for text in ("cHVibGlj", "cHJpdmF0ZQ==", "b3du"))


def made(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """The machine's `/`."""
    made(tmp_path / "machine" / BUNDLE[1:], f"# Public\n{PUBLIC}{PRIVATE}{PUBLIC}")
    made(tmp_path / "machine" / ADDED[1:] / "corp" / "ours.crt", PRIVATE)
    return tmp_path / "machine"


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A system without ca-certificates and openssl."""
    made(tmp_path / "root" / "etc/hostname")
    return Tree([tmp_path / "root"])


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_COUNT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def test_a_system_trusts_what_the_machine_trusts(machine: Path, tree: Tree) -> None:
    files = personal.trusted(tree, machine)
    assert files[BUNDLE].decode() == files["/usr/lib/ssl/cert.pem"].decode() == PUBLIC + PRIVATE
    # What update-ca-certificates will make has it too.
    assert files[f"{ADDED}/ours.crt"].decode() == PRIVATE


def test_what_a_system_trusts_itself_stays(machine: Path, tree: Tree, tmp_path: Path) -> None:
    made(tmp_path / "root" / BUNDLE[1:], OWN + PUBLIC)
    (tmp_path / "root/usr/lib/ssl").mkdir(parents=True)
    # As package openssl has it.
    (tmp_path / "root/usr/lib/ssl/cert.pem").symlink_to(BUNDLE)
    files = personal.trusted(tree, machine)
    assert files[BUNDLE].decode() == OWN + PUBLIC + PRIVATE
    assert "/usr/lib/ssl/cert.pem" not in files
    texts, binds = personal.for_program(tree, machine)
    assert (texts, binds) == ([Text(BUNDLE, OWN + PUBLIC + PRIVATE)], [])


def test_a_machine_that_trusts_nobody(tree: Tree, tmp_path: Path) -> None:
    assert personal.trusted(tree, tmp_path / "none") == {}
    assert personal.for_program(tree, tmp_path / "none") == ([], [])


def test_a_program_sees_the_machine_s_settings(machine: Path, tree: Tree, tmp_path: Path) -> None:
    made(machine / "etc/pip.conf", "[global]\nindex-url = https://pip.example/simple\n")
    made(machine / "etc/gitconfig", "[user]\n\tname = machine\n")
    made(tmp_path / "root/etc/gitconfig", "[user]\n\tname = root\n")
    texts, binds = personal.for_program(tree, machine)
    assert [text.target for text in texts] == ["/etc/pip.conf"]
    assert [(bind.target, bind.readonly) for bind in binds] == [(BUNDLE, True), ("/usr/lib/ssl/cert.pem", True)]
    assert binds[0] == Bind(str(machine / BUNDLE[1:]), BUNDLE, readonly=True)


def test_files_that_variables_name(machine: Path, tree: Tree, tmp_path: Path) -> None:
    pem = made(tmp_path / "a.pem", PRIVATE + KEY)
    environment = {"REQUESTS_CA_BUNDLE": str(pem), "SSL_CERT_FILE": str(machine / BUNDLE[1:]), "PIP_CERT": "/none"}
    found = personal.for_system(environment, tree, (), machine)
    assert found.variables["SSL_CERT_FILE"] == BUNDLE
    assert "PIP_CERT" not in found.variables
    # The certificates alone: a key may lie beside them.
    assert found.files[found.variables["REQUESTS_CA_BUNDLE"]].decode() == PRIVATE
    assert all(b"PRIVATE KEY" not in data for data in found.files.values())
    assert personal.named({"SSL_CERT_DIR": f"{tmp_path}:relative:/x", **environment}) == [
        machine / BUNDLE[1:], pem, Path("/none"), tmp_path, Path("/x"),
    ]  # fmt: skip


def test_proxies_pass_whole(tree: Tree, machine: Path) -> None:
    environment = {"https_proxy": "http://me:word@proxy:3128", "NO_PROXY": "localhost", "GITHUB_TOKEN": "secret"}
    found = personal.for_system(environment, tree, (), machine)
    assert found.variables == {"https_proxy": "http://me:word@proxy:3128", "NO_PROXY": "localhost"}


def test_others_programs_get_the_way_out_alone(tree: Tree, machine: Path) -> None:
    """Of packages that are tried: they have to be fetched, and see nothing about who has asked for that."""
    environment = {"HTTP_PROXY": "http://proxy:3128", "EMAIL": "me@a.example", "PIP_CERT": str(machine / BUNDLE[1:])}
    found = personal.way_out(environment, tree, machine)
    assert found.variables == {"HTTP_PROXY": "http://proxy:3128"}
    assert found.files == personal.trusted(tree, machine) != {}


def test_pip(home: Path, machine: Path, tree: Tree) -> None:
    pem = made(home / "pip.pem", PRIVATE)
    made(machine / "etc/pip.conf", "[global]\ntimeout = 5\nindex-url = https://old.example/simple\n")
    made(
        home / ".config/pip/pip.conf",
        "[global]\nindex_url = https://pip.example/simple\nextra-index-url =\n  https://a.example\n  https://b.example\n"
        f"cert = {pem}\ncache-dir = /home/me/cache\nclient-cert = {pem}\n[install]\nproxy = http://me:word@proxy:1\n",
    )
    environment = {
        "HOME": str(home), "PIP_EXTRA_INDEX_URL": "https://token@c.org", "PIP_TRUSTED_HOST": "d", "PIP_TARGET": "/e",
    }  # fmt: skip
    found = personal.for_system(environment, tree, (), machine)
    text = found.files["/etc/pip.conf"].decode()
    assert "index-url = https://pip.example/simple\n" in text
    assert "extra-index-url = \n    https://a.example\n    https://b.example\n" in text
    assert "timeout = 5\n" in text
    assert "old.example" not in text
    (inside,) = (line.partition(" = ")[2] for line in text.splitlines() if line.startswith("cert"))
    assert found.files[inside].decode() == PRIVATE
    assert not {"cache-dir", "client-cert", "install", "word"} & set(text.replace("]", " ").replace("[", " ").split())
    assert found.variables == {"PIP_TRUSTED_HOST": "d"}
    assert found.left_out == ["proxy of pip.conf [install]", "PIP_EXTRA_INDEX_URL"]


def test_git(home: Path, machine: Path, tree: Tree, tmp_path: Path) -> None:
    pem = made(home / "git.pem", PRIVATE + KEY)
    made(
        home / ".gitconfig",
        '[user]\n\tname = "A \\"B\\" \\\\ C"\n\temail = me@example.org\n\tsigningkey = ABC\n'
        f'[http "https://corp.example"]\n\tsslCAInfo = {pem}\n\textraHeader = "Authorization: token"\n'
        '[credential]\n\thelper = store\n[url "git@corp.example:"]\n\tinsteadOf = https://corp.example/\n'
        '[url "https://token@corp.example/"]\n\tinsteadOf = corp:\n[alias]\n\tx = !sh\n',
    )
    found = personal.for_system({}, tree, (tmp_path / "my project",), machine)
    config = made(tmp_path / "gitconfig", found.files["/etc/gitconfig"].decode())
    command = ["git", "config", "--file", str(config), "--null", "--list"]
    said = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    values = [(name, value) for name, _, value in (entry.partition("\n") for entry in said.split("\0") if entry)]
    inside = dict(values).pop("http.https://corp.example.sslcainfo")
    assert values == [
        ("safe.directory", f"{tmp_path}/my project"),
        ("safe.directory", f"{tmp_path}/my project/*"),
        ("user.name", 'A "B" \\ C'),
        ("user.email", "me@example.org"),
        ("http.https://corp.example.sslcainfo", inside),
        ("url.git@corp.example:.insteadof", "https://corp.example/"),
    ]
    assert found.files[inside].decode() == PRIVATE
    assert found.left_out == ["url.https of git"]


def test_git_believes_nobody_s_directory(tmp_path: Path) -> None:
    tree = tmp_path / "a"
    (tree / "sub").mkdir(parents=True)
    assert personal.for_nobody({}, tree) == {}
    subprocess.run(["git", "init", "-q", str(tree)], check=True)
    given = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "a.b", "GIT_CONFIG_VALUE_0": "c"}
    environment = {**os.environ, **given, **personal.for_nobody(given, tree / "sub")}
    command = ["git", "config", "--get-all", "safe.directory"]
    said = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True).stdout
    assert said.splitlines()[-1] == str(tree)
    assert environment["GIT_CONFIG_KEY_0"] == "a.b"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("https://pip.example/simple", False),
        ("ssh://git@example/x", False),
        ("git@example:x", False),
        ("https://x/~me@y", False),
        ("https://token@x/", True),
        ("HTTPS://me:w@x", True),
        ("socks5://me:w@x", True),
        ("https://ok/ https://a:b@c/", True),
    ],
)
def test_what_is_secret(text: str, secret: bool) -> None:
    found = personal.Personal()
    assert personal._open(found, "it", text) != secret
    assert found.left_out == (["it"] if secret else [])


def test_it_lies_in_the_layer_of_names(tmp_path: Path) -> None:
    layer = tmp_path / "layer"
    more = {"/etc/ssl/certs/a.crt": b"a", "/etc/pip.conf": b"b"}
    assert make_network(layer, "x", more=more)
    assert not make_network(layer, "x", more=more)
    assert (layer / "etc/ssl/certs/a.crt").read_bytes() == b"a"
    # What is not wanted any more is gone.
    assert make_network(layer, "x")
    assert not (layer / "etc/pip.conf").exists()
