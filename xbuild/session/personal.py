"""What is the user's own and a session with a network needs: whom he trusts, how he gets out, who he is to git and pip.

Nothing secret is among it: of files of certificates only the certificates, of settings only those named here, and none
with a password in an address. The variables for proxies are passed as they are, see `PROXIES`.
"""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from xbuild.base import log, process
from xbuild.base.digest import key_of
from xbuild.base.errors import MachineError
from xbuild.formats.debian import Tree
from xbuild.sandbox.mounts import Bind, Text

PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")
"""Variables that say how to get out, also in capital letters; with a password, where the way out wants one: without it
there is no network, and whoever runs inside could ask by the proxy anyway."""

CERTIFICATES = (
    "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT", "GIT_SSL_CAINFO", "NODE_EXTRA_CA_CERTS",
    "CARGO_HTTP_CAINFO",
)  # fmt: skip
"""Variables that name a file of certificates."""
OTHERS = ("SSL_CERT_DIR", "PIP_CONFIG_FILE", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM")
"""Variables that name other files of that kind, which a program with the user's rights may read."""

_PEOPLE = ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL", "EMAIL")

_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""Where distributions keep what the machine trusts, in the order of Go's crypto/x509 (root_linux.go)."""
_ANCHORS = ("/usr/local/share/ca-certificates", "/etc/pki/ca-trust/source/anchors", "/etc/pki/trust/anchors",
            "/etc/ca-certificates/trust-source/anchors")  # fmt: skip
"""Where the administrator adds to it: update-ca-certificates(8), update-ca-trust(8) and its likes of SUSE and Arch."""
_PLACES = ("/etc/ssl/certs/ca-certificates.crt", "/usr/lib/ssl/cert.pem")
"""Where programs of a root look for it: what ca-certificates makes, and OpenSSL itself."""
_ADDED = "/usr/local/share/ca-certificates"
"""What is there in a root comes into its own bundle, once that is made."""

_CERTIFICATE = re.compile(
    rb"-----BEGIN (?P<kind>(?:TRUSTED |X509 )?CERTIFICATE)-----.+?-----END (?P=kind)-----", re.DOTALL
)
_SECRET = re.compile(r"https?://[^/\s@]+@|://[^/\s@:]*:[^/\s@]+@", re.IGNORECASE)
_PIP = ("index-url", "extra-index-url", "trusted-host", "proxy", "cert", "timeout", "default-timeout", "retries")
"""What of pip's settings is about the network; others are about the machine's own files."""
_GIT = (
    r"^(user\.(name|email)|init\.defaultbranch|core\.autocrlf|http\.(.*\.)?(proxy|sslcainfo|sslverify)"
    r"|url\..*\.(insteadof|pushinsteadof))$"
)


@dataclass
class Personal:
    """What goes into a system. files: by path inside. variables: with them. left_out: what stays out, in words."""

    files: dict[str, bytes] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def certificates(data: bytes) -> list[bytes]:
    """The certificates in a file, each once; what else is in it, such as a key, is not among them."""
    return list(dict.fromkeys(match[0] for match in _CERTIFICATE.finditer(data)))


def _read(path: str | Path) -> list[bytes]:
    try:
        return certificates(Path(path).read_bytes())
    except OSError:
        return []


def _pem(several: Iterable[bytes]) -> bytes:
    return b"".join(one + b"\n" for one in dict.fromkeys(several))


def _bundle(root: Path) -> Path | None:
    """The file of all that the machine trusts. root: the machine's `/`."""
    return next((path for name in _BUNDLES if (path := root / name[1:]).is_file()), None)


def trusted(tree: Tree, root: Path = Path("/")) -> dict[str, bytes]:
    """What the machine trusts, as files of a system: with what the system itself trusts, and what was added by hand."""
    bundle = _bundle(root)
    known = _read(bundle) if bundle else []
    if not known:
        return {}
    files = {place: _pem([*_own(tree, place), *known]) for place in _PLACES if _writable(tree, place)}
    for folder in _ANCHORS:
        for path in sorted((root / folder[1:]).rglob("*")):
            if path.is_file() and (added := _read(path)):
                files[f"{_ADDED}/{path.stem}.crt"] = _pem(added)
    return files


def _own(tree: Tree, place: str) -> list[bytes]:
    path = tree.find(place)
    return _read(path) if path and not path.is_symlink() else []


def _writable(tree: Tree, place: str) -> bool:
    """A link there leads to the other place."""
    path = tree.find(place)
    return path is None or not path.is_symlink()


def for_program(tree: Tree, root: Path = Path("/")) -> tuple[list[Text], list[Bind]]:
    """What a program of the user's, with his rights and his files, sees of it besides: small files, and files shown.

    That is what the machine trusts, and the machine's own settings of pip and git where the root has none.
    """
    bundle = _bundle(root)
    texts: list[Text] = []
    binds: list[Bind] = []
    for place in _PLACES if bundle else ():
        assert bundle is not None
        if tree.real_path(place) is None and _writable(tree, place):
            # Shown, not read: at each start that would cost more than all the rest of it.
            binds.append(Bind(str(bundle.resolve()), place, readonly=True))
        elif _writable(tree, place):
            texts.append(Text(place, _pem([*_own(tree, place), *_read(bundle)]).decode("latin-1")))
    for name in ("/etc/pip.conf", "/etc/gitconfig"):
        path = root / name[1:]
        if os.access(path, os.R_OK) and tree.find(name) is None:
            texts.append(Text(name, path.read_bytes().decode("latin-1")))
    return texts, binds


def named(environment: Mapping[str, str]) -> list[Path]:
    """The files and directories of that kind which variables name."""
    values = [word for name in (*CERTIFICATES, *OTHERS) for word in environment.get(name, "").split(os.pathsep)]
    return [Path(value) for value in values if value.startswith("/")]


def way_out(environment: Mapping[str, str], tree: Tree, root: Path = Path("/")) -> Personal:
    """What the network asks for, and nothing about the person: whom the machine trusts, the variables for proxies."""
    passed = [*PROXIES, *(name.upper() for name in PROXIES)]
    return Personal(trusted(tree, root), {name: environment[name] for name in passed if name in environment})


def for_nobody(environment: Mapping[str, str], place: Path) -> dict[str, str]:
    """Variables for who has no files inside, not even his own: git is to believe the work tree around `place`."""
    top = next((folder for folder in (place, *place.parents) if os.path.lexists(folder / ".git")), None)
    if top is None:
        return {}
    before = environment.get("GIT_CONFIG_COUNT", "")
    number = int(before) if before.isdecimal() else 0
    return {
        "GIT_CONFIG_COUNT": str(number + 1),
        f"GIT_CONFIG_KEY_{number}": "safe.directory",
        f"GIT_CONFIG_VALUE_{number}": str(top),
    }


def for_system(environment: Mapping[str, str], tree: Tree, own: Sequence[Path], root: Path = Path("/")) -> Personal:
    """What a system gets whose root is the user as well, but which is shown none of his files, with all that is run.

    tree: the system, without the user's changes. own: directories of his that it is shown; root inside does not own
    them, and git is told that they are right all the same.
    """
    found = way_out(environment, tree, root)
    found.variables |= {name: environment[name] for name in _PEOPLE if name in environment}
    for name in CERTIFICATES:
        if inside := _copied(found, environment.get(name, ""), root):
            found.variables[name] = inside
    _pip(found, environment, root)
    _git(found, own, root)
    return found


def _copied(found: Personal, path: str, root: Path) -> str | None:
    """Where in the system the certificates of the file `path` are; None if there are none."""
    several = _read(path) if path else []
    if not several:
        return None
    bundle = _bundle(root)
    if bundle is not None and _PLACES[0] in found.files and bundle.samefile(path):
        return _PLACES[0]
    inside = f"/etc/ssl/xbuild/{key_of(path)[:8]}.pem"
    found.files[inside] = _pem(several)
    return inside


def _open(found: Personal, what: str, value: str) -> bool:
    """Whether it may be known inside."""
    if _SECRET.search(value):
        found.left_out.append(what)
        return False
    return True


def _pip(found: Personal, environment: Mapping[str, str], root: Path) -> None:
    """pip's settings from its files, the later the stronger (pip: "Configuration files"), and from variables."""
    home = Path(environment.get("HOME") or "/")
    configuration = Path(environment.get("XDG_CONFIG_HOME") or home / ".config")
    own = environment.get("PIP_CONFIG_FILE", "")
    files = [*([Path(own)] if own else []), root / "etc/xdg/pip/pip.conf", root / "etc/pip.conf"]
    files += [home / ".pip/pip.conf", configuration / "pip/pip.conf"]
    parser = configparser.RawConfigParser()
    for file in files if own != os.devnull else ():
        try:
            parser.read(file, encoding="utf-8")
        except (OSError, ValueError, configparser.Error) as error:
            log.warn(f"{file} is not read: {error}")
    lines = []
    for section in parser.sections():
        kept = _of_pip(found, {name: parser.get(section, name) for name in parser.options(section)}, section, root)
        lines += [f"[{section}]", *(f"{name} = {value}" for name, value in kept.items())] if kept else []
    if lines:
        found.files["/etc/pip.conf"] = ("\n".join(lines) + "\n").encode()
    for variable in [f"PIP_{name.upper().replace('-', '_')}" for name in _PIP if name != "cert"]:
        if (value := environment.get(variable)) and _open(found, variable, value):
            found.variables[variable] = value


def _of_pip(found: Personal, section: Mapping[str, str], title: str, root: Path) -> dict[str, str]:
    kept = {}
    for name, value in section.items():
        plain = name.replace("_", "-")
        if plain == "cert":
            value = _copied(found, value, root) or ""
        if plain in _PIP and value and _open(found, f"{name} of pip.conf [{title}]", value):
            # A list has a value in each line.
            kept[plain] = value.replace("\n", "\n    ")
    return kept


def _git(found: Personal, own: Sequence[Path], root: Path) -> None:
    sections: list[tuple[str, str, str]] = [("safe", "directory", str(path)) for path in own]
    sections += [("safe", "directory", f"{path}/*") for path in own]
    for key, value in _asked_git(root):
        section, _, name = key.rpartition(".")
        if name == "sslcainfo":
            value = _copied(found, value, root) or ""
        if value and _open(found, f"{key.partition('://')[0]} of git", f"{section} {value}"):
            sections.append((section, name, value))
    if sections:
        lines = [f"[{_head(section)}]\n\t{name} = {_quoted(value)}\n" for section, name, value in sections]
        found.files["/etc/gitconfig"] = "".join(lines).encode(errors="surrogateescape")


def _asked_git(root: Path) -> list[tuple[str, str]]:
    """What git itself knows, outside any repository; nothing if there is no git."""
    try:
        done = process.run(["git", "config", "--null", "--get-regexp", _GIT], cwd=root, capture=True, check=False)
    except MachineError:
        return []
    entries = done.stdout.decode(errors="surrogateescape").split("\0")
    # One without a value is true (git-config(1)).
    return [(key, value if there else "true") for key, there, value in (one.partition("\n") for one in entries) if key]


def _head(section: str) -> str:
    name, _, rest = section.partition(".")
    return f"{name} {_quoted(rest)}" if rest else name


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'
