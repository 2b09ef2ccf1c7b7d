"""Which node has which ranges and addresses, also where Node objects claim what is another's or absurd."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import permutations

from flows.bridge.node_claims import MAX_NODE_CLAIMS, NodeClaims, ReservedNet
from flows.bridge.routing import NetworkMode, RoutedNode
from flows.cluster.model import Node
from flows.cluster.net import Net, parse_address, parse_network

OLD, NEW = "2026-01-01T00:00:00Z", "2026-06-01T00:00:00Z"


def net(text: str) -> Net:
    return parse_network(text) if "/" in text else parse_address(text)


def node(name: str, cidrs: str = "", addresses: str = "", created: str = "") -> Node:
    return Node(name, tuple(map(net, addresses.split())), tuple(map(net, cidrs.split())), created)


def claims(
    *nodes: Node,
    mode: NetworkMode = NetworkMode.OVERLAY,
    within: str = "",
    reserved: str = "",
    nodes_within: str = "",
) -> NodeClaims:
    not_nodes = [ReservedNet(net(one), "us") for one in reserved.split()]
    found = NodeClaims(mode, tuple(map(net, within.split())), not_nodes, tuple(map(net, nodes_within.split())))
    for one in nodes:
        found.put(one)
    return found


def what_is_routed(found: NodeClaims) -> dict[str, list[str]]:
    """By node: its tunnel end (where it has one), then all that is reached through it."""
    return {
        one.name: [f"end {one.tunnel_end}"] * (one.tunnel_end is not None) + list(map(str, one.nets))
        for one in found.routed()
    }


N1 = node("n1", "10.244.1.0/24 fd00:1::/64", "192.0.2.1 2001:db8::1", OLD)
N2 = node("n2", "10.244.2.0/24", "192.0.2.2", NEW)


def test_nodes_have_what_they_claim_where_nobody_else_does() -> None:
    found = claims(N2, N1)
    assert found.routed() == (
        RoutedNode("n1", net("192.0.2.1"), N1.pod_cidrs, N1.addresses),
        RoutedNode("n2", net("192.0.2.2"), N2.pod_cidrs, N2.addresses),
    )
    assert not found.problems("n1") and not found.problems("n2") and not found.problems("unknown")


def test_nothing_changes_as_long_as_nothing_changes() -> None:
    found = claims(N1, N2)
    before = found.routed()
    assert found.routed() is before
    found.put(N2)
    assert found.routed() == before


def test_without_an_overlay_there_are_no_tunnel_ends() -> None:
    assert what_is_routed(claims(N2, mode=NetworkMode.ROUTED)) == {"n2": ["10.244.2.0/24", "192.0.2.2"]}


def test_who_comes_later_gets_nothing_of_what_another_has() -> None:
    found = claims(N2)
    found.routed()
    found.put(node("thief", "10.244.2.0/24", "192.0.2.2", OLD))  # older, but it comes later
    assert what_is_routed(found) == {"n2": ["end 192.0.2.2", "10.244.2.0/24", "192.0.2.2"], "thief": []}
    assert found.problems("thief") == (
        "spec.podCIDRs 10.244.2.0/24 is refused: it is that of n2 already",
        "InternalIP 192.0.2.2 is refused: it is that of n2 already",
        "it has no InternalIP of IPv4, so no tunnel leads to its pods",
    )
    assert not found.problems("n2")


def test_part_of_a_range_and_a_range_around_it_are_refused_too() -> None:
    found = claims(N2)
    found.routed()
    found.put(node("inner", "10.244.2.128/25", "10.244.2.9"))
    found.put(node("outer", "10.244.0.0/16", "192.0.2.3"))
    found.put(node("around", "192.0.2.0/24", "198.51.100.1"))
    assert [found.problems(name)[0] for name in ("inner", "outer", "around")] == [
        "spec.podCIDRs 10.244.2.128/25 is refused: it overlaps 10.244.2.0/24, which is that of n2 already",
        "spec.podCIDRs 10.244.0.0/16 is refused: it overlaps 10.244.2.0/24, which is that of n2 already",
        "spec.podCIDRs 192.0.2.0/24 is refused: it overlaps 192.0.2.2, which is that of n2 already",
    ]
    assert what_is_routed(found)["outer"] == ["end 192.0.2.3", "192.0.2.3"]


def test_of_those_that_come_together_the_oldest_is_first_whatever_the_order() -> None:
    rivals = [node("b", "10.0.1.0/24", "", OLD), node("a", "10.0.1.0/24", "", NEW), node("c", "10.0.1.0/24")]
    for order in permutations(rivals):
        assert what_is_routed(claims(*order)) == {"a": [], "b": ["10.0.1.0/24"], "c": []}


def test_a_refused_node_gets_its_range_once_it_is_free() -> None:
    found = claims(N2)
    found.routed()
    found.put(node("next", "10.244.2.0/24", "192.0.2.3"))
    assert found.problems("next")
    found.remove("n2")
    assert what_is_routed(found) == {"next": ["end 192.0.2.3", "10.244.2.0/24", "192.0.2.3"]}
    assert not found.problems("next")


def test_a_node_that_changes_its_address_frees_the_old_one() -> None:
    found = claims(N1, N2)
    found.routed()
    found.put(node("n2", "10.244.2.0/24", "192.0.2.22"))
    found.put(node("n3", "10.244.3.0/24", "192.0.2.2"))
    assert what_is_routed(found)["n2"] == ["end 192.0.2.22", "10.244.2.0/24", "192.0.2.22"]
    assert what_is_routed(found)["n3"] == ["end 192.0.2.2", "10.244.3.0/24", "192.0.2.2"]


def test_what_is_no_nodes_is_nobodys() -> None:
    found = claims(node("n1", "10.96.1.0/24", "169.254.72.1"), reserved="10.96.0.0/12 169.254.0.0/16")
    assert what_is_routed(found) == {"n1": []}
    assert "overlaps 10.96.0.0/12, which is that of us already" in found.problems("n1")[0]


def test_a_range_outside_those_of_the_cluster_is_refused() -> None:
    found = claims(N1, node("n2", "10.0.2.0/24", "192.0.2.2"), within="10.244.0.0/16 fd00::/48")
    assert what_is_routed(found)["n2"] == ["end 192.0.2.2", "192.0.2.2"]
    assert found.problems("n2") == ("spec.podCIDRs 10.0.2.0/24 is refused: it is not within 10.244.0.0/16 fd00::/48",)


def test_an_address_outside_the_operators_ranges_of_nodes_is_nobodys() -> None:
    liar = node("n2", "10.244.2.0/24", "203.0.113.7 192.0.2.2 2001:db8::7", NEW)
    assert "203.0.113.7" in what_is_routed(claims(N1, liar))["n2"]
    found = claims(N1, liar, nodes_within="192.0.2.0/24 2001:db8::/126")
    assert what_is_routed(found) == {
        "n1": ["end 192.0.2.1", "10.244.1.0/24", "fd00:1::/64", "192.0.2.1", "2001:db8::1"],
        "n2": ["end 192.0.2.2", "10.244.2.0/24", "192.0.2.2"],
    }
    assert found.problems("n2") == tuple(
        f"InternalIP {one} is refused: it is not within 192.0.2.0/24 2001:db8::/126"
        for one in ("203.0.113.7", "2001:db8::7")
    )


def test_all_tunnel_ends_are_of_the_family_of_the_oldest_node() -> None:
    six = node("a", "10.0.1.0/24", "2001:db8::a 192.0.2.10", OLD)
    four = node("b", "10.0.2.0/24", "192.0.2.11", NEW)
    found = claims(four, six)
    assert what_is_routed(found)["a"][0] == "end 2001:db8::a"
    assert found.problems("b") == ("it has no InternalIP of IPv6, so no tunnel leads to its pods",)
    found.remove("a")
    assert what_is_routed(found) == {"b": ["end 192.0.2.11", "10.0.2.0/24", "192.0.2.11"]}


def test_a_node_without_ranges_is_told_so() -> None:
    assert claims(node("n1", "", "192.0.2.1")).problems("n1") == (
        "its Node has no spec.podCIDRs, so its pods have no addresses",
    )


def test_a_node_with_very_many_addresses_is_considered_in_part() -> None:
    many = Node("n1", tuple(Net(4, 0x0A000000 + number, 32) for number in range(10_000)), (net("10.244.1.0/24"),))
    found = claims(many)
    assert len(found.routed()[0].nets) == MAX_NODE_CLAIMS
    assert found.problems("n1") == (f"{10_001 - MAX_NODE_CLAIMS} more addresses of the Node are not considered",)


def test_a_very_long_name_stays_out_of_other_nodes_messages() -> None:
    found = claims(node("x" * 250, "10.0.0.0/24"))
    found.routed()
    found.put(node("y", "10.0.0.0/24"))
    assert len(found.problems("y")[0]) < 200


def test_nothing_that_is_accepted_ever_overlaps_and_nothing_is_refused_without_a_reason() -> None:
    chance = random.Random(12)
    found = NodeClaims(NetworkMode.OVERLAY)
    there: dict[str, Node] = {}
    for _ in range(1500):
        name = f"n{chance.randrange(12)}"
        if name in there and chance.random() < 0.3:
            found.remove(name)
            del there[name]
        else:
            prefix = chance.choice((22, 24, 26, 28))
            value = 0x0A000000 | chance.randrange(1 << 12) >> 32 - prefix << 32 - prefix
            one = Node(name, (Net(4, 0x0A000000 | chance.randrange(1 << 12), 32),), (Net(4, value, prefix),))
            there[name] = one
            found.put(one)
        if chance.random() < 0.5:
            continue
        routed = found.routed()
        assert [one.name for one in routed] == sorted(there)
        held = [(one.name, each) for one in routed for each in one.nets]
        for index, (_, each) in enumerate(held):
            assert not any(each.contains(other) or other.contains(each) for _, other in held[:index])
        for owner in routed:
            for each in {*there[owner.name].pod_cidrs, *there[owner.name].addresses} - set(owner.nets):
                assert any(each.contains(other) or other.contains(each) for _, other in held)


THIEF = node("thief", "", "192.0.2.9 192.0.2.2", OLD)  # older than n2, and claims its address


def test_of_claims_that_came_together_a_proven_one_wins_whatever_its_age() -> None:
    found = claims(N2, THIEF)
    assert what_is_routed(found)["n2"] == ["10.244.2.0/24"]
    found.prove("n2", net("192.0.2.2"))
    assert what_is_routed(found) == {"n2": ["end 192.0.2.2", "10.244.2.0/24", "192.0.2.2"],
                                     "thief": ["end 192.0.2.9", "192.0.2.9"]}  # fmt: skip
    assert found.problems("thief")[0] == "InternalIP 192.0.2.2 is refused: it is that of n2 already"
    assert not found.problems("n2")
    # What both prove is decided by age, in whichever order they do.
    for order in (("n2", "thief"), ("thief", "n2")):
        for older in ("n2", "thief"):
            found = claims(*(one_of(each, OLD if each.name == older else NEW) for each in (N2, THIEF)))
            found.routed()
            for name in order:
                found.prove(name, net("192.0.2.2"))
            assert "192.0.2.2" in what_is_routed(found)[older]


def one_of(made: Node, created: str) -> Node:
    return replace(made, created=created)


def test_a_proof_takes_nothing_from_a_node_that_had_it_first() -> None:
    found = claims(N2)
    found.routed()
    found.put(THIEF)
    before = found.routed()
    found.prove("thief", net("192.0.2.2"))
    assert found.routed() is before and not found.contested


def test_a_proof_of_another_address_or_by_who_does_not_claim_it_counts_for_nothing() -> None:
    found = claims(N2, THIEF)
    before = found.routed()
    for name, address in (("n2", "192.0.2.9"), ("n2", "192.0.2.77"), ("n1", "192.0.2.2"), ("nobody", "192.0.2.2")):
        found.prove(name, net(address))
    assert found.routed() is before


def test_a_contest_ends_when_one_is_left() -> None:
    for end in ("remove", "put"):
        found = claims(N2, THIEF)
        found.routed()
        found.prove("n2", net("192.0.2.2"))
        assert set(found.contested) == {net("192.0.2.2")}
        if end == "remove":
            found.remove("thief")
        else:
            found.put(node("thief", "", "192.0.2.9", OLD))
        assert not found.contested and not found._proven
        assert what_is_routed(found)["n2"] == ["end 192.0.2.2", "10.244.2.0/24", "192.0.2.2"]


def test_whatever_is_claimed_and_proven_nothing_overlaps_and_the_accepted_is_held() -> None:
    chance = random.Random(7)
    names = ["a", "b", "c", "d"]
    for _ in range(60):
        found = claims()
        for _ in range(chance.randrange(4, 30)):
            name = chance.choice(names)
            addresses = " ".join(sorted({f"192.0.2.{chance.randrange(1, 5)}" for _ in range(chance.randrange(1, 3))}))
            match chance.randrange(4):
                case 0:
                    found.prove(name, net(f"192.0.2.{chance.randrange(1, 5)}"))
                case 1:
                    found.remove(name)
                case 2:
                    found.routed()
                case _:
                    found.put(node(name, "", addresses, chance.choice((OLD, NEW))))
        had = [one for each in found.routed() for one in each.addresses]
        claimed = {one for each in found._nodes.values() for one in each.addresses}
        assert len(had) == len(set(had)) and set(had) == claimed
        assert sorted(one.net for one in found._held[4]) == sorted(had)
        assert all(found._holder_of(one).holder == each.name for each in found.routed() for one in each.addresses)  # type: ignore[union-attr]
