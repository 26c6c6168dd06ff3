"""Who signs records, and whose are believed: ssh keys, by ssh-keygen's own files and its own verification.

In one directory of the user's: `allowed_signers`, as ssh-keygen(1) has it under ALLOWED SIGNERS; `revoked`, a KRL or a
list of public keys; and `key`, by which this machine signs.
"""

from __future__ import annotations

import base64
import getpass
import hashlib
import os
import re
import stat
import tempfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Final

import platformdirs

from xbuild.base import process
from xbuild.base.errors import MachineError, UsageError
from xbuild.store.shared.records import Invalid, made_in

VARIABLE: Final = "XBUILD_STORE_KEYS"
NAMESPACE: Final = "xbuild-record"
"""What a signature is for: one that the same key has made of something else does not count (ssh-keygen(1), -n)."""

_AHEAD = timedelta(days=1)
"""How far a signer's clock may be before ours."""
_KRL: Final = b"SSHKRL\n"
"""As the binary form of such a list begins (PROTOCOL.krl of OpenSSH)."""
# ssh-keygen(1): principals, options, type, key, comment.
_KEY = re.compile(r"(?:^|\s)((?:sk-)?(?:ssh|ecdsa)-[\w.@-]+)\s+([A-Za-z0-9+/]+=*)(?:\s|$)")


def directory() -> Path:
    """`$XBUILD_STORE_KEYS`, else `store` in the user's configuration of xbuild (for root: /etc/xbuild/store)."""
    if named := os.environ.get(VARIABLE):
        return Path(named).absolute()
    if os.geteuid() == 0:
        return Path("/etc/xbuild/store")
    return Path(platformdirs.user_config_dir("xbuild")).absolute() / "store"


def signer_of(line: str) -> str:
    """The name that the signer of a line with a public key has in stores; empty if the line has none."""
    found = None if line.lstrip().startswith("#") else _KEY.search(line)
    if found is None:
        return ""
    try:
        return hashlib.sha256(base64.b64decode(found[2], validate=True)).hexdigest()[:20]
    except ValueError:
        return ""


class Keys:
    """The keys in `folder`, which need not be there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.allowed = folder / "allowed_signers"
        self.revoked = folder / "revoked"
        self.key = folder / "key"

    @classmethod
    def of_user(cls) -> Keys:
        """Those of the user."""
        return cls(directory())

    @cached_property
    def trusted(self) -> tuple[str, ...]:
        """The signers whose records are used, as stores name them. Raises UsageError if others can write the list."""
        self._require_own(self.allowed)
        text = self.allowed.read_text(errors="replace") if self.allowed.is_file() else ""
        return tuple(dict.fromkeys(filter(None, map(signer_of, text.splitlines()))))

    @property
    def signs(self) -> bool:
        """Whether there is a key to sign by."""
        return self.key.exists() or self.key.with_suffix(".pub").exists()

    @cached_property
    def own(self) -> str:
        """Our own name as a signer. Raises UsageError if there is no key, or none that can be read."""
        public = self.key.with_suffix(".pub")
        if not public.is_file():
            raise UsageError(f"there is no key to sign by: {public}", hint="`invoke store.keys --new` makes one")
        if not (name := signer_of(public.read_text(errors="replace"))):
            hint = f"it can be made again: ssh-keygen -y -f {self.key} > {public}"
            raise UsageError(f"{public}: this is no public key", hint=hint)
        return name

    def require_key(self) -> None:
        """Raise UsageError if there is no key to sign by."""
        _ = self.own

    def _require_own(self, path: Path) -> None:
        for place in (path, path.parent):
            if not place.exists():
                continue
            facts = place.stat()
            if facts.st_uid not in (0, os.geteuid()) or facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                message = f"{place}: others than you can write to it, and it says whose programs are run"
                raise UsageError(message, hint=f"chmod go-w {place}")

    def signature(self, text: str) -> str:
        """The signature of `text` by our key. Raises UsageError without one, MachineError if it cannot be made."""
        self.require_key()
        # The public half: an agent may have the other one.
        key = self.key if self.key.exists() else self.key.with_suffix(".pub")
        done = _keygen("sign", "-n", NAMESPACE, "-f", key, text=text)
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            hint = "a key with a passphrase must be in the ssh agent"
            raise MachineError(f"{key} cannot sign", details=said[-3:], hint=hint)
        return done.stdout.decode()

    def verified(self, text: str, signature: str) -> str:
        """By whom `text` is signed, as the list of those who are trusted calls him. Raises Invalid.

        A signature counts if its key was trusted when the text says that it was written, and is not revoked now.
        """
        made = made_in(text)
        if made > datetime.now(UTC) + _AHEAD:
            raise Invalid(f"it says that it was written on {made:%Y-%m-%d}, which is still to come")
        self._require_own(self.revoked)
        with tempfile.TemporaryDirectory(prefix="xbuild-trust-") as place:
            file = Path(place) / "signature"
            file.write_text(signature)
            common: list[str | Path] = ["-s", file, "-f", self.allowed, f"-Overify-time={made:%Y%m%d%H%M%S}"]
            found = _keygen("find-principals", *common)
            principal = found.stdout.decode(errors="replace").splitlines()
            if found.returncode != 0 or not principal:
                raise Invalid("nobody who is trusted has signed it, or not at that time")
            words: list[str | Path] = ["-n", NAMESPACE, "-I", principal[0], *common]
            revoked: list[str | Path] = ["-r", self.revoked] if self.revoked.exists() else []
            if _keygen("verify", *words, *revoked, text=text).returncode == 0:
                return principal[0]
            # It does not say why.
            right = _keygen("verify", *words, text=text).returncode == 0
            raise Invalid(f"the key of {principal[0]} is revoked" if right else "its signature is not right")


def _keygen(what: str, *words: str | Path, text: str = "") -> process.Completed:
    # Nobody is there to be asked for a passphrase; times without a zone are ours.
    env = {**os.environ, "SSH_ASKPASS_REQUIRE": "never", "LC_ALL": "C.UTF-8", "TZ": "UTC0"}
    return process.run(["ssh-keygen", "-Y", what, *words], input=text.encode(), env=env, capture=True, check=False)


@dataclass(frozen=True)
class Trusted:
    """A line of the list. signer: as stores name him; fingerprint: as ssh-keygen -l shows it."""

    name: str
    signer: str
    fingerprint: str
    options: str
    revoked: bool

    def as_json(self) -> dict[str, str | bool]:
        """For --json."""
        return asdict(self)


def listed(keys: Keys) -> list[Trusted]:
    """Who is trusted, as the list has them."""
    lines = keys.allowed.read_text(errors="replace").splitlines() if keys.allowed.is_file() else []
    return [_trusted(keys, line) for line in lines if signer_of(line)]


def _trusted(keys: Keys, line: str) -> Trusted:
    found = _KEY.search(line)
    assert found is not None
    name, _, options = line[: found.start()].strip().partition(" ")
    digest = base64.b64encode(hashlib.sha256(base64.b64decode(found[2])).digest()).decode().rstrip("=")
    return Trusted(name, signer_of(line), f"SHA256:{digest}", options, _is_revoked(keys, f"{found[1]} {found[2]}\n"))


def _is_revoked(keys: Keys, public: str) -> bool:
    if not keys.revoked.exists():
        return False
    if not keys.revoked.read_bytes().startswith(_KRL):
        return any(signer_of(line) == signer_of(public) for line in keys.revoked.read_text().splitlines())
    with tempfile.NamedTemporaryFile("w", prefix="xbuild-trust-", suffix=".pub") as file:
        file.write(public)
        file.flush()
        # Also if the list cannot be read: then no signature counts.
        done = process.run(["ssh-keygen", "-Q", "-f", keys.revoked, file.name], capture=True, check=False)
        return done.returncode != 0


def default_name() -> str:
    """What a key is called if nobody says: USER@MACHINE."""
    name = f"{getpass.getuser()}@{os.uname().nodename}"
    return re.sub(r"[^\w.@+-]", "-", name)


def make(keys: Keys, name: str) -> str:
    """A new key to sign by, without a passphrase, which is trusted here; gives the line that makes others trust it.

    Raises UsageError if there is one.
    """
    if keys.signs:
        raise UsageError(f"there is a key: {keys.key}", hint="`invoke store.keys` shows it")
    keys.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    process.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", keys.key], capture=True)
    return add(keys, keys.key.with_suffix(".pub"), name)


def line_of(file: Path, name: str) -> str:
    """The line of a list of trusted signers for the public key in `file`. Raises UsageError."""
    try:
        text = file.read_text(errors="replace").strip()
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}", hint="name a file with a public key, NAME.pub") from error
    found = _KEY.match(text)
    if found is None or not signer_of(text) or "\n" in text:
        raise UsageError(f"{file} is no public key", hint="name a file with one line, such as ssh-ed25519 AAAA... me")
    name = name or text[found.end() :].strip()
    if not re.fullmatch(r"[\w.@+-]+", name):
        raise UsageError(f"{name!r} cannot be the name of a signer", hint="--name NAME: letters, digits, . @ + - _")
    return f'{name} namespaces="{NAMESPACE}" {found[1]} {found[2]}'


def add(keys: Keys, file: Path, name: str) -> str:
    """Trust the public key in `file` from now on, as `name`; gives its line. Raises UsageError."""
    line = line_of(file, name)
    keys.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    before = keys.allowed.read_text() if keys.allowed.is_file() else ""
    if line not in before.splitlines():
        _replace(keys.allowed, f"{before}{'' if not before or before.endswith(chr(10)) else chr(10)}{line}\n")
    return line


def revoke(keys: Keys, word: str) -> list[Trusted]:
    """Never believe again what these keys have signed or will sign: those called `word`, or the one in the file `word`.

    Raises UsageError if there is none.
    """
    file = Path(word)
    if file.is_file():
        line_of(file, "x")
        lines = [file.read_text().strip()]
    else:
        lines = [line for line in keys.allowed.read_text().splitlines()] if keys.allowed.is_file() else []
        lines = [line for line in lines if signer_of(line) and line.split(" ", 1)[0] == word]
    if not lines:
        raise UsageError(f"nobody is called {word!r}", hint="`invoke store.trust` shows who is trusted")
    public = [" ".join(found.group(1, 2)) for line in lines if (found := _KEY.search(line))]
    keys.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if keys.revoked.exists() and keys.revoked.read_bytes().startswith(_KRL):
        with tempfile.NamedTemporaryFile("w", prefix="xbuild-trust-", suffix=".pub") as list_:
            list_.write("".join(f"{line}\n" for line in public))
            list_.flush()
            process.run(["ssh-keygen", "-q", "-k", "-u", "-f", keys.revoked, list_.name], capture=True)
    else:
        before = keys.revoked.read_text() if keys.revoked.exists() else ""
        _replace(keys.revoked, before + "".join(f"{line}\n" for line in public if line not in before))
    gone = {signer_of(line) for line in public}
    return [one for one in listed(keys) if one.signer in gone]


def _replace(file: Path, text: str) -> None:
    part = file.with_name(f".{file.name}.part")
    part.write_text(text)
    part.chmod(0o600)
    part.replace(file)
