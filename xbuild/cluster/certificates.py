"""A cluster's own authority and its certificates: who has one of these is in, nobody else.

Dask asks both sides for a certificate of the authority, and looks at no name in it. So each cluster has an authority
of its own, and its key stays where the certificates are made.
"""

from __future__ import annotations

import datetime
import os
import secrets
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from xbuild.base.errors import UsageError
from xbuild.store.local import writing_below

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from distributed.security import Security

VARIABLE = "XBUILD_CLUSTER"
"""Names the directory of certificates."""
ROLES = ("scheduler", "worker", "client")
DAYS = 365
"""How long certificates count."""
_EARLIER = datetime.timedelta(days=1)
"""They count from so long ago on, for clocks that are slow."""


def folder(named: str = "") -> Path:
    """The directory of certificates: `named`, else $XBUILD_CLUSTER, else `cluster` in the user's configuration."""
    word = named or os.environ.get(VARIABLE, "")
    return Path(word).absolute() if word else Path(platformdirs.user_config_dir("xbuild")).absolute() / "cluster"


@dataclass(frozen=True)
class Files:
    """A role's files in a directory of certificates."""

    place: Path
    role: str

    @property
    def authority(self) -> Path:
        """The authority's certificate."""
        return self.place / "ca.pem"

    @property
    def certificate(self) -> Path:
        """The role's."""
        return self.place / f"{self.role}.pem"

    @property
    def key(self) -> Path:
        """Its key."""
        return self.place / f"{self.role}.key"

    @property
    def all(self) -> tuple[Path, Path, Path]:
        """What a machine needs for this role, and no more."""
        return self.authority, self.certificate, self.key

    def there(self) -> bool:
        """Whether all of them are."""
        return all(file.is_file() for file in self.all)

    def require(self) -> None:
        """Raise UsageError, with what to do, unless they are there, closed to others, and still count."""
        make = f"invoke cluster.certificates {self.place}"
        for file in self.all:
            if not file.is_file():
                hint = f"`{make}` makes them; a further machine gets {', '.join(known.name for known in self.all)}"
                raise UsageError(f"no certificate of the cluster: {file} is missing", hint=hint)
        if self.key.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            hint = f"chmod 600 {self.key}; if others may have read it: {make} --again"
            raise UsageError(f"{self.key} can be read by others than its owner", hint=hint)
        until = _certificate(self.certificate).not_valid_after_utc
        if until < _now():
            raise UsageError(f"{self.certificate}: expired on {until:%Y-%m-%d}", hint=f"renew them: {make}")


def make(place: Path, days: int = DAYS, *, again: bool = False) -> list[Path]:
    """Make certificates for all roles, by the authority of `place`, or a new one if there is none, or `again`.

    Their files are for their owner only. Raises UsageError if the authority's key is not there.
    """
    with writing_below(place):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        place.chmod(0o700)
        authority, key = place / "ca.pem", place / "ca.key"
        if again or not authority.exists():
            _make_authority(authority, key, days)
        elif not key.exists():
            hint = "make them where ca.key is, or give --again for a new authority: then all machines need new ones"
            raise UsageError(f"{place} has an authority, but not its key", hint=hint)
        return [authority, key, *(file for role in ROLES for file in _make_role(Files(place, role), key, days))]


def security(place: Path, *roles: str) -> Security:
    """What Dask needs to talk as these roles: never without encryption. Raises UsageError as `Files.require`."""
    from distributed.security import Security

    named: dict[str, str] = {}
    for files in (Files(place, role) for role in roles):
        files.require()
        named |= {f"tls_{files.role}_cert": str(files.certificate), f"tls_{files.role}_key": str(files.key)}
    kind: Any = Security
    made: Security = kind(require_encryption=True, tls_ca_file=str(Files(place, roles[0]).authority), **named)
    return made


def bundle(place: Path, role: str) -> str:
    """The files of a role as one text, for `unbundled` on another machine."""
    files = Files(place, role)
    files.require()
    return "".join(file.read_text() for file in files.all)


def unbundled(text: str, place: Path, role: str) -> None:
    """Write what `bundle` gave as files of the closed directory `place`. Raises UsageError if it is something else."""
    parts = [f"-----BEGIN {part}" for part in text.split("-----BEGIN ")[1:]]
    if len(parts) != 3:
        raise UsageError("these are no certificates of a cluster", hint="`xbuild cluster.ssh` sends them")
    for file, part in zip(Files(place, role).all, parts, strict=True):
        _write(file, part.encode())


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _certificate(file: Path) -> x509.Certificate:
    # Only here, as below: it takes long to load.
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate(file.read_bytes())
    except ValueError as error:
        raise UsageError(f"{file}: this is no certificate") from error


def _make_authority(authority: Path, key_file: Path, days: int) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = _named(f"xbuild cluster {secrets.token_hex(4)}")
    extensions = [x509.BasicConstraints(ca=True, path_length=0), _usage(signs=True)]
    made = _signed(name, name, key.public_key(), key, extensions, days)
    _write(key_file, _key_text(key))
    _write(authority, made)


def _make_role(files: Files, key_file: Path, days: int) -> tuple[Path, Path]:
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID

    try:
        signer = serialization.load_pem_private_key(key_file.read_bytes(), None)
    except ValueError as error:
        raise UsageError(f"{key_file}: this is no key") from error
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    # A stolen certificate of a client cannot stand for the scheduler.
    uses = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if files.role != "client" else [])]
    extensions = [
        x509.BasicConstraints(ca=False, path_length=None), x509.ExtendedKeyUsage(uses), _usage(signs=False),
        x509.SubjectAlternativeName([x509.DNSName(f"xbuild-{files.role}")]),
    ]  # fmt: skip
    issuer = _certificate(files.authority).subject
    made = _signed(_named(f"xbuild {files.role}"), issuer, key.public_key(), signer, extensions, days)
    _write(files.key, _key_text(key))
    _write(files.certificate, made)
    return files.certificate, files.key


def _named(text: str) -> x509.Name:
    from cryptography import x509

    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def _usage(*, signs: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs, key_cert_sign=signs, crl_sign=signs, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _signed(
    name: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, signer: ec.EllipticCurvePrivateKey,
    extensions: Iterable[x509.ExtensionType], days: int,
) -> bytes:  # fmt: skip
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    began = _now()
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(issuer).public_key(public)
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(began - _EARLIER)
    builder = builder.not_valid_after(began + datetime.timedelta(days=days))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    builder = builder.add_extension(identifier, critical=False)
    return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _key_text(key: ec.EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives import serialization

    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)


def _write(file: Path, data: bytes) -> None:
    """Whole or not at all, and never open to others, not for a moment."""
    beside = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
    beside.replace(file)
