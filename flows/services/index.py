"""The ports of all Services with their frontends and backends, kept as Services and slices change.

A change costs the endpoints of the Services that it touches: one slice changes, and only its Service is merged again,
as far as its slices count (`endpoints.countable`).
Which of the backends a node uses is decided in `choice`, for each node; `reference` computes the same from nothing.

Example. Service `shop/web` has the cluster IP 10.96.0.5 and two slices. `put_slice` with a new endpoint in one of them
marks `shop/web`; `take_changes` merges its two slices and returns `{shop/web}`, whose `ports` now have that endpoint.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping

from flows.cluster.model import EndpointSlice, Key, Pod, Protocol, Service
from flows.cluster.net import Net
from flows.services import limits
from flows.services.endpoints import countable
from flows.services.frontends import Claim, Frontend, claims_of, host_port_key
from flows.services.host_ports import has_host_ports, host_port_claims, serve_host_ports
from flows.services.other_nodes import nodes_that_matter, serve_at_nodes
from flows.services.served import ServedPort, serve

Claims = Mapping[Frontend, Claim]


class ServiceIndex:
    """`problems` has, by Service, what the operator must know: frontends of stronger claims, endpoints left out.

    `sctp` are those with ports of SCTP, which only the kernel's datapath translates.
    """

    def __init__(self, at_other_nodes: bool = True) -> None:
        """`at_other_nodes`: switches translate what is for the node ports of other nodes, see `other_nodes`."""
        self._at_other_nodes = at_other_nodes
        self.problems: dict[Key, tuple[str, ...]] = {}
        self.sctp: set[Key] = set()
        self._services: dict[Key, Service] = {}
        self._pods: dict[Key, Pod] = {}  # with host ports, by the key that stands for them
        self._pods_on: dict[str, set[Key]] = {}  # their keys by node
        self._node_addresses: Mapping[str, tuple[Net, ...]] = {}
        self._nodes_of: dict[Key, frozenset[str]] = {}  # of Services: on whose addresses their ports depend
        self._at_node: dict[str, set[Key]] = {}  # the other way round
        self._slices: dict[Key, dict[Key, EndpointSlice]] = {}  # by the key of the Service, then by their own
        self._order: dict[Key, list[Key]] = {}  # their keys, sorted
        self._service_of: dict[Key, Key] = {}  # of slices
        self._claims: dict[Frontend, list[Claim]] = {}  # sorted; the first has the frontend
        self._ports: dict[Key, tuple[ServedPort, ...]] = {}
        self._stale: set[Key] = set()

    def __iter__(self) -> Iterator[Key]:
        """The Services that have ports, as of the last `take_changes`."""
        return iter(self._ports)

    def ports(self, key: Key) -> tuple[ServedPort, ...]:
        """The ports of a Service as of the last `take_changes`; none for one without translation."""
        return self._ports.get(key, ())

    def put_service(self, key: Key, service: Service | None) -> None:
        """A Service is new or has changed, or is gone (None)."""
        before = self._services.pop(key, None)
        if service is not None:
            self._services[key] = service
        self._claim_anew(key, _claims(before), _claims(service))

    def _claim_anew(self, key: Key, before: Claims, after: Claims) -> None:
        """An object's claims are these now."""
        for frontend, claim in before.items():
            if after.get(frontend) != claim:
                self._release(frontend, claim)
        for frontend, claim in after.items():
            if before.get(frontend) != claim:
                self._claim(frontend, claim)
        self._stale.add(key)

    def set_node_addresses(self, addresses: Mapping[str, tuple[Net, ...]]) -> None:
        """The addresses of all nodes that there are."""
        before, self._node_addresses = self._node_addresses, addresses
        if before is addresses:
            return
        for node, keys in self._pods_on.items():
            if before.get(node, ()) != addresses.get(node, ()):
                for key in keys:
                    pod = self._pods[key]
                    self._claim_anew(key, _pod_claims(pod, before), _pod_claims(pod, addresses))
        for node, keys in self._at_node.items():
            if before.get(node, ()) != addresses.get(node, ()):
                self._stale |= keys

    def put_pod(self, key: Key, pod: Pod | None) -> None:
        """A pod is new or has changed, with the addresses that count, or is gone (None)."""
        key = host_port_key(key)
        pod = pod if has_host_ports(pod) else None
        before = self._pods.pop(key, None)
        if before is not None:
            there = self._pods_on[before.node]
            there.discard(key)
            if not there:
                del self._pods_on[before.node]
        if pod is not None:
            self._pods[key] = pod
            self._pods_on.setdefault(pod.node, set()).add(key)
        if before is not None or pod is not None:
            addresses = self._node_addresses
            self._claim_anew(key, _pod_claims(before, addresses), _pod_claims(pod, addresses))

    def put_slice(self, key: Key, found: EndpointSlice | None) -> None:
        """A slice is new or has changed, or is gone (None)."""
        before = self._service_of.pop(key, None)
        if before is not None:
            slices, order = self._slices[before], self._order[before]
            del slices[key]
            del order[bisect_left(order, key)]
            if not slices:
                del self._slices[before], self._order[before]
            self._stale.add(before)
        if found is None or not found.service or not found.proxied:
            return
        service = Key(key.namespace, found.service)
        self._service_of[key] = service
        self._slices.setdefault(service, {})[key] = found
        insort(self._order.setdefault(service, []), key)
        self._stale.add(service)

    @property
    def changed(self) -> bool:
        """Whether `take_changes` may have something to return."""
        return bool(self._stale)

    def take_changes(self) -> set[Key]:
        """The Services whose ports differ since the last call."""
        changed = set()
        for key in self._stale:
            try:
                ports = self._serve(key)
            except Exception as error:  # noqa: BLE001 - it concerns this Service and no other
                ports = ()
                reason = f"its ports cannot be worked out, so it has none: {type(error).__name__}: {error}"
                self.problems[key] = (reason,)
            if any(one.port.protocol is Protocol.SCTP for one in ports):
                self.sctp.add(key)
            else:
                self.sctp.discard(key)
            if ports == self._ports.get(key, ()):
                continue
            changed.add(key)
            if ports:
                self._ports[key] = ports
            else:
                del self._ports[key]
        self._stale.clear()
        return changed

    # -- frontends ---------------------------------------------------------------------------------------------------

    def _claim(self, frontend: Frontend, claim: Claim) -> None:
        claims = self._claims.setdefault(frontend, [])
        insort(claims, claim)
        self._stale.update(one.service for one in claims[:2])

    def _release(self, frontend: Frontend, claim: Claim) -> None:
        claims = self._claims[frontend]
        claims.remove(claim)
        if claims:
            self._stale.add(claims[0].service)
        else:
            del self._claims[frontend]

    # -- ports -------------------------------------------------------------------------------------------------------

    def _serve(self, key: Key) -> tuple[ServedPort, ...]:
        service, pod = self._services.get(key), self._pods.get(key)
        problems: list[str] = []
        slices = self._counted_slices(key, service, problems) if service is not None else []
        self._depend_on(key, nodes_that_matter(service, slices) if self._at_other_nodes else frozenset())
        ports: tuple[ServedPort, ...] = ()
        if pod is not None:
            ports = tuple(serve_host_ports(pod, self._node_addresses.get(pod.node, ()), self._owner, problems))
        elif service is not None and service.proxied and service.cluster_ips:
            ports = tuple(serve(service, slices, self._owner, problems))
            if self._at_other_nodes:
                ports += tuple(serve_at_nodes(ports, self._node_addresses, problems))
        if problems:
            self.problems[key] = tuple(problems)
        else:
            self.problems.pop(key, None)
        return ports

    def _counted_slices(self, key: Key, service: Service, problems: list[str]) -> list[EndpointSlice]:
        there = self._slices.get(key, {})
        slices = [there[one] for one in self._order.get(key, ())]
        counted, left_out = countable(slices, ((port.name, port.protocol) for port in service.ports))
        if left_out:
            problems.append(
                f"{left_out} EndpointSlices from {slices[-left_out].key.name} on are left out, the first perhaps in "
                f"part: at most {limits.MAX_SLICES:,} count, and in them {limits.MAX_MERGED:,} endpoints times ports"
            )
        return counted

    def _depend_on(self, key: Key, nodes: frozenset[str]) -> None:
        """The ports of a Service depend on the addresses of these nodes now."""
        before = self._nodes_of.pop(key, frozenset())
        if nodes:
            self._nodes_of[key] = nodes
        for node in before - nodes:
            there = self._at_node[node]
            there.discard(key)
            if not there:
                del self._at_node[node]
        for node in nodes - before:
            self._at_node.setdefault(node, set()).add(key)

    def _owner(self, frontend: Frontend) -> Claim:
        return self._claims[frontend][0]


def _claims(service: Service | None) -> Claims:
    """What a Service claims: of one frontend its strongest claim only, as an external address may repeat another."""
    return _strongest(claims_of(service)) if service is not None and service.proxied else {}


def _pod_claims(pod: Pod | None, nodes: Mapping[str, tuple[Net, ...]]) -> Claims:
    """What a pod's host ports claim, likewise."""
    return _strongest(host_port_claims(pod, nodes.get(pod.node, ()))) if pod is not None else {}


def _strongest(claims: Iterable[tuple[Frontend, Claim]]) -> Claims:
    found: dict[Frontend, Claim] = {}
    for frontend, claim in claims:
        found[frontend] = min(claim, found.get(frontend, claim))
    return found
