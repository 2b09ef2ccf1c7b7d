"""Names in certificates, options that belong together, files that cannot be used, and bytes through TLS."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.base.errors import StartError
from controller.cli.status import show_status
from controller.config.load import SettingsError, load_config
from controller.status.model import StatusView, TlsView
from controller.tls.credentials import Credentials
from controller.tls.files import TlsFiles
from controller.tls.peer_certificates import TlsRefused, authorize, certificate_names
from controller.tls.tls_socket import TlsSocket
from tests.helpers.controller.headgate_process import Pki

CERTIFICATE = {
    "subject": ((("organizationName", "Open vSwitch"),), (("commonName", "node-1 id:0b-1c"),)),
    "subjectAltName": (("DNS", "Node-1.example"), ("IP Address", "192.0.2.11"), ("URI", "spiffe://x")),
}


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki") / "pki")


def files(pki: Pki) -> TlsFiles:
    return TlsFiles(pki.folder / "ctl-privkey.pem", pki.folder / "ctl-cert.pem", pki.folder / "switchca/cacert.pem")


def test_names_are_common_and_alternative_ones() -> None:
    assert certificate_names(CERTIFICATE) == ("node-1", "node-1 id:0b-1c", "Node-1.example", "192.0.2.11")
    assert certificate_names({}) == ()


def test_only_allowed_names_come_in() -> None:
    assert authorize(CERTIFICATE, []) == "node-1"
    assert authorize({}, []) == "(without a name)"
    for allowed in ("node-1", "NODE-1.EXAMPLE", "192.0.2.11", "node-1 id:0b-1c"):
        authorize(CERTIFICATE, ["x", allowed])
    for other in ("node", "node-10", "*.example", "example", ""):
        with pytest.raises(TlsRefused, match="not allowed") as refused:
            authorize(CERTIFICATE, [other])
        assert refused.value.reason == "name"
    with pytest.raises(TlsRefused, match="nobody"):
        authorize({}, ["node-1"])


BASE = {"manifests": "/m", "ovsdb": ("unix:/x",)}


@pytest.mark.parametrize(
    ("flags", "hint"),
    [
        ({"openflow_listen": "ssl:0.0.0.0:6653"}, "6653 needs --private-key and --certificate and --ca-cert"),
        ({"ovsdb": ("ssl:192.0.2.1",), "private_key": "/k"}, "needs --certificate and --ca-cert"),
        ({"ovsdb_listen": "ssl:[::]:6640"}, "pki-dir"),
        ({"pki_dir": "/p"}, "TLS would not be used"),
        ({"allowed_switch": ("a",)}, "TLS would not be used"),
        ({"ca_cert": "/c"}, "TLS would not be used"),
    ],
)  # fmt: skip
def test_half_of_tls_is_an_error(flags: dict[str, object], hint: str) -> None:
    with pytest.raises(SettingsError, match=hint):
        load_config({**BASE, **flags}, {}, None)


def test_files_are_found_in_the_folder_unless_they_are_given() -> None:
    secured = {**BASE, "openflow_listen": "ssl:0.0.0.0:6653", "pki_dir": "/p", "certificate": "/c.pem"}
    config = load_config(secured, {"HEADGATE_ALLOWED_SWITCH": "node-1, node-2"}, None)
    assert config.tls_files == (Path("/p/ctl-privkey.pem"), Path("/c.pem"), Path("/p/switchca/cacert.pem"))
    assert config.allowed_switch == ("node-1", "node-2")
    assert config.exposed == ()
    assert load_config(BASE, {}, None).tls_files is None
    plain = load_config({**BASE, "ovsdb": ("tcp:192.0.2.1", "tcp:127.0.0.1"), "ovsdb_listen": "tcp:[::]:1"}, {}, None)
    assert plain.exposed == ("tcp:0.0.0.0:6653", "tcp:[::]:1", "tcp:192.0.2.1:6640")


@pytest.mark.parametrize(
    ("name", "text", "hint"),
    [
        ("ctl-privkey.pem", None, "cannot read .*ctl-privkey.pem: No such file"),
        ("switchca/cacert.pem", None, "cannot read .*cacert.pem"),
        ("switchca/cacert.pem", "", "CA certificate .*cacert.pem"),
        ("ctl-cert.pem", "nonsense", "ctl-cert.pem"),
        ("ctl-privkey.pem", "other", "do not belong together"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_at_the_start(
    tmp_path: Path, name: str, text: str | None, hint: str
) -> None:
    pki = Pki(tmp_path / "pki")
    if text is None:
        (pki.folder / name).unlink()
    elif text == "other":
        (pki.folder / name).write_bytes(Pki(tmp_path / "other").folder.joinpath(name).read_bytes())
    else:
        (pki.folder / name).write_text(text)
    with pytest.raises(StartError, match=hint):
        Credentials(files(pki))


def test_another_ca_counts_from_the_next_handshake_on(tmp_path: Path) -> None:
    pki, other = Pki(tmp_path / "pki"), Pki(tmp_path / "other")
    pair = Pair(pki)
    shutil.copy(other.folder / "switchca/cacert.pem", pki.folder / "switchca/cacert.pem")
    here, there = socket.socketpair()
    with here, there:
        client = TlsSocket(there, pki.switch("node-1").client(), False)
        thread = threading.Thread(target=client.shake_hands, args=(30,))
        thread.start()
        with pytest.raises(TlsRefused, match="another CA") as refused:
            pair.credentials.secure(here, True).shake_hands(30)
        thread.join()
    assert refused.value.reason == "unknown_ca"
    send_all(pair.client, b"still here")
    assert pair.server.recv(100) == b"still here"
    pair.close()


def test_the_status_shows_what_an_operator_must_know(capsys: pytest.CaptureFixture[str]) -> None:
    problem = "certificate /c.pem: not usable; the last good files stay in use"
    tls = TlsView("/c.pem", 0.0, problem, 3, "192.0.2.66: it sent no certificate")
    show_status(StatusView("1", 1.0, plain=("tcp:0.0.0.0:6653",), tls=tls))
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert "tls tcp:0.0.0.0:6653: in plain text over the network" in lines
    assert f"tls /c.pem: {problem}" in lines
    assert "tls 3 connections refused: the last: 192.0.2.66: it sent no certificate" in lines


class Pair:
    """Both ends of a connection in TLS after the handshake."""

    def __init__(self, pki: Pki) -> None:
        self._plain = socket.socketpair()
        self.credentials = Credentials(files(pki))
        self.server = self.credentials.secure(self._plain[0], True)
        self.client = TlsSocket(self._plain[1], pki.switch("node-1").client(), False)
        thread = threading.Thread(target=self.client.shake_hands, args=(30,))
        thread.start()
        self.server.shake_hands(30)
        thread.join()

    def close(self) -> None:
        self.credentials.close()
        for one in self._plain:
            one.close()


@pytest.fixture
def pair(pki: Pki) -> Iterator[Pair]:
    one = Pair(pki)
    try:
        yield one
    finally:
        one.close()


def send_all(end: TlsSocket, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[end.send(view) :]
        except TimeoutError:
            continue


def receive(end: TlsSocket, size: int, into: list[str]) -> None:
    got = hashlib.sha256()
    while size:
        try:
            data = end.recv(1 << 18)
        except TimeoutError:
            continue
        got.update(data)
        size -= len(data)
    into.append(got.hexdigest())


def test_both_directions_at_once_arrive_whole(pair: Pair) -> None:
    data = os.urandom(8 << 20)
    found: list[str] = []
    threads = []
    for one in (pair.server, pair.client):
        one.settimeout(0.05)
        threads += [threading.Thread(target=send_all, args=(one, data))]
        threads += [threading.Thread(target=receive, args=(one, len(data), found))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [hashlib.sha256(data).hexdigest()] * 2


def test_a_socket_that_does_not_block_says_so_and_forgets_nothing(pair: Pair) -> None:
    for one in (pair.server, pair.client):
        one.setblocking(False)
    with pytest.raises(BlockingIOError):
        pair.server.recv(10)
    data, sent, got = os.urandom(4 << 20), 0, b""
    while len(got) < len(data):
        with contextlib.suppress(BlockingIOError):
            sent += pair.client.send(data[sent:]) if sent < len(data) else 0
        try:
            got += pair.server.recv(1000)
        except BlockingIOError:
            assert not pair.server.pending
    assert got == data


def test_a_peer_that_is_gone_is_an_end_and_no_error(pair: Pair) -> None:
    send_all(pair.client, b"last words")
    pair.client.shutdown(socket.SHUT_RDWR)
    assert pair.server.recv(100) == b"last words"
    assert pair.server.recv(100) == b""


def test_a_part_of_a_record_keeps_nobody_waiting(pair: Pair) -> None:
    pair.server.settimeout(30)
    pair.client._plain.send(b"\x17\x03\x03")  # the beginning of a record
    with pytest.raises(TimeoutError):
        pair.server.recv(100)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_older_than_tls_1_2_is_refused(pki: Pki) -> None:
    context = pki.switch("node-1").client(ssl.TLSVersion.TLSv1_1)
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.set_ciphers("ALL:@SECLEVEL=0")
    credentials = Credentials(files(pki))
    here, there = socket.socketpair()
    with here, there:
        thread = threading.Thread(target=lambda: _fails(there, context))
        thread.start()
        with pytest.raises(TlsRefused, match=r"TLS 1\.2") as refused:
            credentials.secure(here, True).shake_hands(30)
        here.close()
        thread.join()
    assert refused.value.reason == "version"
    credentials.close()


def _fails(plain: socket.socket, context: ssl.SSLContext) -> None:
    with pytest.raises(OSError, match=r"."):
        context.wrap_socket(plain)
