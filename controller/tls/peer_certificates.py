"""Who is at the other end: the names in a peer's certificate, which names are let in, and why a peer is refused.

Only values; the certificate itself was verified against the CA before anything here is asked.
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
    "UNSUPPORTED_PROTOCOL": ("version", "it speaks no TLS 1.2 or newer"),
    "TLSV1_ALERT_PROTOCOL_VERSION": ("version", "it speaks no TLS 1.2 or newer"),
    "NO_SHARED_CIPHER": ("version", "it shares no cipher with us"),
    "TLSV1_ALERT_UNKNOWN_CA": ("certificate", "it refuses our certificate: its CA does not know us"),
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": ("certificate", "it refuses our certificate: expired"),
    "SSLV3_ALERT_BAD_CERTIFICATE": ("certificate", "it refuses our certificate"),
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": ("certificate", "it refuses our certificate"),
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": ("certificate", "it wants a certificate of us"),
}


class TlsRefused(OSError):
    """A peer that is not talked to. `reason` is one word to count by; the message says it to people."""

    def __init__(self, reason: TlsRefusalReason, message: str) -> None:
        super().__init__(message)
        self.reason: TlsRefusalReason = reason
        self.text = message


def tls_refusal(error: OSError) -> TlsRefused:
    """What an error in the handshake means."""
    if isinstance(error, TlsRefused):
        return error
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _NOT_YET_VALID_OR_EXPIRED:
            return TlsRefused("expired", f"its certificate is not valid now: {error.verify_message}")
        if error.verify_code in _SELF_SIGNED_OR_UNKNOWN:
            return TlsRefused("unknown_ca", f"its certificate is of another CA: {error.verify_message}")
        return TlsRefused("certificate", f"its certificate does not hold: {error.verify_message}")
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
    """The names of a certificate as `ssl` gives it: common names first, then alternative DNS names and addresses.

    ovs-pki makes common names of the form `NAME id:UUID`; there NAME counts too.
    """
    common = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName" and value]
    short = [name.partition(" id:")[0] for name in common if " id:" in name]
    others = [value for kind, value in certificate.get("subjectAltName", ()) if kind in ("DNS", "IP Address")]
    return tuple(dict.fromkeys([*short, *common, *others]))


def authorize(certificate: Mapping[str, Any], allowed: Collection[str]) -> str:
    """The name of a peer that may come in; `allowed` empty lets in every certificate of the CA. Raises TlsRefused.

    Names are compared without regard to case, as DNS names are, and have no wildcards on either side.
    """
    found = certificate_names(certificate)
    name = allowed_name(found, allowed)
    if not name:
        raise TlsRefused("name", f"its certificate names {', '.join(found) or 'nobody'}, which is not allowed")
    return name


def allowed_name(found: Sequence[str], allowed: Collection[str]) -> str:
    """Of the names in a certificate the one by which its peer may come in, "" where none lets it in."""
    if not allowed:
        return found[0] if found else "(without a name)"
    wanted = {name.casefold() for name in allowed}
    return next((name for name in found if name.casefold() in wanted), "")
