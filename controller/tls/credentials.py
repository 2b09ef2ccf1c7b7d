"""Headgate's TLS credentials: key, certificate and CA from files, reloaded when they change, and the allowed peers.

Established connections keep the credentials that they began with. New files that cannot be used change nothing: the
last good ones stay in use, and `state` has the problem. The private key is read by OpenSSL only.
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time
from collections.abc import Collection
from typing import NamedTuple, Protocol

from cryptography import x509

from controller.base.errors import StartError
from controller.base.threads import watched
from controller.tls.files import FileStamps, TlsFiles, file_stamps
from controller.tls.peer_certificates import TlsChannel, TlsRefusalReason, TlsRefused, authorize
from controller.tls.tls_socket import TlsSocket

_LOG = logging.getLogger(__name__)
FILE_CHECK_SECONDS = 2.0  # between two checks of the files; a handshake checks them too
MINIMUM_TLS = ssl.TLSVersion.TLSv1_2


class TlsObserver(Protocol):
    """Receives events for the metrics."""

    def tls_refused(self, channel: TlsChannel, reason: TlsRefusalReason) -> None:
        """A peer was refused."""

    def tls_files(self, expires: float, broken: bool) -> None:
        """The files were read. `expires`: Unix time, of the certificate in use. `broken`: the newest are unusable."""


class TlsContexts(NamedTuple):
    """SSL contexts of one set of files, for accepted and for outgoing connections, and the certificate's expiry."""

    server: ssl.SSLContext
    client: ssl.SSLContext
    expires: float


class TlsState(NamedTuple):
    """For the status report: the certificate's file and expiry (Unix time), the problem, and refused peers."""

    certificate: str
    expires: float
    problem: str
    refused: int
    last_refused: str


class Credentials:
    """The key, the certificate and the CA, and the names of allowed switches. Raises StartError for unusable files.

    `allowed` are common or alternative names in the certificates of switches; empty allows every certificate of the
    CA. Every method may be called from any thread.
    """

    def __init__(self, files: TlsFiles, allowed: Collection[str] = (), watcher: TlsObserver | None = None) -> None:
        self.files = files
        self.allowed = frozenset(allowed)
        self._watcher = watcher
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._problem = ""
        self._refused = 0
        self._last_refused = ""
        self._seen: FileStamps = file_stamps(files)
        try:
            self._contexts = read_contexts(files)
        except ValueError as error:
            raise StartError(f"TLS: {error}") from None
        self._notify()
        self._thread = watched("tls files", self._watch)
        self._thread.start()

    def secure(self, plain: socket.socket, server_side: bool) -> TlsSocket:
        """A TLS socket over a connected one, with the newest usable files, before its handshake."""
        self.reload_if_changed()
        return TlsSocket(plain, self._contexts.server if server_side else self._contexts.client, server_side)

    def authorize(self, peer: TlsSocket) -> str:
        """The name of a peer after its handshake. Raises TlsRefused."""
        return authorize(peer.certificate(), self.allowed)

    def count(self, channel: TlsChannel, where: str, refused: TlsRefused) -> None:
        """Count a refused peer; `where` is its address."""
        with self._lock:
            self._refused += 1
            self._last_refused = f"{where}: {refused.text}"
        if self._watcher is not None:
            self._watcher.tls_refused(channel, refused.reason)

    def reload_if_changed(self) -> None:
        """Reload the files if one of them has changed."""
        with self._lock:
            now = file_stamps(self.files)
            if now == self._seen:
                return
            # Set before reading, so that a change while reading is noticed at the next check.
            self._seen = now
            try:
                self._contexts = read_contexts(self.files)
            except ValueError as error:
                self._problem = f"{error}; the last good files stay in use"
                _LOG.error("TLS: %s", self._problem)
            else:
                self._problem = ""
                _LOG.info("TLS: the new files are in use, certificate valid until %s", _day(self._contexts.expires))
        self._notify()

    def state(self) -> TlsState:
        """The state now."""
        with self._lock:
            problem, expires = self._problem, self._contexts.expires
            if not problem and expires <= time.time():
                problem = f"{self.files.certificate} has expired; switches refuse new connections"
            return TlsState(str(self.files.certificate), expires, problem, self._refused, self._last_refused)

    def close(self) -> None:
        """Stop checking the files."""
        self._thread.release()
        self._closing.set()

    def _notify(self) -> None:
        if self._watcher is not None:
            self._watcher.tls_files(self._contexts.expires, bool(self._problem))

    def _watch(self) -> None:
        while not self._closing.wait(FILE_CHECK_SECONDS):
            try:
                self.reload_if_changed()
            except Exception:  # noqa: BLE001 - the next check may succeed
                _LOG.exception("checking the TLS files failed")


def read_contexts(files: TlsFiles) -> TlsContexts:
    """Contexts of the present files. Raises ValueError with the file and its error."""
    return TlsContexts(_context(files, True), _context(files, False), _expires(files))


def _context(files: TlsFiles, server_side: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # switches have names, not addresses, in their certificates; `authorize` checks them
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = MINIMUM_TLS
    # A resumed session would not present its certificate again, which may have expired or lost its CA since.
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    if server_side:
        context.num_tickets = 0
    try:
        context.load_verify_locations(files.ca_certificate)
    except OSError as error:
        raise ValueError(_unusable("CA certificate", str(files.ca_certificate), error)) from None
    for path in (files.certificate, files.private_key):
        try:
            path.open("rb").close()  # the error of load_cert_chain does not name the file
        except OSError as error:
            raise ValueError(f"cannot read {path}: {error.strerror}") from None
    try:
        # Without this, OpenSSL asks for the passphrase of an encrypted key on the terminal.
        context.load_cert_chain(files.certificate, files.private_key, password=lambda: "")
    except OSError as error:
        which = f"{files.certificate} with {files.private_key}"
        raise ValueError(_unusable("certificate and private key", which, error)) from None
    return context


def _unusable(what: str, where: str, error: OSError) -> str:
    if not isinstance(error, ssl.SSLError):
        return f"cannot read {where}: {error.strerror}"
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"{what} {where}: they do not belong together"
    return f"{what} {where}: not usable, {error.reason or 'no PEM with that in it'}"


def _expires(files: TlsFiles) -> float:
    try:
        certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(f"certificate {files.certificate}: {error}") from None
    return certificate.not_valid_after_utc.timestamp()


def _day(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(moment))
