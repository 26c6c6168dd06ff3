"""What of the user's settings programs in `shell` and `run` have, and what phases have not."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.command_line import Xbuild
from xbuild.sandbox.run import remove_tree
from xbuild.session.personal import CERTIFICATES, certificates

pytestmark = pytest.mark.e2e

BUNDLE = "/etc/ssl/certs/ca-certificates.crt"


@pytest.fixture
def system(xbuild: Xbuild) -> Iterator[Xbuild]:
    """xbuild, whose kept systems go after the test."""
    yield xbuild
    remove_tree(xbuild.cache / "kept")


@pytest.fixture
def user(tmp_path: Path) -> dict[str, str]:
    """The variables of a user with settings, of which some are secret."""
    home = tmp_path / "home"
    (home / ".config/pip").mkdir(parents=True)
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=Ours", "-keyout", "ca.pem"]
    subprocess.run([*command, "-out", "crt"], cwd=home, check=True, capture_output=True)
    # As some have it: a certificate with its key.
    with (home / "ca.pem").open("a") as stream:
        stream.write((home / "crt").read_text())
    (home / ".gitconfig").write_text('[user]\n\tname = Me\n\temail = me@example.org\n[credential]\n\thelper = store\n')
    (home / ".netrc").write_text("machine x password SECRET\n")
    (home / ".config/pip/pip.conf").write_text("[global]\nindex-url = https://a:SECRET@pip.example\ntimeout = 7\n")
    none = dict.fromkeys(CERTIFICATES, "")
    return {**none, "HOME": str(home), "PIP_CERT": str(home / "ca.pem"), "https_proxy": "http://proxy.example:1"}


def test_a_system_has_them_and_no_secrets(system: Xbuild, user: dict[str, str], tmp_path: Path) -> None:
    script = 'cat /etc/gitconfig /etc/pip.conf "$PIP_CERT"; env; cat /usr/lib/ssl/cert.pem'
    said = system("shell", "--keep", "tools", "--bind", str(tmp_path), "--", script, env=user)
    assert re.search(rf'directory = "{tmp_path}".*name = "Me".*email = "me@example.org"', said.out, re.DOTALL)
    assert re.search("timeout = 7.*https_proxy=http://proxy.example:1", said.out, re.DOTALL)
    ours = certificates((tmp_path / "home/crt").read_bytes())
    known = certificates(Path(BUNDLE).read_bytes()) if Path(BUNDLE).exists() else ()
    assert set(certificates(said.out.encode())) == {*ours, *known}
    assert not re.search("SECRET|PRIVATE KEY|credential", said.out)
    assert "a password is in it: index-url of pip.conf [global]" in said.err
    # What goes on later is the user's as he is then.
    assert "Me" not in system("shell", "--keep", "tools", "--", "cat /etc/gitconfig || true").out


@pytest.mark.skipif(not Path(BUNDLE).exists(), reason="the machine trusts nobody")
def test_a_program_of_his_sees_what_he_sees(system: Xbuild, user: dict[str, str], tmp_path: Path) -> None:
    script = f'cat "$PIP_CERT" {BUNDLE}; echo $https_proxy $HOME'
    said = system("run", "--", "sh", "-c", script, env=user)
    assert said.out.endswith(f"http://proxy.example:1 {user['HOME']}\n")
    ours = certificates((tmp_path / "home/crt").read_bytes())
    assert set(certificates(said.out.encode())) == {*ours, *certificates(Path(BUNDLE).read_bytes())}


def test_phases_have_none(xbuild: Xbuild, user: dict[str, str]) -> None:
    check = f"! env | grep -i -e proxy -e PIP_ -e SSL; ! test -e /etc/gitconfig; ! test -e {BUNDLE}; echo 42 > answer"
    xbuild.recipe(build={"compile": check})
    xbuild("build", "tiny", "--target", "armhf", env=user)
