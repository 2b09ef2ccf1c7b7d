"""Prefixes: parsing and containment; subtraction and collapsing are exact and minimal."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.cluster.net import (
    ADDRESS_BITS,
    Net,
    collapse,
    count_remaining,
    halves,
    parse_address,
    parse_network,
    subtract,
)

BITS = 6  # the brute force below looks at every address of a block of this size
BASE = {4: int(parse_address("10.1.2.192").value), 6: int(parse_address("2001:db8::40").value)}


@st.composite
def small_nets(draw: st.DrawFn, version: int) -> Net:
    """A prefix inside one block of 64 addresses, the block itself included."""
    free = draw(st.integers(0, BITS))
    value = BASE[version] + draw(st.integers(0, 2**BITS - 1))
    return Net(version, value >> free << free, ADDRESS_BITS[version] - free)


def members(nets: list[Net]) -> set[tuple[int, int]]:
    return {
        (net.version, net.value + offset)
        for net in nets
        for offset in range(2 ** (ADDRESS_BITS[net.version] - net.prefix))
    }


def fewest(wanted: set[tuple[int, int]]) -> list[Net]:
    """The largest aligned blocks within `wanted`, found by trying all blocks."""
    blocks = [
        Net(version, BASE[version] + (number << free), ADDRESS_BITS[version] - free)
        for version in (4, 6)
        for free in range(BITS, -1, -1)
        for number in range(2 ** (BITS - free))
    ]
    chosen: list[Net] = []
    for block in blocks:
        if members([block]) <= wanted and not any(greater.contains(block) for greater in chosen):
            chosen.append(block)
    return sorted(chosen)


@given(st.data(), st.sampled_from((4, 6)))
def test_subtract_is_exact_and_minimal(data: st.DataObject, version: int) -> None:
    net = data.draw(small_nets(version))
    holes = data.draw(st.lists(st.sampled_from((4, 6)).flatmap(small_nets), max_size=5))
    left = subtract(net, holes)
    assert left == fewest(members([net]) - members(holes))
    assert len(left) == count_remaining(net, holes)


@given(st.lists(st.sampled_from((4, 6)).flatmap(small_nets), max_size=12))
def test_collapse_is_exact_and_minimal(nets: list[Net]) -> None:
    assert collapse(iter(nets)) == fewest(members(nets))


@given(st.sampled_from((4, 6)).flatmap(lambda version: st.tuples(small_nets(version), small_nets(version))))
def test_contains_means_every_address(pair: tuple[Net, Net]) -> None:
    one, other = pair
    assert one.contains(other) == (members([other]) <= members([one]))


@pytest.mark.parametrize(
    ("net", "holes", "left"),
    [
        ("0.0.0.0/0", [], ["0.0.0.0/0"]),
        ("0.0.0.0/0", ["0.0.0.0/0"], []),
        ("10.0.0.0/24", ["10.0.0.0/25", "10.0.0.128/25"], []),
        ("10.0.0.0/24", ["10.0.0.0/25", "10.0.0.0/26"], ["10.0.0.128/25"]),
        ("10.0.0.0/30", ["10.0.0.1/32"], ["10.0.0.0", "10.0.0.2/31"]),
        ("10.0.0.0/24", ["192.0.2.0/24", "::/0"], ["10.0.0.0/24"]),
        ("::/0", ["8000::/1"], ["::/1"]),
    ],
)
def test_subtract_by_hand(net: str, holes: list[str], left: list[str]) -> None:
    assert list(map(str, subtract(parse_network(net), list(map(parse_network, holes))))) == left


def test_everything_without_one_address_is_one_prefix_for_each_bit() -> None:
    for version, everything in ((4, "0.0.0.0/0"), (6, "::/0")):
        hole = Net(version, BASE[version], ADDRESS_BITS[version])
        left = subtract(parse_network(everything), [hole])
        assert [net.prefix for net in sorted(left, key=lambda net: net.prefix)] == list(
            range(1, ADDRESS_BITS[version] + 1)
        )


@pytest.mark.parametrize(
    ("nets", "together"),
    [
        ([], []),
        (["0.0.0.0/1", "128.0.0.0/1"], ["0.0.0.0/0"]),
        (["::/0", "0.0.0.0/0", "::1/128"], ["0.0.0.0/0", "::/0"]),
        (["10.0.0.1/32", "10.0.0.2/32"], ["10.0.0.1", "10.0.0.2"]),
        (["10.0.0.0/32", "10.0.0.1/32", "10.0.0.2/31", "10.0.0.4/30"], ["10.0.0.0/29"]),
    ],
)
def test_collapse_by_hand(nets: list[str], together: list[str]) -> None:
    assert list(map(str, collapse(map(parse_network, nets)))) == together


def test_a_block_has_two_halves_and_an_address_none() -> None:
    assert halves(parse_network("10.0.0.0/24")) == (parse_network("10.0.0.0/25"), parse_network("10.0.0.128/25"))
    with pytest.raises(ValueError, match="cannot be split"):
        halves(parse_address("10.0.0.1"))


@pytest.mark.parametrize(
    ("text", "printed"),
    [("10.0.0.7/24", "10.0.0.0/24"), ("2001:DB8:0:0::1/64", "2001:db8::/64"), ("10.0.0.1/32", "10.0.0.1")],
)
def test_host_bits_of_networks_are_cleared(text: str, printed: str) -> None:
    assert str(parse_network(text)) == printed


@pytest.mark.parametrize("text", ["10.0.0.1", "10.0.0.0/33", "fe80::1%eth0/64", "10.0.0/8", "", "10.0.0.0/-1"])
def test_invalid_networks_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_network(text)


@pytest.mark.parametrize("text", ["10.0.0.1/32", "fe80::1%eth0", "10.0.0.256", "010.0.0.1", "::g", ""])
def test_invalid_addresses_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_address(text)


@given(
    st.lists(
        st.sampled_from(("", "0", "1", "01", "255", "256", "ffff", "00001", ".", ":", "::", "1.2.3.4", " ", "%", "٣"))
    )
)
def test_addresses_are_parsed_as_by_the_standard_library(parts: list[str]) -> None:
    for text in ("".join(parts), ":".join(parts), ".".join(parts)):
        try:
            address = ipaddress.ip_address(text) if "%" not in text else None
        except ValueError:
            address = None
        if address is None:
            with pytest.raises(ValueError, match="address"):
                parse_address(text)
        else:
            assert parse_address(text) == (address.version, int(address), address.max_prefixlen)
