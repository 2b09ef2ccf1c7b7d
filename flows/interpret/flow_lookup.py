"""Flow tables that look packets up as OVS does: priorities, masks and conjunctive matches, hashed by sets of masks.

A table refuses what the switch refuses, and also what the switch answers differently from one run to the next. Actions
are not carried out here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from flows.openflow import match_fields as oxm
from flows.openflow.actions import (
    CheckLength,
    Clone,
    Conjunction,
    Ct,
    DecTtl,
    FromPacket,
    Learn,
    Load,
    Meter,
    Move,
    Multipath,
    OutputRegister,
    Pop,
    Push,
    Resubmit,
    SetField,
    ToGroup,
)
from flows.openflow.flow import Flow
from flows.openflow.match import FlowError, Match, masked, match
from flows.openflow.register_bits import Range

FIELDS = (*oxm.ALL_FIELDS, oxm.ND_RESERVED, oxm.ND_OPTIONS_TYPE)  # the last two are only ever written
State = list[int]  # the value of each field, in the order of FIELDS
INDEX = {field.name: number for number, field in enumerate(FIELDS)}
_CONJ_ID = INDEX[oxm.CONJ_ID.name]
_LAST_TABLE = 254
_ETHER = {4: oxm.ETH_IPV4, 6: oxm.ETH_IPV6}
_BEHIND_PORTS = frozenset(
    field.name
    for field in oxm.ALL_FIELDS
    if any(needed in ("ip_proto", "icmpv6_type") for needed, _ in field.needs) or field is oxm.ICMPV6_TYPE
)
Choose = Callable[[list[int]], int]


class Refused(Exception):
    """The switch would refuse this flow, or would not always treat it in the same way."""


class Ambiguous(Exception):
    """Two flows of one priority match a packet and do different things: which one acts is not defined."""


class _Group:
    """The flows of a table that look at the same bits, by the values of these bits."""

    __slots__ = ("by_value", "highest", "masks")

    def __init__(self, masks: tuple[tuple[int, int], ...]) -> None:
        self.masks = masks
        self.by_value: dict[tuple[int, ...], list[Flow]] = {}
        self.highest = -1

    def add(self, flow: Flow) -> None:
        values = {INDEX[term.field.name]: term.value for term in flow.match}
        same = self.by_value.setdefault(tuple(values[index] for index, _ in self.masks), [])
        same[:] = sorted([*(one for one in same if one.priority != flow.priority), flow], key=lambda one: -one.priority)
        self.highest = max(self.highest, flow.priority)

    def find(self, state: State) -> list[Flow] | None:
        return self.by_value.get(tuple([state[index] & mask for index, mask in self.masks]))


class FlowTable:
    """One table. Flows with conjunction actions ("soft") only take part through the conjunctions they belong to."""

    def __init__(self, flows: Iterable[Flow] = ()) -> None:
        self._hard: dict[tuple[tuple[int, int], ...], _Group] = {}
        self._soft: dict[tuple[tuple[int, int], ...], _Group] = {}
        self._hard_order: list[_Group] = []
        self._soft_order: list[_Group] = []
        self._clauses: dict[tuple[int, int], int] = {}
        self._keys: dict[tuple[int, Match], Flow] = {}
        for flow in flows:
            self.add(flow)

    def add(self, flow: Flow, replace: bool = False) -> None:
        """Put a flow in. Raises Refused when one with its priority and match is there, unless `replace` is set."""
        key = flow.priority, flow.match
        if key in self._keys and not replace:
            raise Refused(f"two flows of one table have priority {flow.priority} and match {flow.match}")
        self._keys[key] = flow
        soft = any(isinstance(action, Conjunction) for action in flow.actions)
        if soft:
            self._check_clauses(flow)
        groups, masks = self._soft if soft else self._hard, tuple((INDEX[t.field.name], t.mask) for t in flow.match)
        groups.setdefault(masks, _Group(masks)).add(flow)
        self._hard_order = sorted(self._hard.values(), key=lambda group: -group.highest)
        self._soft_order = sorted(self._soft.values(), key=lambda group: -group.highest)

    @property
    def flows(self) -> list[Flow]:
        """All flows of the table."""
        return list(self._keys.values())

    def __contains__(self, flow: Flow) -> bool:
        return (flow.priority, flow.match) in self._keys

    def _check_clauses(self, flow: Flow) -> None:
        for action in flow.actions:
            if isinstance(action, Conjunction):
                known = self._clauses.setdefault((flow.priority, action.conj_id), action.clauses)
                if known != action.clauses:
                    raise Refused(f"conjunction {action.conj_id} has both {known} and {action.clauses} clauses")

    def lookup(self, state: State, choose: Choose = min) -> Flow | None:
        """The flow that acts on `state`, or None on a miss.

        As classifier_lookup() in OVS: from the highest priority down, a conjunction whose clauses all match stands for
        a second lookup, of the whole table without clauses, with its conj_id. `choose` picks among conjunctions that
        are complete at one priority. Raises Ambiguous.
        """
        hard = self._best(state)
        if not self._soft_order:
            return hard
        least = hard.priority if hard is not None else -1
        by_priority: dict[int, list[Flow]] = {}
        for group in self._soft_order:
            if group.highest < least:
                break
            for flow in group.find(state) or ():
                if flow.priority >= least:
                    by_priority.setdefault(flow.priority, []).append(flow)
        for priority in sorted(by_priority, reverse=True):
            complete = _complete(by_priority[priority])
            if complete:
                found = self._by_conjunction(state, choose(complete))
                if found is not None:
                    if hard is not None and priority == hard.priority and not _same_effect(found, hard):
                        raise Ambiguous(f"a conjunction {complete} and {hard} have one priority")
                    return found
        return hard

    def _by_conjunction(self, state: State, conj_id: int) -> Flow | None:
        state[_CONJ_ID] = conj_id
        try:
            return self._best(state)
        finally:
            state[_CONJ_ID] = 0

    def _best(self, state: State) -> Flow | None:
        best: Flow | None = None
        for group in self._hard_order:
            if best is not None and group.highest < best.priority:
                break
            same = group.find(state)
            if same is None:
                continue
            flow = same[0]
            if best is None or flow.priority > best.priority:
                best = flow
            elif flow.priority == best.priority and not _same_effect(flow, best):
                raise Ambiguous(f"{flow} and {best}")
        return best


def _same_effect(one: Flow, other: Flow) -> bool:
    return one.actions == other.actions and one.goto == other.goto


def _complete(flows: list[Flow]) -> list[int]:
    missing: dict[int, set[int]] = {}
    for flow in flows:
        for action in flow.actions:
            if isinstance(action, Conjunction):
                missing.setdefault(action.conj_id, set(range(1, action.clauses + 1))).discard(action.clause)
    return [conj_id for conj_id, left in missing.items() if not left]


def check_flow(flow: Flow, tables: frozenset[int], groups: Collection[int] = ()) -> None:
    """Raise Refused unless the switch takes this flow; `tables` and `groups` are those that exist."""
    try:
        if match(*(masked(*term) for term in flow.match)) != flow.match:
            raise Refused(f"the terms of {flow.match} are not in order")
    except FlowError as error:
        raise Refused(str(error)) from error
    _check_sight(flow)
    if not 0 <= flow.priority <= 0xFFFF or flow.table not in tables:
        raise Refused(f"priority {flow.priority} or table {flow.table} is not there")
    if flow.goto is not None and (flow.goto <= flow.table or flow.goto not in tables):
        raise Refused(f"table {flow.table} cannot go to table {flow.goto}")
    _check_conjunctions(flow)
    for action in flow.actions:
        if isinstance(action, ToGroup) and action.number not in groups:
            raise Refused(f"there is no group {action.number}")
        _check_action(flow, action, tables)


def _check_sight(flow: Flow) -> None:
    """What a match can see beyond the prerequisites that building it has checked."""
    terms = {term.field.name: term for term in flow.match}
    fragment = terms.get(oxm.IP_FRAG.name)
    if fragment is not None and fragment.value & oxm.Fragment.LATER and not _BEHIND_PORTS.isdisjoint(terms):
        raise Refused("later fragments have no transport header to match")
    if {oxm.CT_TP_SRC.name, oxm.CT_TP_DST.name} & terms.keys() and oxm.CT_NW_PROTO.name not in terms:
        # OVS 3.1 takes it, but the datapath flow it makes of it forgets the port: another port then passes as well.
        raise Refused("ct_tp_src and ct_tp_dst count only beside ct_nw_proto")


def _check_conjunctions(flow: Flow) -> None:
    clauses = [action for action in flow.actions if isinstance(action, Conjunction)]
    if not clauses:
        return
    if len(clauses) < len(flow.actions) or flow.goto is not None:
        raise Refused("conjunction stands only with other conjunctions (ovs-actions(7))")
    if any(term.field is oxm.CONJ_ID for term in flow.match):
        raise Refused("a conjunction's clause cannot match conj_id")
    if len({clause.conj_id for clause in clauses}) < len(clauses):
        raise Refused("a flow belongs to one clause of a conjunction at most")
    for clause in clauses:
        if not 2 <= clause.clauses <= 64 or not 1 <= clause.clause <= clause.clauses:
            raise Refused(f"clause {clause.clause} of {clause.clauses}")


def _check_action(flow: Flow, action: object, tables: frozenset[int]) -> None:
    exact = {term.field.name: term.value for term in flow.match if term.mask == term.field.full_mask}
    ether = exact.get(oxm.ETH_TYPE.name)
    places: tuple[Range, ...] = ()
    match action:
        case Ct(zone, table):
            if ether not in _ETHER.values():
                raise Refused("ct needs a match on ip or ipv6")
            if not 0 <= zone <= 0xFFFF or (table is not None and table not in tables):
                raise Refused(f"ct in zone {zone} to table {table}")
            nat = action.nat
            if nat is not None and nat.kind is not None and (not action.commit or ether != _ETHER[nat.version]):
                raise Refused("a translation needs a commit, and an address of the family of the match")
        case Clone(copied):
            _check_action(flow, copied, tables)
        case DecTtl() if ether not in _ETHER.values():
            raise Refused("dec_ttl needs a match on ip or ipv6")
        case SetField(target, value):
            places = (Range(target, 0, target.width - 1, ""),)
            if not 0 <= value <= target.full_mask:
                raise Refused(f"{value} is wider than {target.name}")
        case Resubmit(table) if table not in tables:
            raise Refused(f"resubmit to unknown table {table}")
        case Learn():
            _check_learn(action, exact, tables)
        case Multipath(_, links, place):
            places = (place,)
            if not 1 <= links <= 1 << place.width:
                raise Refused(f"{links} links do not fit {place.width} bits")
        case Load(place, value):
            places = (place,)
            if value < 0 or value >> place.width:
                raise Refused(f"{value} is wider than {place.width} bits")
        case Move(source, target):
            places = (source, target)
            if source.width != target.width:
                raise Refused("both ends of a move have one width")
        case Meter() if flow.actions[0] is not action:
            raise Refused("a meter is an instruction that comes before all actions")
        case CheckLength(_, place):
            places = (place,)
        case OutputRegister(source) | Push(source):
            places = (source,)
        case Pop(target):
            places = (target,)
    for place in places:
        if any(exact.get(needed) not in values for needed, values in place.register.needs):
            raise Refused(f"{place.register.name} needs a match on what comes before it")
        if not 0 <= place.start <= place.end < place.register.width:
            raise Refused(f"bits {place.start}..{place.end} are not in {place.register.name}")


def _check_learn(action: Learn, exact: dict[str, int], tables: frozenset[int]) -> None:
    """The fields of the packet need terms of the flow that learns, those of the learned flow earlier terms of it."""
    learned: dict[str, int] = {}
    for term in action.terms:
        field = term.learned if isinstance(term, FromPacket) else term.field
        needed = [(field, learned), *([(term.packet, exact)] if isinstance(term, FromPacket) else [])]
        if any(there.get(name) not in values for one, there in needed for name, values in one.needs):
            raise Refused(f"{field.name} cannot be learned where its prerequisites are not known")
        if not isinstance(term, FromPacket):
            learned[field.name] = term.value
    if action.table not in tables:
        raise Refused(f"learn into unknown table {action.table}")


def check_tables(tables: frozenset[int]) -> None:
    """Raise Refused for table numbers that do not exist."""
    if any(not 0 <= table <= _LAST_TABLE for table in tables):
        raise Refused(f"tables are numbered from 0 to {_LAST_TABLE}")
