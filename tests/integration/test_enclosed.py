"""What maintainer scripts can reach while a layer is made: root's in it, out of the root, and nothing of the user's."""

from __future__ import annotations

import socket
import subprocess
import threading
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.integration.conftest import Armhf
from xbuild.roots.fetching import FETCHED, fetch
from xbuild.roots.making import Making
from xbuild.roots.resolve import Question

pytestmark = pytest.mark.integration

# It leaves the root that it is installed in, as root can (chroot(2)), and tries all that it should not be able to.
POSTINST = r"""#!/usr/bin/perl
use strict; use Socket;
my ($secret, $own, $store, $port, $path) = qw(SECRET OWN STORE PORT ABSTRACT);
open my $report, '>', '/report' or die;
select($report); $| = 1;
sub tell_of { my ($what, $done) = @_; print "$what: ", $done ? "done" : "refused", "\n"; }
sub readable { my $file; return open($file, '<', $_[0]) && defined(<$file>); }
sub writable { my $file; return open($file, '>>', $_[0]) && print({$file} 'x') && close($file); }
tell_of('through pid 1', readable("/proc/1/root$secret"));
tell_of('through its descriptors', grep { readable("$_$secret") } glob('/proc/1/fd/* /proc/1/cwd'));
mkdir '/tmp/inner'; chroot '/tmp/inner' or die; chdir '..' for 1 .. 64; chroot '.' or die;
tell_of('out of the root', -d '/staging/merged' || -e $own);
tell_of('read', readable($secret));
tell_of('write', writable($own));
tell_of('make', writable("$store/attacked"));
system('/usr/bin/mount -o remount,bind,rw /usr 2>/dev/null');
tell_of('write to /usr', writable('/usr/attacked') || writable('/usr/bin/env'));
system('/usr/bin/mount -o remount,bind,rw /native 2>/dev/null');
tell_of('write to twins', writable('/native/attacked'));
tell_of('see homes', grep { !m{^/home/builder} } glob('/home/* /root/* /srv/* /mnt/* /media/* /opt/* /run/*'));
my ($tcp, $local);
my $inet = socket($tcp, PF_INET, SOCK_STREAM, 0) && connect($tcp, sockaddr_in($port, inet_aton('127.0.0.1')));
tell_of('connect', $inet);
my $unix = socket($local, PF_UNIX, SOCK_STREAM, 0) && connect($local, sockaddr_un("\0$path"));
tell_of('connect to an abstract name', $unix);
unless (fork) { fork and exit; require POSIX; POSIX::setsid(); exec '/usr/bin/sleep', '98765' }
print "end\n";
"""


def package(place: Path, script: str, address: str = "") -> Path:
    """A repository whose one package, `attacker`, has this postinst; what `Making.install` takes as resolved.

    address: where it is; "": where it lies.
    """
    tree, repository, answer = (place / name for name in ("tree", "repository", "answer"))
    (tree / "DEBIAN").mkdir(parents=True)
    (answer / "lists").mkdir(parents=True)
    repository.mkdir()
    control = "Package: attacker\nVersion: 1\nArchitecture: all\nMaintainer: A <a@b.example>\nDescription: a\n"
    (tree / "DEBIAN/control").write_text(control)
    (tree / "DEBIAN/postinst").write_text(script)
    (tree / "DEBIAN/postinst").chmod(0o755)
    file = repository / "attacker.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", tree, file], check=True, capture_output=True)
    data = file.read_bytes()
    text = f"{control}Filename: attacker.deb\nSize: {len(data)}\nSHA256: {sha256(data).hexdigest()}\n\n"
    (answer / "sources.list").write_text(f"deb [trusted=yes] {address or f'copy:{repository}'} ./\n")
    path = address.removeprefix("http://") or str(repository)
    (answer / "lists" / f"{path}/./Packages".replace("_", "%5f").replace("/", "_")).write_text(text)
    return answer


def test_a_maintainer_script_reaches_nothing_of_the_user(armhf: Armhf, place: Path, tmp_path: Path) -> None:
    secret, own = tmp_path / "secret", tmp_path / "own"
    for file in (secret, own):
        file.write_text("the user's\n")
    secret.chmod(0o600)
    store = armhf.roots.store.root
    with socket.socket() as server, socket.socket(socket.AF_UNIX) as local:
        server.bind(("127.0.0.1", 0))
        server.listen()
        local.bind(f"\0{place}")
        local.listen()
        script = POSTINST.replace("SECRET", str(secret)).replace("OWN", str(own)).replace("STORE", str(store))
        script = script.replace("PORT", str(server.getsockname()[1])).replace("ABSTRACT", str(place))
        question = Question("build dependencies", "armhf", None, ("attacker",), armhf.roots.base_question())
        answer, staging = package(place, script), place / "staging"
        staging.mkdir()

        def work(making: Making) -> None:
            making.install(armhf.roots.base(), question, answer)

        armhf.roots._make(staging, work, armhf.roots.resolver.packages(armhf.roots.base_question()))
    said = (staging / "upper/report").read_text().splitlines()
    (store / "attacked").unlink(missing_ok=True)
    assert said.pop() == "end"
    assert said[2] == "out of the root: done"
    assert len(said) == 11
    assert [line for line in said if not line.endswith("refused")] == ["out of the root: done"]
    assert own.read_text() == "the user's\n"
    left = [file.read_bytes() for file in Path("/proc").glob("[0-9]*/cmdline") if file.exists()]
    assert not any(b"sleep\x0098765" in words for words in left)
    assert sorted(path.name for path in staging.iterdir()) == ["log", "upper"]


def test_packages_come_by_the_users_proxy(runnable: None, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an address that only the proxy knows."""
    answer, staging, asked = package(place, "#!/bin/sh\n", "http://mirror.invalid/own"), place / "staging", list[str]()
    staging.mkdir()

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            data = (place / "repository" / self.path.rpartition("/")[2]).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
        fetch(staging, answer, "armhf", "packages could not be fetched")
        server.shutdown()
    assert asked == ["http://mirror.invalid/own/attacker.deb"]
    assert [file.name for file in (staging / FETCHED).glob("*.deb")] == ["attacker_1_all.deb"]
