"""The flows of one bridge that bring DNS to the controller, those that remember what its pods learned, and those that
look at denied packets once more.

They are there for pods that rules with domain names select. Which flows these are is decided in
`flows.render.answers`, `flows.render.name_memory` and `flows.render.second_looks`.
"""

from __future__ import annotations

from collections.abc import Collection

from flows.bridge.state import PodBinding
from flows.cluster.net import Net
from flows.plan.encoder import FlowEncoder
from flows.plan.named_peers import Learned
from flows.plan.pieces import Pieces
from flows.render.answers import DnsServer, render_dns_servers
from flows.render.flow_set import FlowSet
from flows.render.second_looks import render_second_looks
from flows.wire.values import Body, FlowKey


class AnswerFlows:
    """The piece `number` has what all pods share, and the pieces after it, by ofport, those of a pod.

    `ports` are the ofports of pods whose answers are held, `changes` what `take` returns.
    """

    __slots__ = ("_encoder", "_memory", "_number", "_pieces", "_servers", "_userspace", "changes", "ports")

    def __init__(self, pieces: Pieces, encoder: FlowEncoder, number: int, userspace: bool) -> None:
        self._pieces = pieces
        self._encoder = encoder
        self._number = number
        self._userspace = userspace
        self._servers: tuple[DnsServer, ...] | None = None  # None where there are no flows
        self.ports: frozenset[int] = frozenset()
        self._memory: dict[int, dict[Net, FlowKey]] = {}  # by ofport and address
        self.changes: dict[FlowKey, Body | None] = {}

    def hold(self, wanted: Collection[int], servers: tuple[DnsServer, ...] | None) -> None:
        """Answers of these servers to these ports are held; None: this bridge cannot hold any."""
        servers = servers if wanted else None
        ports = frozenset(wanted) if servers is not None else frozenset()
        if (ports, servers) == (self.ports, self._servers):
            return
        for ofport in self.ports - ports:
            self._pieces.drop(self._number + 1 + ofport)
        for ofport in ports - self.ports:
            self._pieces.put(self._number + 1 + ofport, *self._encoder.held_answers(ofport))
        self.ports = ports
        if servers == self._servers:
            return
        self._servers = servers
        if servers is None:
            self._pieces.drop(self._number)
        else:
            flows = FlowSet()
            render_dns_servers(flows, servers, self._userspace)
            render_second_looks(flows)
            self._pieces.put(self._number, *self._encoder.flows(flows))

    def remember(self, pod: PodBinding, learned: Learned, addresses: Collection[Net] | None = None) -> None:
        """The pod at a port learned this. Only `addresses` may differ since the last call; None: any."""
        known = self._memory.setdefault(pod.ofport, {})
        for address in list(known.keys() | learned.keys()) if addresses is None else addresses:
            names = learned.get(address)
            if names is not None:
                known[address], body = self._encoder.memory(pod.ofport, pod.pod, address, names)
                self.changes[known[address]] = body
            elif address in known:
                self.changes[known.pop(address)] = None
        if not known:
            del self._memory[pod.ofport]

    def forget(self, ofport: int) -> None:
        """A port has no pod any more."""
        for key in self._memory.pop(ofport, {}).values():
            self.changes[key] = None

    @property
    def remembers(self) -> bool:
        """Whether there are flows of `remember`."""
        return bool(self._memory)

    def take(self) -> dict[FlowKey, Body | None]:
        """The flows of `remember` that came, went or differ since the last call."""
        found, self.changes = self.changes, {}
        return found
