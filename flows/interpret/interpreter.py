"""A bridge in pure Python: our Flow values carried out on Packet values as Open vSwitch would.

It answers what a rendered set of flows means without a switch; test_interpreter_on_switch holds it to the real one.
It has no clock: nothing times out. Flow lookup stands in `tables`, connection tracking in `tracking`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from flows.interpret.conntrack import Commit, Datapath, Tracked, Tracker
from flows.interpret.flow_lookup import FIELDS, INDEX, Choose, FlowTable, State, check_flow, check_tables
from flows.interpret.frame_encoder import encode
from flows.interpret.packet import Packet
from flows.interpret.rewriting import PORTS, Header, header_in, header_of, set_field, take_hop, with_header
from flows.openflow import match_fields as oxm
from flows.openflow import port_numbers
from flows.openflow.actions import (
    CheckLength,
    Clone,
    Ct,
    DecTtl,
    FromPacket,
    HandOver,
    Learn,
    Load,
    Meter,
    Move,
    Multipath,
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
from flows.openflow.group import Bucket, Group
from flows.openflow.match import exactly, match
from flows.openflow.register_bits import Range
from flows.pipeline import registers
from flows.pipeline.tables import TABLE_NAMES

_MAX_DEPTH = 64
_FRAGMENT_HEADER = 44  # RFC 8200, section 4.5
_REGISTERS = tuple(INDEX[register.name] for register in oxm.REGISTERS)
_CT = tuple(
    INDEX[one.name]
    for one in (oxm.CT_STATE, oxm.CT_ZONE, oxm.CT_MARK, *sorted(oxm.NEED_CT_STATE, key=lambda one: one.number))
)


class TooDeep(Exception):
    """Resubmits or recirculations that never end."""


@dataclass(frozen=True, slots=True)
class Result:
    """What one packet caused: frames sent as (port, packet), the flow hit in each table passed (None is a miss), and,
    where nothing was sent, why."""

    outputs: tuple[tuple[int, Packet], ...]
    hits: tuple[tuple[int, Flow | None], ...]
    reasons: tuple[str, ...]

    @property
    def ports(self) -> tuple[int, ...]:
        """The ports of `outputs`, sorted."""
        return tuple(sorted(port for port, _ in self.outputs))


@dataclass(slots=True)
class _Unit:
    """A packet being processed: what tables see, its frames, the result of conntrack, and the stack."""

    packet: Packet
    frames: tuple[Packet, ...]
    tracked: Tracked | None = None
    zone: int = 0
    known: dict[int, Tracked] = field(default_factory=dict)
    stack: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _Run:
    """What one packet from outside has caused so far."""

    outputs: list[tuple[int, Packet]] = field(default_factory=list)
    hits: list[tuple[int, Flow | None]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    depth: int = 0


@dataclass(frozen=True, slots=True)
class _SendTo:
    port: int
    header: Header


@dataclass(frozen=True, slots=True)
class _TrackAs:
    action: Ct
    registers: tuple[int, ...]
    header: Header
    commit: Commit | None
    copy: bool = False  # the packet itself stays as it was


_Operation = _SendTo | _TrackAs


class Interpreter:
    """One bridge. `tables` are the tables that exist, `ports` the ofports (None: every one).

    Ofports have 32 bits, as in fields.LOCAL_32. `hashed` is the hash by which a packet takes a bucket of a group.
    """

    def __init__(
        self, flows: Iterable[Flow] = (), datapath: Datapath = Datapath.USERSPACE, tables: Iterable[int] | None = None,
        ports: Iterable[int] | None = None, choose: Choose = min, groups: Iterable[Group] = (),
        hashed: Callable[[Packet], int] = lambda _: 0,
    ) -> None:  # fmt: skip
        self.tracker = Tracker(datapath)
        self.learned: dict[int, dict[object, Flow]] = {}
        self._userspace = datapath is Datapath.USERSPACE
        self._known_tables = None if tables is None else frozenset(tables)
        self._ports = None if ports is None else frozenset(ports)
        self._choose = choose
        self._held: dict[tuple[int, int, int, int, int, int], dict[int, _Unit]] = {}
        self._tables: dict[int, FlowTable] = {}
        self._hashed = hashed
        self.replace_flows(flows, groups)

    def replace_flows(self, flows: Iterable[Flow], groups: Iterable[Group] = ()) -> None:
        """Put these flows and groups in the place of all others; connections and learned flows stay. Raises Refused."""
        flows = list(flows)
        self._groups = {group.number: group.buckets for group in groups}
        tables = self._known_tables
        if tables is None:
            tables = frozenset(flow.table for flow in flows) | {0}
        check_tables(tables)
        for flow in flows:
            check_flow(flow, tables, self._groups)
        self._tables = {number: FlowTable() for number in tables}
        for flow in flows:
            self._tables[flow.table].add(flow)
        for number, learned in self.learned.items():
            for flow in learned.values():
                self._tables.setdefault(number, FlowTable()).add(flow, replace=True)

    def receive(self, in_port: int, packet: Packet) -> Result:
        """Let one packet arrive at a port."""
        run = _Run()
        unit = _Unit(packet, (packet,))
        self._process(run, [unit], in_port, 0, (0,) * len(_REGISTERS))
        return Result(tuple(run.outputs), tuple(run.hits), tuple(run.reasons))

    def _process(self, run: _Run, units: list[_Unit], in_port: int, table: int, registers: tuple[int, ...]) -> None:
        for unit in units:
            operations: list[_Operation] = []
            state = _state(unit, in_port, registers)
            self._translate(run, unit, state, table, operations)
            self._carry_out(run, unit, in_port, operations)

    def _translate(self, run: _Run, unit: _Unit, state: State, table: int, operations: list[_Operation]) -> None:
        """Look up and act from `table` on. As in the switch, the packet itself moves only later, by `operations`."""
        run.depth += 1
        if run.depth > _MAX_DEPTH:
            raise TooDeep(f"at table {table}")
        following: int | None = table
        while following is not None:
            flow = self._tables[following].lookup(state, self._choose)
            run.hits.append((following, flow))
            if flow is None:
                run.reasons.append(f"table {TABLE_NAMES.get(following, following)} has no flow for it")
                break
            if not flow.actions and flow.goto is None:
                run.reasons.append(f"table {TABLE_NAMES.get(following, following)} drops it")
            for action in flow.actions:
                if isinstance(action, DecTtl) and not take_hop(state):
                    run.reasons.append("no hop is left")
                    run.depth -= 1
                    return
                self._act(run, unit, state, action, operations)
            following = flow.goto
        run.depth -= 1

    def _act(self, run: _Run, unit: _Unit, state: State, action: object, operations: list[_Operation]) -> None:
        match action:
            case Output(port):
                self._send(run, unit, state, port, operations)
            case OutputRegister(source):
                value = _read(state, source)
                self._send(run, unit, state, value if value < 0xFF00 else 0xFFFF0000 | value, operations)
            case Load(place, value):
                _write(state, place, value)
            case SetField(target, value):
                set_field(state, target, value)
            case Move(source, target):
                _write(state, target, _read(state, source))
            case CheckLength(most, place):
                _write(state, place, int(len(encode(unit.packet)) > most))
            case HandOver():
                run.reasons.append("the controller gets it")
            case Note():
                pass
            case Meter():
                pass  # no time passes here, so nothing is ever too fast
            case Push(source):
                unit.stack.append(_read(state, source))
            case Pop(target):
                _write(state, target, unit.stack.pop())
            case Resubmit(table):
                self._translate(run, unit, state, table, operations)
            case ToGroup(number):
                self._to_group(run, unit, state, number, operations)
            case Ct():
                operations.append(_track_as(action, unit.packet, state))
                for index in _CT:
                    state[index] = 0
            case Clone(copied):
                operations.append(replace(_track_as(copied, unit.packet, state), copy=True))
            case Multipath(_, links, place):
                _write(state, place, self._hashed(unit.packet) % links)
            case Learn():
                self._learn(state, action)

    def _to_group(self, run: _Run, unit: _Unit, state: State, number: int, operations: list[_Operation]) -> None:
        """What a bucket changes ends with the bucket."""
        buckets = self._groups[number]
        if not buckets:
            run.reasons.append(f"group {number} has no bucket")
            return
        before = list(state)
        for action in _choose_bucket(buckets, self._hashed(unit.packet)).actions:
            self._act(run, unit, state, action, operations)
        state[:] = before

    def _send(self, run: _Run, unit: _Unit, state: State, port: int, operations: list[_Operation]) -> None:
        header = header_in(unit.packet, state)
        in_port = state[INDEX[oxm.IN_PORT.name]]
        if port == in_port:
            run.reasons.append("a packet is not sent back to the port it came from")
        elif port == port_numbers.IN_PORT_32:
            operations.append(_SendTo(in_port, header))
        elif port == port_numbers.CONTROLLER_32:
            run.reasons.append("the controller gets a copy")
        elif self._ports is not None and port not in self._ports:
            run.reasons.append(f"there is no port {port}")
        else:
            operations.append(_SendTo(port, header))

    def _learn(self, state: State, action: Learn) -> None:
        terms = [
            exactly(term.learned, state[INDEX[term.packet.name]]) if isinstance(term, FromPacket) else term
            for term in action.terms
        ]
        flow = Flow(action.table, action.priority, match(*terms), action.loads, cookie=action.cookie)
        learned = self.learned.setdefault(action.table, {})
        key = (flow.priority, flow.match)
        if key not in learned and sum(one.cookie == flow.cookie for one in learned.values()) >= action.limit > 0:
            return
        learned[key] = flow
        self._tables[action.table].add(flow, replace=True)

    def _carry_out(self, run: _Run, unit: _Unit, in_port: int, operations: list[_Operation]) -> None:
        units = [unit]
        for operation in operations:
            units = [_changed(one, operation.header) for one in units]
            if isinstance(operation, _SendTo):
                run.outputs += [(operation.port, frame) for one in units for frame in one.frames]
                continue
            tracked = self._track(run, operation, _forked(units) if operation.copy else units, in_port)
            if operation.action.nat is not None and operation is not operations[-1]:
                raise NotImplementedError("what happens to a translated packet after ct, outside its table")
            units = units if operation.copy else tracked

    def _track(self, run: _Run, operation: _TrackAs, units: list[_Unit], in_port: int) -> list[_Unit]:
        action = operation.action
        units = self._reassemble(run, action.zone, units)
        if self._userspace:
            self._track_userspace(operation, units)
        else:
            for one in units:
                one.tracked = self.tracker.track(action.zone, one.packet, operation.commit, one.known)
                one.zone = action.zone
        if action.nat is not None:
            if action.table is None:
                raise NotImplementedError("what happens to a translated packet after ct, outside its table")
            units = [self._translated(action.zone, one) for one in units]
        if action.table is not None:
            run.depth += 1
            if run.depth > _MAX_DEPTH:
                raise TooDeep(f"recirculation to table {action.table}")
            self._process(run, _forked(units), in_port, action.table, operation.registers)
            run.depth -= 1
        return units

    def _track_userspace(self, operation: _TrackAs, units: list[_Unit]) -> None:
        """Fragments of a train are tracked as one packet and share the result."""
        if units:
            first, zone = units[0], operation.action.zone
            tracked = self.tracker.track(zone, first.packet.whole, operation.commit, first.known)
            for one in units:
                one.tracked, one.zone, one.known = tracked, zone, first.known

    def _translated(self, zone: int, unit: _Unit) -> _Unit:
        turned = self.tracker.translate(zone, unit.packet.whole)
        if turned == unit.packet.whole:
            return unit
        return replace(_changed(unit, header_of(turned)), tracked=unit.tracked, zone=zone)

    def _reassemble(self, run: _Run, zone: int, units: list[_Unit]) -> list[_Unit]:
        """Hold fragments back until their train is complete; it then goes on along the way of the last to come.

        The kernel goes on with the whole packet, userspace with each fragment by itself.
        """
        passing: list[_Unit] = []
        for unit in units:
            packet = unit.packet
            if packet.pieces == 1:
                passing.append(unit)
                continue
            key = (zone, packet.version, packet.source, packet.target, packet.proto, packet.train)
            train = self._held.setdefault(key, {})
            train[packet.position] = unit
            if len(train) < packet.pieces:
                run.reasons.append("held back until its other fragments come")
                continue
            del self._held[key]
            complete = [train[position] for position in range(packet.pieces)]
            if self._userspace:
                passing += complete
            else:
                frames = tuple(one.packet for one in complete)
                passing.append(_Unit(packet.whole, frames))
        return passing


def _track_as(action: Ct, packet: Packet, state: State) -> _TrackAs:
    registers = tuple(state[index] for index in _REGISTERS)
    return _TrackAs(action, registers, header_in(packet, state), _commit(action, state))


def _forked(units: list[_Unit]) -> list[_Unit]:
    return [_Unit(one.packet, one.frames, one.tracked, one.zone, dict(one.known)) for one in units]


def _choose_bucket(buckets: tuple[Bucket, ...], hashed: int) -> Bucket:
    """Each bucket has as many of the numbers below the sum of weights as its weight."""
    left = hashed % sum(bucket.weight for bucket in buckets)
    for bucket in buckets:
        left -= bucket.weight
        if left < 0:
            return bucket
    raise AssertionError("a number below the sum of weights is some bucket's")


def _commit(action: Ct, state: State) -> Commit | None:
    """What the action commits, with the register bits as they are now."""
    if not action.commit:
        return None
    mark = mask = registers.RECORDED.mask
    for one in action.marks:
        place, value = (one.place, one.value) if isinstance(one, Load) else (one.target, _read(state, one.source))
        mark, mask = mark & ~place.mask | place.place(value), mask | place.mask
    return Commit(mark, mask, action.nat, action.force)


def _read(state: State, place: Range) -> int:
    return (state[INDEX[place.register.name]] & place.mask) >> place.start


def _write(state: State, place: Range, value: int) -> None:
    index = INDEX[place.register.name]
    state[index] = state[index] & ~place.mask | value << place.start


def _changed(unit: _Unit, header: Header) -> _Unit:
    """The unit with this header. With other addresses or ports earlier results of conntrack are dropped."""
    packet = unit.packet
    found = header_of(packet)
    if header == found:
        return unit
    if packet.fragment and header.ends != found.ends:
        # The kernel's conntrack gives out whole packets, and their fragments follow; in userspace no flow does this.
        raise NotImplementedError("a fragment by itself with other addresses")
    known = unit.known if header.ends == found.ends else {}
    frames = tuple(with_header(one, header, found) for one in unit.frames)
    return replace(unit, packet=with_header(packet, header, found), frames=frames, known=known)


def _state(unit: _Unit, in_port: int, registers: tuple[int, ...]) -> State:
    state = [0] * len(FIELDS)
    for name, value in packet_fields(unit.packet).items():
        state[INDEX[name]] = value
    state[INDEX["in_port"]] = in_port
    for index, value in zip(_REGISTERS, registers, strict=True):
        state[index] = value
    tracked = unit.tracked
    if tracked is not None:
        state[INDEX["ct_state"]] = tracked.state
        state[INDEX["ct_zone"]], state[INDEX["ct_mark"]] = unit.zone, tracked.mark
        if tracked.original is not None:
            source, target = ("ct_nw_src", "ct_nw_dst") if unit.packet.version == 4 else ("ct_ipv6_src", "ct_ipv6_dst")
            state[INDEX["ct_nw_proto"]] = tracked.original.proto
            state[INDEX[source]], state[INDEX[target]] = tracked.original.source, tracked.original.target
            if not unit.packet.fragment & oxm.Fragment.LATER:
                state[INDEX["ct_tp_src"]] = tracked.original.sport
                state[INDEX["ct_tp_dst"]] = tracked.original.dport
    return state


def packet_fields(packet: Packet) -> dict[str, int]:
    """The fields that a packet itself has, by name; what is missing is zero.

    A later fragment of IPv6 shows the fragment header as its protocol, since only the first tells what follows it.
    Of every fragment, the first one too, the switch takes ports and ICMP type to be zero (set-frags in ovs-ofctl(8)).
    """
    values = {"eth_src": packet.eth_src, "eth_dst": packet.eth_dst, "eth_type": packet.eth_type}
    for end, names in (
        (packet.tunnel_from, ("tun_src", "tun_ipv6_src")),
        (packet.tunnel_to, ("tun_dst", "tun_ipv6_dst")),
    ):
        if end is not None:
            values[names[end.version == 6]] = end.value
    if packet.vlan is not None:
        values["vlan_vid"] = oxm.VLAN_PRESENT | packet.vlan
    if packet.eth_type == oxm.ETH_ARP:
        values |= {"arp_op": packet.arp_op, "arp_spa": packet.source, "arp_tpa": packet.target}
        values |= {"arp_sha": packet.arp_sha, "arp_tha": packet.arp_tha}
    if not packet.version:
        return values
    family = f"ipv{packet.version}"
    values |= {f"{family}_src": packet.source, f"{family}_dst": packet.target, "ip_proto": packet.proto}
    values["ip_frag"], values["ip_ttl"] = packet.fragment, packet.hops
    if packet.version == 6 and packet.fragment & oxm.Fragment.LATER:
        values["ip_proto"] = _FRAGMENT_HEADER
    if packet.fragment:
        return values
    if packet.proto in PORTS:
        source, target = PORTS[packet.proto]
        values |= {source: packet.sport, target: packet.dport}
    if packet.proto == oxm.IP_PROTO_TCP:
        values["tcp_flags"] = packet.flags
    if packet.version == 6 and packet.is_icmp:
        values |= {"icmpv6_type": packet.sport, "icmpv6_code": packet.dport}
        if packet.sport in (135, 136) and not packet.dport:
            values |= {"nd_target": packet.nd_target, "nd_reserved": packet.nd_flags}
            values["nd_sll" if packet.sport == 135 else "nd_tll"] = packet.nd_link or 0
    return values
