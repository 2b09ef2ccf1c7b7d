"""Flows as text, as `ovs-ofctl --names dump-flows` prints them.

For `headgate flows`, log lines, and tests that pass flows to ovs-ofctl. Nothing is parsed from text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType

from flows.cluster.net import address_text
from flows.openflow import match_fields as oxm
from flows.openflow import port_numbers, register_bits
from flows.openflow.actions import (
    Action,
    CheckLength,
    Clone,
    Conjunction,
    Ct,
    DecTtl,
    FromPacket,
    HandOver,
    Learn,
    Load,
    Meter,
    Move,
    Multipath,
    Nat,
    Note,
    Output,
    OutputRegister,
    Pop,
    Push,
    Resubmit,
    SetField,
    ToGroup,
)
from flows.openflow.flow import Flow
from flows.openflow.group import Group
from flows.openflow.match import Match, Term
from flows.pipeline import registers

Names = Mapping[int, str]
NO_NAMES: Names = MappingProxyType({})

# ovs-ofctl(8): keywords for an Ethernet type, and for an Ethernet type with an IP protocol.
_TYPE_WORDS = {oxm.ETH_IPV4: "ip", oxm.ETH_IPV6: "ipv6", oxm.ETH_ARP: "arp"}
_PROTOCOL_WORDS = {
    (oxm.ETH_IPV4, oxm.IP_PROTO_ICMP): "icmp", (oxm.ETH_IPV6, oxm.IP_PROTO_ICMPV6): "icmp6",
    (oxm.ETH_IPV4, oxm.IP_PROTO_TCP): "tcp", (oxm.ETH_IPV6, oxm.IP_PROTO_TCP): "tcp6",
    (oxm.ETH_IPV4, oxm.IP_PROTO_UDP): "udp", (oxm.ETH_IPV6, oxm.IP_PROTO_UDP): "udp6",
    (oxm.ETH_IPV4, oxm.IP_PROTO_SCTP): "sctp", (oxm.ETH_IPV6, oxm.IP_PROTO_SCTP): "sctp6",
}  # fmt: skip
_FRAGMENT_WORDS = {(0, 3): "no", (1, 1): "yes", (1, 3): "first", (3, 3): "later", (2, 2): "later", (0, 2): "not_later"}
_PORT_WORDS = {
    port_numbers.LOCAL_32: "LOCAL", port_numbers.IN_PORT_32: "IN_PORT", 0xFFFFFFF9: "TABLE", 0xFFFFFFFA: "NORMAL",
    0xFFFFFFFB: "FLOOD", 0xFFFFFFFC: "ALL", 0xFFFFFFFD: "CONTROLLER",
}  # fmt: skip
_FIELD_WORDS = {
    "eth_src": "dl_src", "eth_dst": "dl_dst", "ipv4_src": "nw_src", "ipv4_dst": "nw_dst", "ip_frag": "nw_frag",
    "ip_ttl": "nw_ttl", "icmpv6_type": "icmp_type", "icmpv6_code": "icmp_code", "sctp_src": "tp_src",
    "sctp_dst": "tp_dst", "tcp_src": "tp_src", "tcp_dst": "tp_dst", "udp_src": "tp_src", "udp_dst": "tp_dst",
}  # fmt: skip
# The order in which the switch prints. None is the place of the keywords for Ethernet type and protocol.
_PRINT_ORDER = (
    oxm.PKT_MARK,
    oxm.CONJ_ID, oxm.CT_STATE, oxm.CT_ZONE, oxm.CT_MARK, oxm.CT_NW_SRC, oxm.CT_IPV6_SRC, oxm.CT_NW_DST, oxm.CT_IPV6_DST,
    oxm.CT_NW_PROTO, oxm.CT_TP_SRC, oxm.CT_TP_DST, None, *oxm.REGISTERS,
    oxm.TUN_SRC, oxm.TUN_DST, oxm.TUN_IPV6_SRC, oxm.TUN_IPV6_DST, oxm.IN_PORT, oxm.VLAN_VID, oxm.ETH_SRC,
    oxm.ETH_DST, oxm.IPV6_SRC, oxm.IPV6_DST, oxm.IPV4_SRC, oxm.IPV4_DST, oxm.ARP_SPA, oxm.ARP_TPA, oxm.ARP_OP,
    oxm.ARP_SHA, oxm.ARP_THA, oxm.IP_TTL, oxm.IP_FRAG, oxm.TCP_SRC, oxm.TCP_DST, oxm.UDP_SRC, oxm.UDP_DST, oxm.SCTP_SRC,
    oxm.SCTP_DST, oxm.TCP_FLAGS, oxm.ICMPV6_TYPE, oxm.ICMPV6_CODE, oxm.ND_TARGET, oxm.ND_SLL, oxm.ND_TLL,
)  # fmt: skip


def format_flow(flow: Flow, tables: Names = NO_NAMES, ports: Names = NO_NAMES) -> str:
    """A whole flow: `cookie=…, table=…, priority=…,match actions=…`. `tables` and `ports` name
    tables and ports; others stay numbers."""
    cookie = f"cookie={flow.cookie:#x}, " if flow.cookie else ""
    parts = [f"priority={flow.priority}"]
    if flow.match:
        parts.append(format_match(flow.match, ports))
    actions = format_actions(flow.actions, flow.goto, tables, ports)
    return f"{cookie}table={_name(flow.table, tables)}, {','.join(parts)} actions={actions}"


def format_group(group: Group, tables: Names = NO_NAMES, ports: Names = NO_NAMES) -> str:
    """A whole group: `group_id=…,type=select,bucket=…`, as ovs-ofctl takes it."""
    parts = [f"group_id={group.number}", "type=select"]
    for bucket in group.buckets:
        parts.append(f"bucket=weight:{bucket.weight},actions={format_actions(bucket.actions, None, tables, ports)}")
    return ",".join(parts)


def format_match(match: Match, ports: Names = NO_NAMES) -> str:
    """The terms of a match, comma separated; empty for the empty match."""
    by_name = {term.field.name: term for term in match}
    parts: list[str] = []
    for field in _PRINT_ORDER:
        if field is None:
            parts += _type_words(by_name)
        elif field.name in by_name:
            parts.append(_term(by_name[field.name], ports))
    return ",".join(parts)


def format_actions(
    actions: tuple[Action, ...], goto: int | None = None, tables: Names = NO_NAMES, ports: Names = NO_NAMES
) -> str:
    """Actions and goto, comma separated; `drop` where there are none."""
    parts = [_action(action, tables, ports) for action in actions]
    if goto is not None:
        parts.append(f"goto_table:{_name(goto, tables)}")
    return ",".join(parts) or "drop"


def quoted(name: str) -> str:
    """A name of a port or table as ovs-ofctl prints and reads it: in quotes where it has other characters than ASCII
    letters and digits, or begins with another than a letter."""
    plain = name.isascii() and name.isalnum() and name[0].isalpha()
    return name if plain else json.dumps(name, ensure_ascii=False)


def _name(number: int, names: Names) -> str:
    name = names.get(number)
    return quoted(name) if name is not None else str(number)


def _port(number: int, ports: Names) -> str:
    return _PORT_WORDS.get(number) or _name(number, ports)


def _type_words(by_name: Mapping[str, Term]) -> list[str]:
    ether = by_name.get(oxm.ETH_TYPE.name)
    if ether is None:
        return []
    protocol = by_name.get(oxm.IP_PROTO.name)
    if protocol is not None and (ether.value, protocol.value) in _PROTOCOL_WORDS:
        return [_PROTOCOL_WORDS[ether.value, protocol.value]]
    words = [_TYPE_WORDS.get(ether.value, f"dl_type={ether.value:#06x}")]
    if protocol is not None:
        words.append(f"nw_proto={protocol.value}")
    return words


def _term(term: Term, ports: Names) -> str:
    if term.field is oxm.VLAN_VID:
        return _vlan(term)
    name = _FIELD_WORDS.get(term.field.name, term.field.name)
    kind = term.field.kind
    if kind is oxm.FieldKind.PORT:
        return f"{name}={_port(term.value, ports)}"
    if kind is oxm.FieldKind.CT_STATE:
        return f"{name}={_ct_state(term)}"
    if kind is oxm.FieldKind.TCP_FLAGS:
        return f"{name}={_tcp_flags(term)}"
    if kind is oxm.FieldKind.FRAGMENT:
        word = _FRAGMENT_WORDS.get((term.value, term.mask & 3))
        return f"{name}={word or f'{term.value:#x}/{term.mask:#x}'}"
    return f"{name}={_value(term)}"


def _value(term: Term) -> str:
    kind, exact = term.field.kind, term.mask == term.field.full_mask
    if kind is oxm.FieldKind.MAC:
        return _mac(term.value) if exact else f"{_mac(term.value)}/{_mac(term.mask)}"
    if kind in (oxm.FieldKind.IPV4, oxm.FieldKind.IPV6):
        version = 4 if kind is oxm.FieldKind.IPV4 else 6
        address = address_text(version, term.value)
        if exact:
            return address
        zeros = (term.mask & -term.mask).bit_length() - 1
        if term.mask >> zeros == (1 << term.field.width - zeros) - 1:
            return f"{address}/{term.field.width - zeros}"
        return f"{address}/{address_text(version, term.mask)}"
    if kind is oxm.FieldKind.HEX:
        return _hex(term.value) if exact else f"{_hex(term.value)}/{_hex(term.mask)}"
    return str(term.value) if exact else f"{term.value:#x}/{term.mask:#x}"


def _hex(value: int) -> str:
    """As C's `%#x`, which prints 0 without a prefix."""
    return f"{value:#x}" if value else "0"


def _vlan(term: Term) -> str:
    if term.mask == term.field.full_mask and term.value & oxm.VLAN_PRESENT:
        return f"dl_vlan={term.value & ~oxm.VLAN_PRESENT}"
    return f"vlan_tci={term.value:#06x}/{term.mask:#06x}"


def _ct_state(term: Term) -> str:
    return "".join(
        ("+" if term.value & flag else "-") + str(flag.name).lower() for flag in oxm.CtState if term.mask & flag
    )


def _tcp_flags(term: Term) -> str:
    if term.mask == term.field.full_mask:
        return "|".join(str(flag.name).lower() for flag in oxm.TcpFlags if term.value & flag) or "0"
    return "".join(
        ("+" if term.value & flag else "-") + str(flag.name).lower() for flag in oxm.TcpFlags if term.mask & flag
    )


def _mac(value: int) -> str:
    return value.to_bytes(6, "big").hex(":")


# The names of packet fields in actions (ovs-actions(7)).
_HEADERS = {
    "ipv4_src": "NXM_OF_IP_SRC", "ipv4_dst": "NXM_OF_IP_DST", "ipv6_src": "NXM_NX_IPV6_SRC",
    "ipv6_dst": "NXM_NX_IPV6_DST", "tcp_src": "NXM_OF_TCP_SRC", "tcp_dst": "NXM_OF_TCP_DST",
    "udp_src": "NXM_OF_UDP_SRC", "udp_dst": "NXM_OF_UDP_DST", "sctp_src": "OXM_OF_SCTP_SRC",
    "sctp_dst": "OXM_OF_SCTP_DST", "eth_src": "NXM_OF_ETH_SRC", "eth_dst": "NXM_OF_ETH_DST",
    "arp_spa": "NXM_OF_ARP_SPA", "arp_tpa": "NXM_OF_ARP_TPA",
}  # fmt: skip


def _bits(place: register_bits.Range) -> str:
    bits = f"{place.start}..{place.end}" if place.width > 1 else f"{place.start}"
    name = _HEADERS.get(place.register.name, f"NXM_NX_{place.register.name.upper()}")
    return f"{name}[{'' if place.width == place.register.width else bits}]"


def _action(action: Action, tables: Names, ports: Names) -> str:
    match action:
        case Output(port):
            word = _port(port, ports)
            if port == port_numbers.CONTROLLER_32:
                return f"CONTROLLER:{registers.COPIED_BYTES}"
            return word if port in _PORT_WORDS else f"output:{word}"
        case HandOver():
            return "CONTROLLER:65535"
        case Note(data):
            return f"note:{(data + bytes(-(len(data) + 10) % 8)).hex('.')}"
        case OutputRegister(source):
            return f"output:{_bits(source)}"
        case Load(place, value):
            return f"load:{_hex(value)}->{_bits(place)}"
        case Move(source, target):
            return f"move:{_bits(source)}->{_bits(target)}"
        case SetField(field, value):
            return f"set_field:{_value(Term(field, value, field.full_mask))}->{field.name}"
        case DecTtl():
            return "dec_ttl"
        case Push(source):
            return f"push:{_bits(source)}"
        case Pop(target):
            return f"pop:{_bits(target)}"
        case Ct():
            return _ct(action, tables, ports)
        case Clone(copied):
            return f"clone({_ct(copied, tables, ports)})"
        case ToGroup(number):
            return f"group:{number}"
        case Meter(number):
            return f"meter:{number}"
        case CheckLength(limit, place):
            return f"check_pkt_larger({limit})->{_bits(place)}"
        case Resubmit(table):
            return f"resubmit(,{_name(table, tables)})"
        case Conjunction(conj_id, clause, clauses):
            return f"conjunction({conj_id},{clause}/{clauses})"
        case Multipath(basis, links, place):
            return f"multipath(symmetric_l3l4+udp,{basis},modulo_n,{links},0,{_bits(place)})"
        case Learn():
            return _learn(action, tables)


def _ct(action: Ct, tables: Names, ports: Names) -> str:
    words = ["commit"] if action.commit else []
    words += ["force"] if action.force else []
    words += [f"table={_name(action.table, tables)}"] if action.table is not None else []
    words.append(f"zone={action.zone}")
    words += [_nat(action.nat)] if action.nat is not None else []
    marks = [_action(mark, tables, ports) for mark in (Load(registers.RECORDED, 1), *action.marks)]
    words += [f"exec({','.join(marks)})"] if action.commit else []
    return f"ct({','.join(words)})"


def _nat(nat: Nat) -> str:
    if nat.kind is None:
        return "nat"
    address = address_text(nat.version, nat.address)
    if nat.port is not None:
        address = f"[{address}]:{nat.port}" if nat.version == 6 else f"{address}:{nat.port}"
    return f"nat({nat.kind.value}={address})"


def _learn(action: Learn, tables: Names) -> str:
    words = [f"table={_name(action.table, tables)}", f"idle_timeout={action.idle_timeout}",
             f"priority={action.priority}", f"cookie={action.cookie:#x}", f"limit={action.limit}"]  # fmt: skip
    for term in action.terms:
        if isinstance(term, FromPacket):
            learned, packet = (_bits(register_bits.Range(field, 0, field.width - 1, "")) for field in term)
            words.append(learned if learned == packet else f"{learned}={packet}")
        else:
            words.append(f"nw_proto={term.value}" if term.field is oxm.IP_PROTO else _term(term, NO_NAMES))
    words += [f"load:{load.value:#x}->{_bits(load.place)}" for load in action.loads]
    return f"learn({','.join(words)})"
