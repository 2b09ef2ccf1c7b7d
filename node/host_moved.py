"""What belongs to an interface and moves with it to another: addresses, neighbours, routes and rules, in words of `ip`.

Read by `ip -j` where the kernel's flags matter, and in words of `ip` where those can be given back as they are. Words
name the interface by its own name wherever they stand; `renamed` puts another in its place.

What expires is kept without end while it is moved: nobody renews it there, and a node must not lose its address. Its
seconds stay in the words, and count again from when it is given back.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_interface

from node.errors import NodeError
from node.host_programs import run

OPTIONS = ("-4", "-6")
FOR_EVER = 0xFFFFFFFF
_METRIC = 256  # of the route that the kernel adds with an IPv6 address (IP6_RT_PRIO_ADDRCONF)
TEMPORARY = "temporary"  # after an address's words: RFC 8981's, which keeps its end wherever it is
_STATES = ("linkdown", "dead", "onlink,dead", "offload", "rt_offload", "trap", "rt_trap", "[detached]")  # not settings
_KINDS = ("local", "broadcast", "multicast", "anycast", "throw", "unreachable", "prohibit", "blackhole")
_NAMED = ("dev", "iif", "oif", "label")  # what comes before the name of an interface
_ENDS = ("valid_lft", "preferred_lft", "expires")


@dataclass(frozen=True)
class Moved:
    """What was found on an interface: words for `ip addr`, `neigh`, `route` and `rule`; of the last two the family's
    option comes first. In the order in which it must be given."""

    addresses: tuple[str, ...] = ()
    neighbours: tuple[str, ...] = ()
    routes: tuple[tuple[str, ...], ...] = ()
    rules: tuple[tuple[str, ...], ...] = ()

    def family(self, option: str) -> Moved:
        """What is of one family: an item of OPTIONS."""
        return Moved(
            tuple(one for one in self.addresses if (":" in one.split()[0]) == (option == "-6")),
            tuple(one for one in self.neighbours if (":" in one.split()[0]) == (option == "-6")),
            tuple(one for one in self.routes if one[0] == option),
            tuple(one for one in self.rules if one[0] == option),
        )

    def renamed(self, name: str, to: str) -> Moved:
        """The same for another interface."""
        return Moved(
            tuple(" ".join(renamed(one.split(), name, to)) for one in self.addresses),
            self.neighbours,
            tuple(renamed(one, name, to) for one in self.routes),
            tuple(renamed(one, name, to) for one in self.rules),
        )

    def has_own_addresses(self) -> bool:
        """Whether somebody set its addresses: not a router's advertisement alone, which comes without asking."""
        return any(":" not in one.split()[0] or "valid_lft" not in one.split() for one in self.addresses)


def joined(older: Moved, newer: Moved) -> Moved:
    """Both. Of what is twice the newer words, at the older place."""
    return Moved(
        tuple(({key(one): one for one in (*older.addresses, *newer.addresses)}).values()),
        tuple(({one.split()[0]: one for one in (*older.neighbours, *newer.neighbours)}).values()),
        tuple(({_route_key(one): one for one in (*older.routes, *newer.routes)}).values()),
        tuple(dict.fromkeys((*older.rules, *newer.rules))),
    )


def common(these: Moved, others: Moved) -> Moved:
    """Those of `these` that `others` has, too, whatever their settings are."""
    addresses = set(map(key, others.addresses))
    neighbours = {one.split()[0] for one in others.neighbours}
    routes = set(map(_route_key, others.routes))
    return Moved(
        tuple(one for one in these.addresses if key(one) in addresses),
        tuple(one for one in these.neighbours if one.split()[0] in neighbours),
        tuple(one for one in these.routes if _route_key(one) in routes),
        tuple(one for one in these.rules if one in others.rules),
    )


def read(name: str) -> Moved:
    """What is on an interface that is there. Raises NodeError."""
    found = addresses_of(name)
    return Moved(
        tuple(map(_address_words, found)), tuple(_neighbours(name)), tuple(_routes(name, found)), tuple(_rules(name))
    )


def key(address: str) -> str:
    """The words of an address that name it, without its settings."""
    words = address.split()
    return " ".join(words[: 3 if words[1:2] == ["peer"] else 1])


def renamed(words: Sequence[str], name: str, to: str) -> tuple[str, ...]:
    """The words with another interface in place of one."""
    found = list(words)
    for at in range(1, len(found)):
        if found[at - 1] in _NAMED and found[at].partition(":")[0] == name:
            found[at] = to + found[at][len(name) :]
    return tuple(found)


def give_address(address: str, name: str, to: str, with_end: bool) -> None:
    """Give an interface an address that can be used at once: without duplicate address detection, unless that had
    found a duplicate. `with_end`: it expires as it did."""
    words = renamed(address.split(), name, to)
    is_temporary = words[-1] == TEMPORARY
    words = words[:-1] if is_temporary else words
    if not (with_end or is_temporary):
        words = _without_end(words)
    run(["ip", "addr", "replace", *words, "dev", to])


def take_addresses(given: Iterable[str], name: str) -> None:
    """Take addresses from an interface, the last first: with the first of a subnet the kernel takes its others."""
    for address in reversed(list(given)):
        run(["ip", "addr", "del", *key(address).split(), "dev", name])


def give_routes(routes: Sequence[Sequence[str]], name: str, to: str, with_end: bool) -> None:
    """Set routes of `name` on the interface `to`. One that cannot be set does not keep the others back: NodeError
    for it is raised at the end."""
    standing = _routes(to, addresses_of(to))
    seen, refused = [_place(route) for route in standing], None
    for route in routes:
        words = _with_device(renamed(route, name, to), to)
        if _without_end(words) in map(_without_end, standing):
            continue
        # Routers at a time are separate routes to the same place, in IPv6 only.
        verb = "append" if route[0] == "-6" and _place(words) in seen else "replace"
        seen.append(_place(words))
        try:
            given = words if with_end else _without_end(words)
            run(["ip", words[0], "route", verb, *given[1:]])
        except NodeError as error:
            refused = refused or error
    if refused:
        raise refused


def take_routes(name: str) -> None:
    """Take the routes from an interface that the kernel left there when its addresses went."""
    for option, *words in _routes(name, addresses_of(name)):
        run(["ip", option, "route", "del", *_without_end(words)])


def move_neighbours(neighbours: Iterable[str], name: str, to: str) -> None:
    """Set permanent neighbours on the interface `to`, and take those from `name`, which may be gone."""
    old = _neighbours(name) if is_there(name) else []
    for one in neighbours:
        run(["ip", "neigh", "replace", *one.split(), "nud", "permanent", "dev", to])
    for one in old:
        run(["ip", "neigh", "del", one.split()[0], "dev", name])


def move_rules(rules: Sequence[Sequence[str]], name: str, to: str) -> None:
    """Make the rules of `name` those of the interface `to`."""
    standing, old = _rules(to), _rules(name)
    for rule in rules:
        words = renamed(rule, name, to)
        if words not in standing:
            run(["ip", words[0], "rule", "add", *words[1:]])
    for rule in old:
        run(["ip", rule[0], "rule", "del", *rule[1:]])


def is_there(name: str) -> bool:
    """Whether there is an interface of that name. Raises NodeError."""
    return any(one.get("ifname") == name for one in parse(["ip", "-j", "link", "show"]))


def parse(command: list[str]) -> list[dict[str, object]]:
    """The objects that a command of `ip -j` prints. Raises NodeError."""
    try:
        found = json.loads(run(command) or "[]")
    except ValueError as error:
        raise NodeError(f"{' '.join(command)} printed something else than JSON: {error}") from None
    return [one for one in found if isinstance(one, dict) and one]


def addresses_of(name: str) -> list[dict[str, object]]:
    """The addresses as `ip` prints them, in the order in which they must be given: of IPv4 a subnet's first first;
    of IPv6 the kernel lists, and prefers, the newest."""
    found: dict[str, list[dict[str, object]]] = {"inet": [], "inet6": []}
    for link in parse(["ip", "-j", "addr", "show", "dev", name]):
        listed = link.get("addr_info")
        for one in listed if isinstance(listed, list) else []:
            if "local" in one and one.get("scope") != "host" and not _is_kernels(one, str(link.get("address"))):
                found[str(one["family"])].append(one)
    return found["inet"] + found["inet6"][::-1]


def _is_kernels(one: dict[str, object], mac: str) -> bool:
    """Whether it is the link-local IPv6 address that the kernel makes for each interface (RFC 4291, appendix A)."""
    if one["family"] != "inet6" or one.get("scope") != "link":
        return False
    if one.get("stable-privacy") or one.get("protocol") == "kernel_ll":
        return True
    parts = mac.split(":")
    if len(parts) != 6:
        return True
    text = f"{int(parts[0], 16) ^ 2:02x}{parts[1]}:{parts[2]}ff:fe{parts[3]}:{parts[4]}{parts[5]}"
    return ip_interface(f"fe80::{text}").ip == ip_interface(str(one["local"])).ip


def _address_words(one: dict[str, object]) -> str:
    peer = one.get("address")
    length = one["prefixlen"]
    words = [str(one["local"]), "peer", f"{peer}/{length}"] if peer else [f"{one['local']}/{length}"]
    for field in ("broadcast", "scope", "label", "metric"):
        words += [field, str(one[field])] if field in one else []
    words += [flag for flag in ("home", "mngtmpaddr", "noprefixroute", "autojoin") if one.get(flag)]
    if one["family"] == "inet6" and not one.get("dadfailed"):
        words.append("nodad")
    valid, preferred = one.get("valid_life_time", FOR_EVER), one.get("preferred_life_time", FOR_EVER)
    if (valid, preferred) != (FOR_EVER, FOR_EVER):
        texts = ["forever" if end == FOR_EVER else str(end) for end in (valid, preferred)]
        words += ["valid_lft", texts[0], "preferred_lft", texts[1]]
    return " ".join([*words, TEMPORARY] if one.get("temporary") else words)


def _neighbours(name: str) -> list[str]:
    """Those that are set for good."""
    found = []
    for one in parse(["ip", "-j", "neigh", "show", "dev", name, "nud", "permanent"]):
        if "lladdr" in one:
            found.append(f"{one['dst']} lladdr {one['lladdr']}" + (" router" if "router" in one else ""))
    return found


def _routes(name: str, given: Iterable[dict[str, object]]) -> list[tuple[str, ...]]:
    """Routes of all tables through the interface, but those that the kernel adds with an address."""
    own = {_network(one) for one in given if not one.get("noprefixroute")}
    found = []
    for option in OPTIONS:
        for line in run(["ip", option, "-o", "route", "show", "table", "all"]).splitlines():
            words = [word for word in line.replace("\\", " ").split() if word not in _STATES]
            if "expires" in words:  # printed with its unit
                at = words.index("expires") + 1
                words[at] = words[at].removesuffix("sec")
            if "nhid" in words:  # an object beside its content
                at = words.index("nhid")
                del words[at : at + 2]
            is_kernels = "kernel" in words and ((words[0], _metric(words)) in own or words[0].startswith("fe80:"))
            if f"dev {name} " in f"{' '.join(words)} " and words[0] not in _KINDS and not is_kernels:
                found.append((option, *words))
    return sorted(found, key=lambda words: "via" in words)  # what is on the link comes before its use as next hop


def _network(one: dict[str, object]) -> tuple[str, str]:
    """The route that the kernel adds with an address, as `ip` prints it: its destination and its metric."""
    network = ip_interface(f"{one.get('address') or one['local']}/{one['prefixlen']}").network
    text = str(network[0] if network.prefixlen == network.max_prefixlen else network)
    return text, str(one.get("metric", "" if network.version == 4 else _METRIC))


def _metric(words: Sequence[str]) -> str:
    return words[words.index("metric") + 1] if "metric" in words else ""


def _rules(name: str) -> list[tuple[str, ...]]:
    """Rules of routing policy that name the interface."""
    found = []
    for option in OPTIONS:
        for line in run(["ip", option, "rule", "show"]).splitlines():
            preference, _, rest = line.partition(":")
            words = [word for word in rest.split() if word not in _STATES]
            if f"if {name} " in f"{' '.join(words)} ":
                found.append((option, "pref", preference, *words))
    return found


def _with_device(words: tuple[str, ...], name: str) -> tuple[str, ...]:
    """Older versions kept a route without its interface."""
    return words if "dev" in words else (*words, "dev", name)


def _without_end(words: Sequence[str]) -> tuple[str, ...]:
    """Without the seconds of what expires. What is no longer preferred stays so."""
    found = list(words)
    for field in _ENDS:
        if field in found:
            at = found.index(field)
            if not (field == "preferred_lft" and found[at + 1] == "0"):
                del found[at : at + 2]
    return tuple(found)


def _route_key(route: tuple[str, ...]) -> tuple[str, ...]:
    return _place(route) if route[0] == "-4" else _without_end(route)


def _place(route: Sequence[str]) -> tuple[str, ...]:
    """What tells routes apart: family, destination, table and metric."""
    words = list(route)
    return (*words[:2], *(words[words.index(key) + 1] if key in words else "" for key in ("table", "metric", "tos")))
