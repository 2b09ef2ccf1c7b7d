"""The options for domain names, as operators write them."""

from __future__ import annotations

import pytest

from controller.config.network import normal_dns_server, normal_service, parse_dns_server
from flows.cluster.net import parse_address


@pytest.mark.parametrize(
    ("text", "normal", "address", "port"),
    [
        ("10.96.0.10", "10.96.0.10:53", "10.96.0.10", 53),
        ("10.96.0.10:5353", "10.96.0.10:5353", "10.96.0.10", 5353),
        ("fd00::a", "[fd00::a]:53", "fd00::a", 53),
        ("[fd00:0::a]", "[fd00::a]:53", "fd00::a", 53),
        ("[fd00::a]:5353", "[fd00::a]:5353", "fd00::a", 5353),
    ],
)
def test_a_server_is_an_address_with_or_without_a_port(text: str, normal: str, address: str, port: int) -> None:
    assert parse_dns_server(text) == (parse_address(address), port)
    assert normal_dns_server(text) == normal
    assert normal_dns_server(normal) == normal


@pytest.mark.parametrize("text", ["", "dns.example.com", "10.0.0.1:0", "10.0.0.1:65536", "127.0.0.1", "10.0.0.1:x"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        parse_dns_server(text)


def test_a_service_has_a_namespace() -> None:
    assert normal_service("kube-system/kube-dns") == "kube-system/kube-dns"
    for text in ("kube-dns", "a/b/c", "/x", "x/", "X/y"):
        with pytest.raises(ValueError, match="kube-system/kube-dns"):
            normal_service(text)
