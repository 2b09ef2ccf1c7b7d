"""Parses the external_ids of bridges and interfaces: pods, addresses and MAC addresses, as untrusted text."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from flows.cluster.model import Key
from flows.cluster.net import Net, host_address_error, parse_address
from flows.cluster.tuples import new_tuple

NODE_ADDRESSES_KEY = "headgate-node-addresses"  # external_ids key of a Bridge: more addresses of its node
MAX_NODE_ADDRESSES = 64  # that are used; the rest is a problem


@lru_cache(1 << 10)
def parse_node_addresses(text: str) -> tuple[tuple[Net, ...], str]:
    """The addresses in the value of `headgate-node-addresses`, and the first problem of it; "" where there is none."""
    words = text.replace(",", " ").split()
    found, problem = dict[Net, None](), ""
    for word in words[:MAX_NODE_ADDRESSES]:
        try:
            net = parse_address(word.partition("/")[0])
        except ValueError as error:
            problem = problem or str(error)
            continue
        refused = host_address_error(net)
        problem = problem or refused
        if not refused:
            found[net] = None
    if len(words) > MAX_NODE_ADDRESSES:
        problem = problem or f"{len(words)} addresses, of which the first {MAX_NODE_ADDRESSES} count"
    return tuple(found), f"external_ids:{NODE_ADDRESSES_KEY} of the bridge: {problem}" if problem else ""


def pod_of_interface(external_ids: Mapping[str, str]) -> Key | None:
    """The pod that an interface names: in `pod-namespace` and `pod-name`, or in `iface-id` as namespace/pod or
    namespace_pod. None where it names none."""
    namespace = external_ids.get("pod-namespace")
    if namespace and (name := external_ids.get("pod-name")):
        return new_tuple(Key, (namespace, name))
    identity = external_ids.get("iface-id", "")
    for separator in "/_":
        namespace, found, name = identity.partition(separator)
        if found and namespace and name:
            return new_tuple(Key, (namespace, name))
    return None


def parse_port_addresses(external_ids: Mapping[str, str]) -> tuple[Net, ...]:
    """The addresses in `ip_addresses` or `ip-address`, with or without prefix length. Raises ValueError for
    anything else."""
    text = external_ids.get("ip_addresses") or external_ids.get("ip-address") or ""
    if not text:
        return ()
    words = text.replace(",", " ").split()
    return tuple(dict.fromkeys(parse_address(word.partition("/")[0]) for word in words))


def parse_unicast_mac(text: str) -> int | None:
    """A unicast MAC address as an integer, None for anything else."""
    digits = text.replace(":", "")
    # Without a regular expression, which takes as long as all else that is read of a port.
    if len(text) != 17 or len(digits) != 12 or text[2::3] != ":::::" or not (digits.isascii() and digits.isalnum()):
        return None
    try:
        number = int(digits, 16)
    except ValueError:
        return None
    return number if number and not number >> 40 & 1 else None
