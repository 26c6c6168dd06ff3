"""The OpenPGP signature of a .dsc file, by the keyrings of the distribution that this machine has."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xbuild.base import process
from xbuild.base.errors import MachineError, UsageError
from xbuild.formats.deb822 import is_signed, unsigned

KEYRINGS = Path("/usr/share/keyrings")
_NAMES = ("debian-keyring", "debian-maintainers", "debian-nonupload", "debian-tag2upload")
"""Of the package debian-keyring: whoever may upload (its README); each ends in .gpg or .pgp."""

_BAD = {
    "BADSIG": "its signature is wrong: the file is not what was signed",
    "REVKEYSIG": "it is signed by a key that was revoked",
}
"""What gpgv says of signatures that nobody should take (GnuPG's doc/DETAILS)."""


@dataclass(frozen=True)
class Signed:
    """What is known of a text. text: what is signed, or all of it. checked: by whom, or why that is not known."""

    text: str
    checked: str


def keyrings(place: Path = KEYRINGS) -> list[Path]:
    """The keyrings of Debian's developers on this machine."""
    files = [place / f"{name}{ending}" for name in _NAMES for ending in (".gpg", ".pgp")]
    return [file for file in files if file.is_file()]


def verified(file: Path, known: Sequence[Path] | None = None) -> Signed:
    """What the file `file` says, with its signature checked as far as that can be done here.

    known: keyrings; None: those of `keyrings`. Raises UsageError if a signature is wrong, or no text can be read.
    """
    try:
        text = file.read_bytes().decode()
        plain = unsigned(text)
    except (ValueError, OSError) as error:
        raise UsageError(f"{file}: {_reason(error)}", hint="is it a .dsc file? fetch it once more") from error
    if not is_signed(text):
        return Signed(plain, "signature not checked: it has none")
    found = keyrings() if known is None else list(known)
    if not found:
        return Signed(plain, "signature not checked: the package debian-keyring is not installed here")
    words = [f"--keyring={keyring}" for keyring in found]
    try:
        done = process.run(["gpgv", "--status-fd=1", *words, file], capture=True, check=False)
    except MachineError:
        return Signed(plain, "signature not checked: there is no gpgv here")
    return Signed(plain, _judged(done.stdout.decode(errors="replace"), file))


def _reason(error: Exception) -> str:
    return (error.strerror or "cannot be read") if isinstance(error, OSError) else str(error)


def _judged(said: str, file: Path) -> str:
    """What gpgv's status lines come to. Raises UsageError for a signature that is wrong."""
    found = dict(re.findall(r"^\[GNUPG:\] ([A-Z_]+) ?(.*)$", said, re.MULTILINE))
    for word, why in _BAD.items():
        if word in found:
            hint = "do not build it; fetch it once more, from another place"
            raise UsageError(f"{file}: {why}", details=[found[word]], hint=hint)
    for word, more in (("GOODSIG", ""), ("EXPKEYSIG", ", whose key has expired since"), ("EXPSIG", ", and expired")):
        if word in found and "VALIDSIG" in found:
            key, _, name = found[word].partition(" ")
            return f"signed by {name or key}{more}"
    if "NO_PUBKEY" in found:
        return f"signature not checked: the key {found['NO_PUBKEY']} is in no keyring of the distribution here"
    return "signature not checked: gpgv does not know what it is"
