"""The packets made by hand are what the standards say, and answers are told from noise."""

from __future__ import annotations

from topology.probe import wire
from topology.probe.servers import sctp_answer

SERVED = frozenset({80})


def test_crc32c_of_the_well_known_text() -> None:
    assert wire.crc32c(b"123456789") == 0xE3069283


def test_a_packet_survives_its_encoding() -> None:
    packet = wire.Sctp(1, 2, 3, wire.COOKIE_ECHO, 0, b"abcde")
    assert len(packet.encode()) % 4 == 0
    assert wire.decode_sctp(packet.encode()) == packet


def test_a_damaged_packet_is_none() -> None:
    data = wire.sctp_init(1, 2, 3)
    assert all(wire.decode_sctp(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]) is None for at in range(len(data)))
    assert wire.decode_sctp(data[:10]) is None


def test_an_association_opens() -> None:
    first = wire.decode_sctp(sctp_answer("x/a", SERVED, wire.sctp_init(4000, 80, 77)) or b"")
    assert first is not None
    assert (first.source, first.destination, first.tag, first.chunk) == (80, 4000, 77, wire.INIT_ACK)
    cookie = wire.cookie_of(first)
    assert cookie is not None
    assert cookie[4:] == b"x/a"
    echo = wire.Sctp(4000, 80, wire.init_tag(first) or 0, wire.COOKIE_ECHO, 0, cookie).encode()
    second = wire.decode_sctp(sctp_answer("x/a", SERVED, echo) or b"")
    assert second == wire.Sctp(80, 4000, 77, wire.COOKIE_ACK)


def test_a_port_that_is_not_served_is_refused() -> None:
    answer = wire.decode_sctp(sctp_answer("x/a", SERVED, wire.sctp_init(4000, 81, 77)) or b"")
    assert answer == wire.Sctp(81, 4000, 77, wire.ABORT)


def test_nothing_is_answered_to_answers() -> None:
    for chunk in (wire.INIT_ACK, wire.ABORT, wire.COOKIE_ACK):
        assert sctp_answer("x/a", SERVED, wire.Sctp(4000, 80, 1, chunk).encode()) is None
    assert sctp_answer("x/a", SERVED, wire.Sctp(4000, 80, 1, wire.INIT).encode()) is None


def test_echo_requests_and_replies() -> None:
    request = wire.icmp_echo_request(4, 5, 6)
    assert wire.internet_checksum(request) == 0
    assert wire.icmp_echo_reply(4, request) is None
    assert wire.icmp_echo_reply(4, b"\0" + request[1:]) == (5, 6)
    assert wire.icmp_echo_reply(6, b"\x81" + wire.icmp_echo_request(6, 5, 6)[1:]) == (5, 6)


def test_ipv4_headers_are_taken_off() -> None:
    assert wire.without_ip(4, bytes([0x46]) + bytes(23) + b"data") == b"data"
    assert wire.without_ip(6, b"data") == b"data"
