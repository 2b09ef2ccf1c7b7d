"""Addresses as operators write them, and the messages on invalid ones."""

from __future__ import annotations

import pytest

from controller.config.addresses import (
    AddressError,
    HostPort,
    is_exposed,
    is_loopback,
    normal_listen,
    normal_remote,
    parse_host_port,
    parse_listen,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:8080", HostPort("127.0.0.1", 8080)),
        ("[::1]:8080", HostPort("::1", 8080)),
        ("controller.example:0", HostPort("controller.example", 0)),
        ("localhost:65535", HostPort("localhost", 65535)),
    ],
)
def test_host_and_port_are_read_and_written_alike(text: str, expected: HostPort) -> None:
    assert parse_host_port(text, "h:1") == expected
    assert str(expected) == text


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "no host"),
        ("8080", "no host"),
        (":8080", "no host"),
        ("127.0.0.1", "no port"),
        ("127.0.0.1:", "no port"),
        ("127.0.0.1:65536", "no port number"),
        ("127.0.0.1:-1", "no port number"),
        ("127.0.0.1:٣", "no port number"),
        ("127.0.0.1:http", "no port number"),
        ("::1:8080", "brackets"),
        ("[::1", "bracket"),
        ("[::1]8080", "bracket"),
        ("[127.0.0.1]:80", "IPv6"),
        ("[fe80::zz]:80", "no IP address"),
        ("300.1.1.1:80", "no IP address"),
        ("1.2.3:80", "no IP address"),
        ("a b:80", "host name"),
        ("-a:80", "host name"),
        ("a..b:80", "host name"),
    ],
)
def test_a_wrong_address_says_what_to_write(text: str, hint: str) -> None:
    with pytest.raises(AddressError, match=hint):
        parse_host_port(text, "127.0.0.1:8080")


def test_listeners_are_tcp_plain_or_in_tls() -> None:
    assert parse_listen("tcp:0.0.0.0:6653", "x") == HostPort("0.0.0.0", 6653)
    assert parse_listen("ssl:[::]:6653", "x") == HostPort("::", 6653)
    assert normal_listen("ssl:[::]:6653", "x") == "ssl:[::]:6653"
    for wrong in ("ptcp:6653", "pssl:6653", "0.0.0.0:6653", "unix:/x", "tcp", "udp:0.0.0.0:1"):
        with pytest.raises(AddressError, match=r"tcp:0\.0\.0\.0:6653"):
            parse_listen(wrong, "tcp:0.0.0.0:6653")


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("unix:/run/openvswitch/db.sock", "unix:/run/openvswitch/db.sock"),
        ("tcp:192.0.2.1:6640", "tcp:192.0.2.1:6640"),
        ("tcp:192.0.2.1", "tcp:192.0.2.1:6640"),
        ("tcp:[2001:db8::1]", "tcp:[2001:db8::1]:6640"),
        ("ssl:192.0.2.1", "ssl:192.0.2.1:6640"),
        ("ssl:node-1.example:6641", "ssl:node-1.example:6641"),
    ],
)
def test_remotes_have_one_normal_form(text: str, normal: str) -> None:
    assert normal_remote(text) == normal


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("ptcp:6640", "--ovsdb-listen"),
        ("punix:/x", "--ovsdb-listen"),
        ("pssl:6640", "--ovsdb-listen"),
        ("ssl:192.0.2.1:0", "port 0"),
        ("unix:", "no socket"),
        ("/run/openvswitch/db.sock", "unix:/run"),
        ("192.0.2.1:6640", "tcp:192"),
        ("tcp:192.0.2.1:0", "port 0"),
        ("tcp:2001:db8::1:6640", "brackets"),
    ],
)
def test_a_wrong_remote_says_what_to_write(text: str, hint: str) -> None:
    with pytest.raises(AddressError, match=hint):
        normal_remote(text)


def test_loopback_is_told_from_the_rest() -> None:
    assert all(is_loopback(host) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost", "LOCALHOST."))
    assert not any(is_loopback(host) for host in ("0.0.0.0", "::", "192.0.2.1", "localhost.example", "example"))


@pytest.mark.parametrize("address", ["unix:/x", "tcp:127.0.0.1:1", "tcp:[::1]:1", "tcp:localhost:1", "ssl:0.0.0.0:1"])
def test_nothing_is_exposed_on_this_machine_or_in_tls(address: str) -> None:
    assert not is_exposed(address)


@pytest.mark.parametrize("address", ["tcp:0.0.0.0:6653", "tcp:[::]:1", "tcp:192.0.2.1:6640", "tcp:node-1.example:1"])
def test_plain_tcp_over_a_network_is_exposed(address: str) -> None:
    assert is_exposed(address)
