"""The names in a peer's certificate, which of them are allowed, and why a peer is refused.

Values only. OpenSSL has verified the certificate against the CA before these functions are called.
"""

from __future__ import annotations

import ssl
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

TlsChannel = Literal["openflow", "ovsdb"]
TlsRefusalReason = Literal[
    "no_certificate", "unknown_ca", "expired", "certificate", "name", "not_tls", "version", "timeout", "closed",
    "handshake",
]  # fmt: skip
_SELF_SIGNED_OR_UNKNOWN = {2, 18, 19, 20, 21}  # X509_V_ERR_..., openssl-verify(1)
_NOT_YET_VALID_OR_EXPIRED = {9, 10}
_OPENSSL: Mapping[str, tuple[TlsRefusalReason, str]] = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": ("no_certificate", "it sent no certificate"),
    "WRONG_VERSION_NUMBER": ("not_tls", "it does not speak TLS"),
    "HTTP_REQUEST": ("not_tls", "it does not speak TLS but HTTP"),
    "UNKNOWN_PROTOCOL": ("not_tls", "it does not speak TLS"),
    "UNSUPPORTED_PROTOCOL": ("version", "it does not support TLS 1.2 or newer"),
    "TLSV1_ALERT_PROTOCOL_VERSION": ("version", "it does not support TLS 1.2 or newer"),
    "NO_SHARED_CIPHER": ("version", "it has no cipher in common with Headgate"),
    "TLSV1_ALERT_UNKNOWN_CA": ("certificate", "it refuses Headgate's certificate: unknown CA"),
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": ("certificate", "it refuses Headgate's certificate: expired"),
    "SSLV3_ALERT_BAD_CERTIFICATE": ("certificate", "it refuses Headgate's certificate"),
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": ("certificate", "it refuses Headgate's certificate"),
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": ("certificate", "it requires a certificate of Headgate"),
}


class TlsRefused(OSError):
    """A peer is refused. `reason` is the label of a metric; the message is for the operator."""

    def __init__(self, reason: TlsRefusalReason, message: str) -> None:
        super().__init__(message)
        self.reason: TlsRefusalReason = reason
        self.text = message


def tls_refusal(error: OSError) -> TlsRefused:
    """The refusal for an error in the handshake."""
    if isinstance(error, TlsRefused):
        return error
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _NOT_YET_VALID_OR_EXPIRED:
            return TlsRefused("expired", f"its certificate is not valid now: {error.verify_message}")
        if error.verify_code in _SELF_SIGNED_OR_UNKNOWN:
            return TlsRefused("unknown_ca", f"its certificate is of another CA: {error.verify_message}")
        return TlsRefused("certificate", f"its certificate is not valid: {error.verify_message}")
    if isinstance(error, ssl.SSLEOFError):
        return TlsRefused("closed", "it closed the connection in the TLS handshake")
    if isinstance(error, ssl.SSLError):
        known = _OPENSSL.get(error.reason or "")
        return (
            TlsRefused(*known)
            if known
            else TlsRefused("handshake", f"the TLS handshake failed: {error.reason or error}")
        )
    if isinstance(error, TimeoutError):
        return TlsRefused("timeout", "the TLS handshake took too long")
    return TlsRefused("closed", f"the connection ended in the TLS handshake: {error.strerror or error}")


def certificate_names(certificate: Mapping[str, Any]) -> tuple[str, ...]:
    """The names in a certificate of `getpeercert`: common names, then alternative DNS names and addresses.

    ovs-pki makes common names of the form `NAME id:UUID`; NAME alone is a name then, too.
    """
    common = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName" and value]
    short = [name.partition(" id:")[0] for name in common if " id:" in name]
    others = [value for kind, value in certificate.get("subjectAltName", ()) if kind in ("DNS", "IP Address")]
    return tuple(dict.fromkeys([*short, *common, *others]))


def authorize(certificate: Mapping[str, Any], allowed: Collection[str]) -> str:
    """The name by which a peer is allowed. An empty `allowed` allows every certificate of the CA. Raises TlsRefused.

    Names are compared without regard to case, as DNS names are, and without wildcards.
    """
    found = certificate_names(certificate)
    name = allowed_name(found, allowed)
    if not name:
        raise TlsRefused("name", f"its certificate names {', '.join(found) or 'nobody'}, which is not allowed")
    return name


def allowed_name(found: Sequence[str], allowed: Collection[str]) -> str:
    """The allowed one among the names of a certificate, empty if there is none."""
    if not allowed:
        return found[0] if found else "(without a name)"
    wanted = {name.casefold() for name in allowed}
    return next((name for name in found if name.casefold() in wanted), "")
