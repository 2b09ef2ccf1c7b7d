"""Real switches and `headgate run` in TLS, under both hubs: who comes in, who does not, and what a rotation changes."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.base.hub import HUBS
from tests.helpers.controller.headgate_process import (
    HOST,
    Headgate,
    Identity,
    Pki,
    SecureNode,
    anonymous,
    headgate,
    secure_node,
)
from tests.helpers.waiting import until

pytestmark = pytest.mark.switch


ADDED = "switch connected"


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki") / "pki")


@pytest.fixture(scope="module")
def good(pki: Pki) -> Iterator[SecureNode]:
    """A switch that may come in; each test lets it call another controller."""
    with secure_node(pki.switch("good"), "good") as node:
        yield node


def call(node: SecureNode, run: Headgate) -> None:
    """Let a switch call by itself, for OVSDB and OpenFlow, as `headgate pki switch` says."""
    node.vsctl("set-controller", "br-int", f"ssl:{HOST}:{run.openflow}")
    node.vsctl("set-manager", f"ssl:{HOST}:{run.ovsdb}")


def take_leave(node: SecureNode) -> None:
    node.vsctl("del-controller", "br-int", "--", "del-manager")


@pytest.mark.parametrize("hub", HUBS)
def test_switches_are_programmed_when_they_are_called(hub: str, pki: Pki, good: SecureNode) -> None:
    take_leave(good)
    with headgate(hub, pki, "--ovsdb", good.ssl, listen=False) as run:
        until(lambda: run.in_sync("good"), "flows by ssl: remotes")
        assert good.get("Controller", "br-int", "target") == f"ssl:{HOST}:{run.openflow}"
        assert good.flows()
        (remote,) = run.status()["ovsdb"]
        assert (remote["remote"], remote["connected"], remote["synced"]) == (good.ssl, True, True)
        # A port that comes later is told over the same connection.
        good.add_port(f"late-{hub}")
        until(lambda: any(port["name"] == f"late-{hub}" for port in run.status()["switches"][0]["unbound_ports"]))


@pytest.mark.parametrize("hub", HUBS)
def test_switches_are_programmed_when_they_call(hub: str, pki: Pki, good: SecureNode) -> None:
    take_leave(good)
    with headgate(hub, pki, "--allowed-switch", "good", "--allowed-switch", "other") as run:
        call(good, run)
        until(lambda: run.in_sync("good"), "flows by set-manager ssl:")
        assert good.flows()
        assert "plain TCP" not in run.log
        assert run.status()["tls"]["refused"] == 0
        tell_no_secrets(run, pki)


def tell_no_secrets(run: Headgate, pki: Pki) -> None:
    key = (pki.folder / "ctl-privkey.pem").read_text().splitlines()
    for text in (run.get("/status"), run.get("/metrics"), run.log):
        assert "PRIVATE KEY" not in text
        assert not any(line in text for line in key[1:-1])


@pytest.mark.parametrize("hub", HUBS)
def test_who_may_not_come_in_is_refused_and_counted_and_nobody_else_notices(
    hub: str, pki: Pki, good: SecureNode, tmp_path: Path
) -> None:
    take_leave(good)
    stranger = Pki(tmp_path / "other").switch("good")
    stranger.ca = pki.controller_ca
    bad: dict[str, Identity] = {
        "unknown_ca": stranger,
        "name": pki.switch("uninvited"),
        "expired": pki.expired("good"),
    }
    with (
        headgate(hub, pki, "--allowed-switch", "good") as run,
        secure_node(bad["name"], "bad") as node,
    ):
        call(good, run)
        until(lambda: run.in_sync("good"))
        connected = run.log.count(ADDED)
        call(node, run)
        for reason, identity in bad.items():
            node.be(identity)
            for channel in ("openflow", "ovsdb"):
                until(lambda c=channel, r=reason: run.refused(c, r), f"{channel}: {reason}")  # type: ignore[misc]
        for channel, port in (("openflow", run.openflow), ("ovsdb", run.ovsdb)):
            no_certificate(port, pki)
            no_tls(port)
            until(lambda c=channel: run.refused(c, "no_certificate"))  # type: ignore[misc]
            until(lambda c=channel: run.refused(c, "not_tls"))  # type: ignore[misc]
        status = run.status()
        assert [one["node"] for one in status["switches"]] == ["good"]
        assert run.in_sync("good") and run.log.count(ADDED) == connected
        assert status["tls"]["refused"] >= 10 and status["tls"]["last_refused"].startswith(("ssl:127.0.0.1: ", HOST))
        assert not node.flows()
        assert "which is not allowed" in run.log and "it sent no certificate" in run.log


def no_certificate(port: int, pki: Pki) -> None:
    """In TLS 1.3 a client learns only from the first answer that it is refused."""
    with (
        pytest.raises(OSError, match=r"."),
        socket.create_connection((HOST, port), 30) as plain,
        anonymous(pki.controller_ca).wrap_socket(plain) as secure,
    ):
        if not secure.recv(1):
            raise ConnectionResetError("closed")


def no_tls(port: int) -> None:
    with socket.create_connection((HOST, port), 30) as plain:
        plain.sendall(b"\x05\x00\x00\x08\x00\x00\x00\x01")
        while plain.recv(1000):
            continue


@pytest.mark.parametrize("hub", HUBS)
def test_a_rotation_is_for_new_connections(hub: str, pki: Pki, good: SecureNode) -> None:
    take_leave(good)
    client = pki.switch("good").client()
    with headgate(hub, pki) as run:
        call(good, run)
        until(lambda: run.in_sync("good"))
        before = pki.serial
        assert run.serial(client) == before
        sessions = run.log.count(ADDED)
        pki.headgate("init", "--name", HOST, "--renew")
        assert pki.serial != before and run.serial(client) == pki.serial
        good.add_port(f"after-{hub}")
        until(lambda: any(port["name"] == f"after-{hub}" for port in run.status()["switches"][0]["unbound_ports"]))
        until(lambda: run.in_sync("good"))
        assert run.log.count(ADDED) == sessions
        a_broken_file_changes_nothing(run, pki, client)
        assert run.log.count(ADDED) == sessions and run.in_sync("good")
        # The switch's next handshake is with the new certificate, and its flows are as they were.
        # Without any controller Headgate would add its own at once, maybe before the switch had even let go.
        good.vsctl("set-controller", "br-int", f"ssl:{HOST}:1")
        call(good, run)
        until(lambda: run.log.count(ADDED) > sessions and run.in_sync("good"))


def a_broken_file_changes_nothing(run: Headgate, pki: Pki, client: ssl.SSLContext) -> None:
    certificate, standing = pki.folder / "ctl-cert.pem", pki.serial
    right = certificate.read_bytes()
    certificate.write_bytes(right[: len(right) // 2])
    until(lambda: run.metric("headgate_tls_files_broken") == 1)
    problem = run.status()["tls"]["problem"]
    assert str(certificate) in problem and "the last good files stay in use" in problem
    assert problem in run.log
    assert run.serial(client) == standing
    certificate.write_bytes(right)
    until(lambda: run.metric("headgate_tls_files_broken") == 0)
    assert run.status()["tls"]["problem"] == ""
    assert run.metric("headgate_tls_certificate_expires_timestamp_seconds") == run.status()["tls"]["expires"] > 0


@pytest.mark.parametrize("hub", HUBS)
def test_peers_that_say_nothing_hold_nobody_up(hub: str, pki: Pki, good: SecureNode) -> None:
    take_leave(good)
    with headgate(hub, pki) as run:
        silent = [socket.create_connection((HOST, port)) for port in (run.openflow, run.ovsdb) for _ in range(20)]
        try:
            for one in silent[::2]:
                one.send(b"\x16\x03\x01")  # the beginning of a TLS record
            call(good, run)
            until(lambda: run.in_sync("good"))
            # They are sent away in the end.
            for channel in ("openflow", "ovsdb"):
                until(lambda c=channel: run.refused(c, "timeout") >= 20, "the handshake's time limit")  # type: ignore[misc]
        finally:
            for one in silent:
                one.close()


def test_an_ovsdb_that_is_somebody_else_is_not_talked_to(pki: Pki, tmp_path: Path) -> None:
    stranger = Pki(tmp_path / "other").switch("good")
    with secure_node(stranger, "stranger") as node, headgate("native", pki, "--ovsdb", node.ssl) as run:
        until(lambda: run.refused("ovsdb", "unknown_ca"))
        (remote,) = run.status()["ovsdb"]
        assert not remote["connected"] and "another CA" in remote["reason"]
        # And the other way round: it refuses us, and we say so.
        stranger = pki.switch("good")
        stranger.ca = tmp_path / "other/controllerca/cacert.pem"
        node.be(stranger)
        until(lambda: "refuses Headgate's certificate" in run.status()["ovsdb"][0]["reason"])
