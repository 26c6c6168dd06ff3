"""An apt repository of one's own, read by real apt: what is added stays, and nothing ever finds half of it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from tests.unit.commands import Run
from xbuild.base.errors import EXIT_USAGE, UsageError
from xbuild.cli.arguments import directories
from xbuild.packages import repo
from xbuild.packages.repo import publish
from xbuild.roots.index import Stanza, read_stanzas
from xbuild.roots.repository import Repository, joined, repositories

pytestmark = pytest.mark.skipif(not (shutil.which("apt-get") and shutil.which("dpkg-deb")), reason="apt is not there")


def package(place: Path, name: str, version: str = "1", architecture: str = "armhf", text: str = "") -> Path:
    """A package with one file."""
    tree = place / f"tree-{name}"
    (tree / "DEBIAN").mkdir(parents=True, exist_ok=True)
    (tree / name).write_text(text)
    lines = [f"Package: {name}", f"Version: {version}", f"Architecture: {architecture}", "Maintainer: A <a@b.example>"]
    (tree / "DEBIAN/control").write_text("\n".join([*lines, "Description: a", " b", ""]))
    file = place / f"{name}_{version.replace(':', '%3a')}_{architecture}.deb"
    command: list[str | Path] = ["dpkg-deb", "--root-owner-group", "--build", tree, file]
    subprocess.run(command, check=True, capture_output=True)
    return file


def seen(place: Path, scratch: Path, line: str, *, architecture: str = "armhf") -> dict[str, str]:
    """What apt finds by this line of sources.list: versions by name. It complains of what it cannot trust."""
    scratch.mkdir(exist_ok=True)
    (scratch / "lists/partial").mkdir(parents=True, exist_ok=True)
    (scratch / "sources.list").write_text(line + "\n")
    words = {"Dir": scratch, "Dir::State": scratch, "Dir::State::status": "/dev/null", "Dir::Etc": scratch,
             "Dir::Cache": scratch, "Dir::Etc::parts": "/dev/null", "Dir::Etc::main": "/dev/null",
             "Dir::Etc::trustedparts": "/dev/null", "Acquire::Languages": "none", "APT::Architecture": architecture,
             "Dir::State::lists": "lists", "Dir::Etc::sourceparts": "/dev/null", "APT::Sandbox::User": ""}  # fmt: skip
    config = "".join(f'{name} "{value}";\n' for name, value in words.items())
    (scratch / "apt.conf").write_text(f'{config}APT::Architectures {{ "{architecture}"; }};\n')
    env = {**os.environ, "APT_CONFIG": str(scratch / "apt.conf"), "LC_ALL": "C.UTF-8"}
    done = subprocess.run(["apt-get", "update"], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "W:" not in done.stderr, done.stderr
    said = subprocess.run(["apt-cache", "dumpavail"], env=env, capture_output=True, text=True, check=True).stdout
    for stanza in read_stanzas(said):
        name = next(line for line in stanza.text.splitlines() if line.startswith("Filename: ")).partition(" ")[2]
        assert sha256((place / name).read_bytes()).hexdigest() == stanza.sha256
    return {stanza.name: stanza.version for stanza in read_stanzas(said)}


def test_what_is_added_stays(tmp_path: Path) -> None:
    place = tmp_path / "the repository"
    one, two = package(tmp_path, "one"), package(tmp_path, "two", "1:2~rc1-3", "all")
    made = publish(place, [one])
    assert (made.added, made.architectures, made.signed) == (("one_1_armhf.deb",), ("armhf",), False)
    made = publish(place, [two], architectures=["arm64"])
    assert made.architectures == ("arm64", "armhf")
    line = made.line.replace(" ", "%20").replace("deb%20[trusted=yes]%20", "deb [trusted=yes] ")
    line = line.replace("%20local%20main", " local main")
    assert seen(place, tmp_path / "apt", line) == {"one": "1", "two": "1:2~rc1-3"}
    assert seen(place, tmp_path / "apt64", line, architecture="arm64") == {"two": "1:2~rc1-3"}
    # The same version with other contents takes the place of the first, whose file goes with it; another stands beside.
    before = {file.name for file in place.glob("pool/*/*")}
    publish(place, [package(tmp_path, "one", text="other"), package(tmp_path, "one", "2")])
    assert {file.name for file in place.glob("pool/*/*")} == {*before, "one_2_armhf.deb"}
    assert seen(place, tmp_path / "apt", line) == {"one": "2", "two": "1:2~rc1-3"}


def test_changes_and_directories(tmp_path: Path) -> None:
    one = package(tmp_path, "one")
    below = tmp_path / "below/it"
    below.mkdir(parents=True)
    package(below, "two")
    lines = ["Format: 1.8", "Checksums-Sha256:", f" {sha256(one.read_bytes()).hexdigest()} 1 {one.name}"]
    lines += [f" {'0' * 64} 1 one.buildinfo", ""]
    changes = tmp_path / "one.changes"
    changes.write_text("\n".join(lines))
    made = publish(tmp_path / "repository", [changes, tmp_path / "below"])
    assert made.added == ("one_1_armhf.deb", "two_1_armhf.deb")
    package(tmp_path, "one", text="other")
    with pytest.raises(UsageError, match=r"one_1_armhf\.deb: is not the file that one\.changes names"):
        publish(tmp_path / "repository", [changes])


@pytest.mark.parametrize("name", ["none.deb", "text.deb", "text.txt"])
def test_what_is_no_package(tmp_path: Path, name: str) -> None:
    if not name.startswith("none"):
        (tmp_path / name).write_text("no package")
    with pytest.raises(UsageError, match=name) as caught:
        publish(tmp_path / "repository", [tmp_path / name])
    assert caught.value.exit_code == EXIT_USAGE
    assert not (tmp_path / "repository").exists()


def whole(place: Path) -> set[str]:
    """The names of the packages in the index; each file that it names is there, and as it says."""
    folder = place / "dists/local"
    for line in (folder / "Release").read_text().partition("SHA256:\n")[2].splitlines():
        digest, _, name = line.split()
        assert sha256((folder / name).read_bytes()).hexdigest() == digest
    stanzas = read_stanzas((folder / "main/binary-armhf/Packages").read_text())
    for stanza in stanzas:
        (name,) = (line[10:] for line in stanza.text.splitlines() if line.startswith("Filename: "))
        assert sha256((place / name).read_bytes()).hexdigest() == stanza.sha256
    return {stanza.name for stanza in stanzas}


def killed_at(count: int, place: Path, files: list[Path]) -> bool:
    """Publish in a process that is killed when it comes to the `count`th step that changes the place. Did it?"""
    child = os.fork()
    if child == 0:
        left = count

        def counted(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal left
            if event in CHANGES and str(arguments[0]).startswith(str(place)):
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(counted)
        publish(place, files)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


CHANGES = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree", "shutil.copyfile")


def test_whatever_cuts_it_off_there_is_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    place, old = tmp_path / "repository", tmp_path / "old"
    publish(old, [package(tmp_path, "one")])
    new, found, count = [package(tmp_path, "one", text="other"), package(tmp_path, "two")], [], 0
    killed = True
    while killed:
        count += 1
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(old, place)
        killed = killed_at(count, place, new)
        found.append(whole(place))
        # Whatever lies about does not stand in the way.
        publish(place, new)
        assert whole(place) == {"one", "two"}
        assert not list(place.glob("dists/.*"))
        assert len(list(place.glob("pool/*/*"))) == 2
    assert len(found) > 10
    assert [names for names in found if names not in ({"one"}, {"one", "two"})] == []
    assert found[0] == {"one"}
    assert found[-1] == {"one", "two"}


def test_two_at_once(tmp_path: Path) -> None:
    place = tmp_path / "repository"
    files = [package(tmp_path, f"p{number}") for number in range(4)]
    script = "import sys; from pathlib import Path; from xbuild.packages import repo\n"
    script += "repo.publish(Path(sys.argv[1]), [Path(sys.argv[2])])"
    running = [subprocess.Popen([sys.executable, "-c", script, place, file]) for file in files]
    assert [child.wait() for child in running] == [0] * 4
    assert {one.identity[0] for one in publish(place, []).packages} == {f"p{number}" for number in range(4)}


@pytest.mark.skipif(not shutil.which("gpg"), reason="gpg is not there")
def test_a_key_that_is_not_there_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--sign nobody@nowhere: gpg could not sign"):
        publish(tmp_path / "new", [], key="nobody@nowhere")
    assert not (tmp_path / "new").exists()


@pytest.mark.skipif(not shutil.which("gpg"), reason="gpg is not there")
def test_signed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, place = tmp_path / "gpg", tmp_path / "repository"
    home.mkdir(mode=0o700)
    monkeypatch.setenv("GNUPGHOME", str(home))
    gpg = ["gpg", "--batch", "--passphrase", "", "--quick-generate-key", "me@b.example", "ed25519", "sign"]
    subprocess.run(gpg, check=True, capture_output=True)
    key = subprocess.run(["gpg", "--export"], check=True, capture_output=True).stdout
    (tmp_path / "key.gpg").write_bytes(key)
    try:
        made = publish(place, [package(tmp_path, "one")], key="me@b.example")
        line = f"deb [signed-by={tmp_path}/key.gpg] file:{place} local main"
        assert made.signed
        assert seen(place, tmp_path / "apt", line) == {"one": "1"}
        with pytest.raises(UsageError, match="is signed, and would lose its signature"):
            publish(place, [package(tmp_path, "two")])
        with pytest.raises(UsageError, match="gpg could not sign"):
            publish(place, [package(tmp_path, "two")], key="nobody@b.example")
        assert seen(place, tmp_path / "apt", line) == {"one": "1"}
    finally:
        subprocess.run(["gpgconf", "--kill", "all"], check=False)


def test_as_a_source_of_build_dependencies(tmp_path: Path) -> None:
    place = tmp_path / "repository"
    publish(place, [package(tmp_path, "one"), package(tmp_path, "two", architecture="all")])
    (known,) = repositories([str(place)])
    assert [Stanza.read(text).name for text in known.text("armhf").strip().split("\n\n")] == ["one", "two"]
    assert known.text("amd64") == known.text("arm64")
    index = tmp_path / "index"
    (index / "lists").mkdir(parents=True)
    (index / "lists/other_Packages").write_text("")
    (index / "sources.list").write_text("deb http://a.example/debian trixie main\n")
    there = joined(tmp_path / "joined", index, [known], "armhf")
    first, second = (there / "sources.list").read_text().splitlines()
    assert first == f"deb [trusted=yes] copy:/repositories/{known.key('armhf')} ./"
    assert second == "deb http://a.example/debian trixie main"
    assert known.bind("armhf").target in first
    # Who sees it there, but has no index of ours, reads its own.
    assert known.lines("armhf") == [first.replace("./", "local main")]
    flat = tmp_path / "flat"
    flat.mkdir()
    (flat / "Packages").write_text(known.text("armhf"))
    assert Repository(flat).lines("armhf") == [first]


def test_addresses_as_repositories(monkeypatch: pytest.MonkeyPatch) -> None:
    found = directories(["file:///srv/a b", "copy:/srv/x", "/srv//y", "file:///"])
    assert found == ("/srv/a b", "/srv/x", "/srv/y", "/")
    monkeypatch.chdir("/usr")
    assert directories(["a:b", "lib/x:/y"]) == ("/usr/a:b", "/usr/lib/x:/y")
    with pytest.raises(UsageError, match=r"--repo http://a\.example/x is an address: only directories"):
        directories(["http://a.example/x"])


@pytest.mark.parametrize("kind", ["missing", "empty", "damaged"])
def test_what_is_no_repository(tmp_path: Path, kind: str) -> None:
    place = tmp_path / kind
    if kind != "missing":
        place.mkdir()
    if kind == "damaged":
        (place / "Packages.gz").write_bytes(b"\x1f\x8bno")
    with pytest.raises(UsageError, match=kind) as caught:
        Repository(repositories([str(place)])[0].place).text("armhf")
    assert caught.value.exit_code == EXIT_USAGE


def test_the_command(tmp_path: Path, xbuild: Run) -> None:
    one, two = package(tmp_path, "one"), package(tmp_path, "two")
    done = xbuild("repo", str(tmp_path / "repository"), "--add", str(one), "--add", str(two), "--target", "arm64")
    assert done.code == 0
    assert "2 added, 2 in all, for arm64 armhf" in done.out
    assert repo.SUITE in done.out
