"""The ports of all Services as every bridge has them: numbered, rendered once for all bridges that have the same.

Theory of operation. `flows.services.index` says which ports changed. Each port has a piece number (see `bridge_plan`)
and a group number, the same on all bridges, and `refresh` returns what bridges must change: pieces and groups that are
gone, and ports that are new or differ. A bridge then asks for each of these ports what it looks like there (`render`).
Where the choice of endpoints does not depend on the node, that is one rendering for all bridges; else one for each
different choice. So a change of an endpoint costs the ports of its Service, once for each bridge.

Example. Slice `shop/web-1` gets an endpoint. `refresh` returns the port 80 of `shop/web`. The first bridge has it
rendered: one flow as before, and a group with one bucket more. All other bridges take the same bytes.

A port that cannot be rendered is left out and told (`refused`): its cluster IP refuses connections.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from flows.cluster.model import Key, Protocol
from flows.cluster.net import Net
from flows.pipeline.group_numbers import GROUP_NUMBER_BITS, group_id
from flows.plan.encoder import EncodedPort, FlowEncoder
from flows.plan.pod_templates import EncodedFlows
from flows.policy.rule_numbers import RuleNumbers
from flows.render.flow_set import FlowSet
from flows.render.service_ports import PortNumbers
from flows.render.services import look_up_address
from flows.services.budget import ServiceBudget
from flows.services.choice import Choice
from flows.services.index import ServiceIndex
from flows.services.served import ServedPort

NUMBER_BITS = GROUP_NUMBER_BITS - 1  # of a port, which has two group numbers
_ANYWHERE = Choice()  # stands for the one choice of a port that all places share


class ServicesError(Exception):
    """Planning these Services, or pods with host ports, raised. The planned ports are of no use any more."""

    def __init__(self, reasons: dict[Key, Exception]) -> None:
        super().__init__(", ".join(map(str, reasons)))
        self.reasons = reasons


class Place(NamedTuple):
    """Where a bridge is: what a choice of endpoints may depend on ("" where it is not known), and its datapath."""

    node: str
    zone: str
    userspace: bool


class PlannedPort:
    """A port of a Service in one family, with its numbers; another object when anything of it differs."""

    __slots__ = ("groups", "identity", "numbers", "piece", "renderings", "served")

    def __init__(self, served: ServedPort, identity: bytes, piece: int, number: int) -> None:
        self.served = served
        self.identity = identity
        self.piece = piece
        self.numbers = group_numbers(number)
        udp = served.port.protocol is Protocol.UDP
        self.groups = group_id(self.numbers.cluster, udp), group_id(self.numbers.local, udp)  # those that it may have
        self.renderings: dict[tuple[Choice, bool], EncodedPort] = {}


class LookedUp(NamedTuple):
    """An external address of Services: its piece number and its flows."""

    piece: int
    flows: EncodedFlows


class ServiceChanges(NamedTuple):
    """What bridges must change, in this order: pieces and groups to drop, addresses and ports to put."""

    pieces_gone: tuple[int, ...] = ()
    groups_gone: tuple[int, ...] = ()
    addresses: tuple[LookedUp, ...] = ()
    ports: tuple[PlannedPort, ...] = ()


def group_numbers(number: int) -> PortNumbers:
    """The numbers of the groups of the port with this number."""
    return PortNumbers(2 * number, 2 * number + 1)


class ClusterServices:
    """All planned ports, as of the last `refresh`."""

    def __init__(self, encoder: FlowEncoder) -> None:
        self._encoder = encoder
        self._budget = ServiceBudget()
        self._numbers = RuleNumbers(NUMBER_BITS)
        self._ports: dict[bytes, PlannedPort] = {}  # by identity
        self._of_service: dict[Key, tuple[bytes, ...]] = {}
        self._by_node: set[bytes] = set()  # ports whose choice depends on the node
        self._addresses: dict[Net, LookedUp] = {}
        self._holders: Counter[Net] = Counter()  # how many ports have an external address
        self._free_pieces: list[int] = []
        self._refused: dict[bytes, str] = {}  # ports that cannot be rendered, and why

    # -- changes -----------------------------------------------------------------------------------------------------

    def refresh(self, index: ServiceIndex) -> ServiceChanges | None:
        """Take what changed in the index. Returns what bridges must change, None where that is nothing. Raises
        ServicesError."""
        changed = index.take_changes()
        if not changed:
            return None
        try:
            return self._plan(index, changed)
        except Exception as error:
            reasons = self._culprits(index, changed)
            if not reasons:
                raise
            raise ServicesError(reasons) from error

    def _culprits(self, index: ServiceIndex, changed: AbstractSet[Key]) -> dict[Key, Exception]:
        """Planning these raised: which of them raises by itself, else which is the first that does beside others."""
        reasons: dict[Key, Exception] = {}
        for key in sorted(changed):
            try:
                ClusterServices(self._encoder)._plan(index, {key})
            except Exception as error:  # noqa: BLE001 - it concerns this Service and no other
                reasons[key] = error
        together = ClusterServices(self._encoder)
        for key in () if reasons else sorted(changed):
            try:
                together._plan(index, {key})
            except Exception as error:  # noqa: BLE001 - as above
                return {key: error}
        return reasons

    def _plan(self, index: ServiceIndex, changed: AbstractSet[Key]) -> ServiceChanges:
        """Take these Services' ports as they are now. After an exception it is between two states."""
        of_service = self._with_room(index, changed)
        new = {name: one for ports in of_service.values() for name, one in ports.items()}
        old = {name: self._ports[name] for key in of_service for name in self._of_service.get(key, ())}
        gone = [one for name, one in old.items() if name not in new]
        wanted = {name: one for name, one in new.items() if name not in old or old[name].served != one}
        renumbered = self._renumber(old.keys() - new.keys(), new.keys() - old.keys())
        wanted.update((one.identity, one.served) for one in renumbered if one.identity not in wanted)
        groups_before = {number for one in (*old.values(), *renumbered) for number in one.groups}
        pieces_gone = [self._remove(one) for one in gone]
        more_gone, addresses = self._count_addresses([one.served for one in old.values()], new.values())
        ports = tuple(self._put(identity, served) for identity, served in wanted.items())
        for key, names in of_service.items():
            self._set_ports_of(key, tuple(names))
        if not self._ports and not self._addresses:
            self._free_pieces.clear()
        kept = {number for name in (*new, *wanted) for number in self._ports[name].groups}
        groups_gone = tuple(sorted(groups_before - kept))
        return ServiceChanges((*pieces_gone, *more_gone), groups_gone, addresses, ports)

    def _with_room(self, index: ServiceIndex, changed: AbstractSet[Key]) -> dict[Key, dict[bytes, ServedPort]]:
        """The ports that the changed Services have, by identity, and those that have room now; none where all together
        are too many."""
        room = self._budget.change({key: sum([port.cost for port in index.ports(key)]) for key in changed})
        keys = [*changed, *room.resumed]
        return {key: {one.identity: one for one in index.ports(key) if key not in room.refused} for key in keys}

    def _renumber(self, gone: AbstractSet[bytes], came: AbstractSet[bytes]) -> list[PlannedPort]:
        """Ports are gone, others came; returns the planned ones that have another number now."""
        for name in sorted(gone):
            self._numbers.remove(name)
        for name in sorted(came):
            self._numbers.add(name)
        renumbered, self._numbers.renumbered = self._numbers.renumbered, set()
        return [self._ports[name] for name in sorted(renumbered & self._ports.keys())]

    def _put(self, identity: bytes, served: ServedPort) -> PlannedPort:
        old = self._ports.get(identity)
        piece = self._new_piece() if old is None else old.piece
        port = self._ports[identity] = PlannedPort(served, identity, piece, self._numbers.number(identity))
        self._refused.pop(identity, None)
        if served.by_node:
            self._by_node.add(identity)
        else:
            self._by_node.discard(identity)
        return port

    def _remove(self, port: PlannedPort) -> int:
        """Forget a port; returns its piece, whose number may be used again."""
        del self._ports[port.identity]
        self._by_node.discard(port.identity)
        self._refused.pop(port.identity, None)
        self._free_pieces.append(port.piece)
        return port.piece

    def _set_ports_of(self, key: Key, identities: tuple[bytes, ...]) -> None:
        if identities:
            self._of_service[key] = identities
        else:
            self._of_service.pop(key, None)

    def _new_piece(self) -> int:
        """A number that no port and no address has."""
        if self._free_pieces:
            return self._free_pieces.pop()
        return len(self._ports) + len(self._addresses)

    def _count_addresses(
        self, before: Iterable[ServedPort], after: Iterable[ServedPort]
    ) -> tuple[list[int], tuple[LookedUp, ...]]:
        """Count the ports that have external addresses; returns the pieces of addresses that are gone, and new ones."""
        holders = self._holders
        counted = Counter(net for one in after for net in one.external_addresses)
        counted.subtract(net for one in before for net in one.external_addresses)
        gone, came = [], []
        for net, more in counted.items():
            holders[net] += more
            if not holders[net]:
                del holders[net]
                if (known := self._addresses.pop(net, None)) is not None:
                    gone.append(known.piece)
                    self._free_pieces.append(known.piece)
            elif net not in self._addresses:
                came.append(net)
        new = []
        for net in came:
            flows = FlowSet()
            look_up_address(flows, net)
            found = self._addresses[net] = LookedUp(self._new_piece(), self._encoder.flows(flows))
            new.append(found)
        return gone, tuple(new)

    # -- questions ---------------------------------------------------------------------------------------------------

    def everything(self) -> ServiceChanges:
        """What a bridge must put that has nothing yet."""
        return ServiceChanges(addresses=tuple(self._addresses.values()), ports=tuple(self._ports.values()))

    def depending_on_node(self) -> ServiceChanges:
        """What a bridge must put again that is at another node now, or in another zone."""
        return ServiceChanges(ports=tuple(self._ports[name] for name in sorted(self._by_node)))

    def render(self, port: PlannedPort, place: Place) -> EncodedPort:
        """A planned port's flows and groups at a place."""
        served = port.served
        userspace = place.userspace
        found = None if served.by_node else port.renderings.get((_ANYWHERE, userspace))
        if found is not None:
            return found
        choice = served.choose(place.node, place.zone)
        shared = choice if served.by_node else _ANYWHERE, userspace
        found = port.renderings.get(shared)
        if found is None:
            found = self._encoder.service_port(served, choice, port.numbers, userspace)
            port.renderings[shared] = found
        return found

    def refuse(self, port: PlannedPort, error: Exception) -> EncodedPort:
        """A port cannot be rendered: tell it. Returns what it has then."""
        reason = f"its flows cannot be made, so nothing reaches it: {type(error).__name__}: {error}"
        self._refused[port.identity] = reason
        return EncodedPort()

    def without_room(self) -> Sequence[Key]:
        """The Services and pods with host ports that are left out, because all together are too many."""
        return self._budget.waiting

    def refused(self) -> Iterator[tuple[ServedPort, str]]:
        """The ports that are left out where their flows cannot be made, and why."""
        return ((self._ports[identity].served, reason) for identity, reason in self._refused.items())
