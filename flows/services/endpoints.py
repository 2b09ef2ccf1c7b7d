"""The endpoints of a Service's port out of all its slices, each once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from flows.cluster.model import Endpoint, EndpointSlice, Protocol, Service
from flows.cluster.net import Net
from flows.services import limits
from flows.services.choice import Backend

PortName = tuple[str, Protocol]
Backends = Mapping[tuple[PortName, int], tuple[Backend, ...]]  # by port, and family 4 or 6


def has_endpoint_flows(service: Service, protocol: Protocol, endpoints: int, userspace: bool) -> bool:
    """Whether so many endpoints of a port have flows in place of a group: see `flows.render.service_endpoints`.

    A group chooses by a hash without the ports of UDP, so that all connections of a client would get one endpoint: the
    userspace datapath does so, and ovs-vswitchd, which chooses in larger groups. The kernel's datapath hashes them.
    A single endpoint of UDP has flows on the userspace datapath as well, for the sake of fragments: see
    `flows.render.service_fragments`.
    """
    if service.affinity_seconds:
        return endpoints > 0
    if protocol is Protocol.UDP:
        return endpoints > (0 if userspace else limits.DATAPATH_BUCKETS)
    return endpoints > limits.MAX_BUCKETS


def countable(slices: Sequence[EndpointSlice], names: Iterable[PortName]) -> tuple[list[EndpointSlice], int]:
    """The slices of a Service, sorted by key, as far as they count, and how many are left out, the last of those that
    count in part among them.

    Who may write slices chooses how many there are, and how many ports stand beside how many endpoints; all of them
    would be merged anew whenever one changes.
    """
    wanted = set(names)
    left, found = limits.MAX_MERGED, list[EndpointSlice]()
    for place, one in enumerate(slices):
        ports = sum((port.name, port.protocol) in wanted for port in one.ports)
        room = left // max(ports, 1)
        if place == limits.MAX_SLICES or not room:
            return found, len(slices) - place
        if len(one.endpoints) > room:
            return [*found, one._replace(endpoints=one.endpoints[:room])], len(slices) - place
        found.append(one)
        left -= ports * len(one.endpoints)
    return found, 0


def merge_slices(slices: Iterable[EndpointSlice], names: Iterable[PortName]) -> tuple[Backends, int]:
    """The backends of these ports, sorted by address and number, and how many were left out.

    An endpoint may be in two slices for a while, as it moves from one to the other. The better of the two counts: one
    that is ready, else one that serves.
    """
    wanted = set(names)
    found: dict[tuple[PortName, int], dict[tuple[Net, int], Endpoint]] = {}
    for one in slices:
        for port in one.ports:
            name = port.name, port.protocol
            if name not in wanted:
                continue
            for endpoint in one.endpoints:
                known = found.setdefault((name, endpoint.address.version), {})
                place = endpoint.address, port.number
                if (other := known.get(place)) is None or _rank(endpoint) > _rank(other):
                    known[place] = endpoint
    most = backends_of_port(len(found))
    left_out = sum(max(0, len(known) - most) for known in found.values())
    backends = {
        key: tuple(Backend(endpoint, number) for (_, number), endpoint in sorted(known.items())[:most])
        for key, known in found.items()
    }
    return backends, left_out


def backends_of_port(ports: int) -> int:
    """How many backends each port of a Service may have in one family, where so many of both have any."""
    return min(limits.MAX_BACKENDS, limits.MAX_SERVICE_BACKENDS // max(ports, 1))


def _rank(endpoint: Endpoint) -> tuple[bool, bool, bool, Endpoint]:
    """The better an endpoint, the greater. The last part makes the choice independent of the slices' order."""
    return endpoint.ready, endpoint.serving, bool(endpoint.node), endpoint
