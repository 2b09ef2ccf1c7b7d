"""A CA for labs in ovs-pki's layout: two CAs, a certificate for the controller, and one for each switch.

The folder holds every private key, so keep it on one trusted machine. There is no revocation list and no certificate
request; for these, use a CA of your own, whose files Headgate takes as well. Nothing is printed here.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from controller.tls.files import CERTIFICATE, PRIVATE_KEY

CONTROLLER_CA, SWITCH_CA = "controllerca", "switchca"
CA_DAYS = 3650
_CA_CERTIFICATE, _CA_KEY = "cacert.pem", "private/cakey.pem"
_BACKDATED = timedelta(minutes=5)  # a switch's clock may be a little behind
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?\Z")


class PkiError(Exception):
    """The request cannot be done; the message says what to do instead."""


class KeyPair(NamedTuple):
    """The files of a private key and of its certificate, and the names in the certificate."""

    private_key: Path
    certificate: Path
    names: tuple[str, ...]


def init_pki(folder: Path, names: Sequence[str], days: int, renew: bool = False) -> KeyPair:
    """Make both CAs, unless they exist, and the controller's certificate for `names` (host names and addresses).

    An existing certificate is replaced only with `renew`. Raises PkiError.
    """
    pair = KeyPair(folder / PRIVATE_KEY, folder / CERTIFICATE, tuple(names))
    _refuse_to_replace(pair, renew, "headgate pki init --renew")
    try:
        for name in (CONTROLLER_CA, SWITCH_CA):
            _make_ca(folder / name, f"Headgate {'controllers' if name == CONTROLLER_CA else 'switches'} CA")
        _issue(folder / CONTROLLER_CA, pair, days)
    except OSError as error:
        raise PkiError(f"cannot use {error.filename or folder}: {error.strerror}") from None
    return pair


def issue_switch_certificate(folder: Path, name: str, names: Sequence[str], days: int, renew: bool = False) -> KeyPair:
    """Make a key and a certificate for the switch `name`, with further `names` in it. Raises PkiError.

    An existing certificate is replaced only with `renew`.
    """
    if not _NAME.match(name):
        raise PkiError(f"{name!r} is not a valid switch name: use letters, digits, '.', '_' and '-', as in node-1")
    pair = KeyPair(folder / f"{name}-privkey.pem", folder / f"{name}-cert.pem", tuple(dict.fromkeys([name, *names])))
    if name == PRIVATE_KEY.partition("-")[0]:
        raise PkiError(f"{name!r} is the controller's; give the switch another name")
    if not (folder / SWITCH_CA / _CA_KEY).exists():
        raise PkiError(f"there is no CA in {folder}; make one with `headgate pki init --dir {folder}`")
    _refuse_to_replace(pair, renew, f"headgate pki switch {name} --renew")
    try:
        _issue(folder / SWITCH_CA, pair, days)
    except OSError as error:
        raise PkiError(f"cannot use {error.filename or folder}: {error.strerror}") from None
    return pair


def _refuse_to_replace(pair: KeyPair, renew: bool, command: str) -> None:
    if not renew:
        for path in (pair.private_key, pair.certificate):
            if path.exists():
                raise PkiError(f"{path} exists already; `{command}` replaces it")


def _make_ca(folder: Path, name: str) -> None:
    if (folder / _CA_CERTIFICATE).exists() and (folder / _CA_KEY).exists():
        return
    (folder / "private").mkdir(parents=True, exist_ok=True)
    (folder / "private").chmod(0o700)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    certificate = (
        _builder(subject, subject, key, CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write(folder / _CA_KEY, _key_bytes(key), 0o600)
    _write(folder / _CA_CERTIFICATE, certificate.public_bytes(serialization.Encoding.PEM), 0o644)


def _issue(ca: Path, pair: KeyPair, days: int) -> None:
    alternatives = [_alternative(name) for name in pair.names]
    ca_key, ca_certificate = _read_ca(ca)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, pair.names[0])])
    # A switch is a client for OpenFlow, and a server or client for OVSDB; the controller is the other end.
    purposes = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    certificate = (
        _builder(subject, ca_certificate.subject, key, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(purposes, critical=False)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()),
            critical=False,
        )
        .sign(ca_key, hashes.SHA256())
    )
    _write(pair.private_key, _key_bytes(key), 0o600)
    _write(pair.certificate, certificate.public_bytes(serialization.Encoding.PEM), 0o644)


def _read_ca(ca: Path) -> tuple[CertificateIssuerPrivateKeyTypes, x509.Certificate]:
    try:
        key = serialization.load_pem_private_key((ca / _CA_KEY).read_bytes(), None)
        certificate = x509.load_pem_x509_certificate((ca / _CA_CERTIFICATE).read_bytes())
    except (TypeError, ValueError) as error:
        raise PkiError(f"the CA in {ca} cannot be used: {error}") from None
    return key, certificate  # type: ignore[return-value]  # a CA's key can sign


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + timedelta(days=days))
    )


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    if not _NAME.match(name):
        raise PkiError(f"{name!r} is neither a host name nor an IP address")
    return x509.DNSName(name)


def _key_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, data: bytes, mode: int) -> None:
    """Replace a file atomically: readers see the old or the new one. `mode` is set before any byte is written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.chmod(mode)
        fresh.rename(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
