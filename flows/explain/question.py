"""A question in the operator's words, and its Explanation: the one entry that commands and the controller use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from flows.cluster.model import Cluster, Key, Service
from flows.cluster.net import Net
from flows.explain.ends import ask, find_end, parse_wanted, slices_of, without_ports
from flows.explain.model import EXPLAIN_VERSION, Explanation
from flows.explain.scope import concerning
from flows.explain.walk import explain_connection
from flows.policy.probe import EndpointName, Probe


class Answer(NamedTuple):
    """An explanation, and the probe of each of its connections."""

    explanation: Explanation
    probes: tuple[Probe, ...]


def explain(cluster: Cluster, source: str, destination: str, port: str = "", version: int | None = None) -> Explanation:
    """Whether `source` may open connections to `destination`, and why; the names are those of `ends`.

    `port` is as in `parse_wanted`, "" for the only port of a Service. `version` is 4 or 6, None for each family that
    both ends have. Costs one pass over the cluster's pods and policies. Raises ProbeError.
    """
    return answer(cluster, source, destination, port, version).explanation


def answer(cluster: Cluster, source: str, destination: str, port: str = "", version: int | None = None) -> Answer:
    """The same with the probes, for whoever has the switches to ask, too."""
    source, destination, port = without_ports(source, destination, port)
    wanted = parse_wanted(port or "1")
    ends = [find_end(cluster, text) for text in (source, destination)]
    part = concerning(
        cluster,
        [end for end in ends if isinstance(end, Key)],
        [address for end in ends for address in _addresses(cluster, end)],
    )
    question = ask(part, source, destination, wanted if port else wanted._replace(port=None), version)
    connections = tuple(explain_connection(part, probe) for probe in question.probes)
    allowed = all(one.allowed for one in connections)
    return Answer(Explanation(EXPLAIN_VERSION, allowed, connections, question.notes), question.probes)


def _addresses(cluster: Cluster, end: EndpointName | Service) -> Iterator[Net]:
    """The addresses that connections of an end may have."""
    if isinstance(end, Key):
        yield from cluster.pods[end].addresses
    elif isinstance(end, str):
        yield from cluster.nodes[end].addresses
    elif isinstance(end, Net):
        yield end
        for service in cluster.services.values():
            if end in (*service.cluster_ips, *service.ingress_ips, *service.external_ips):
                yield from _addresses(cluster, service)
    else:
        yield from (endpoint.address for one in slices_of(cluster, end) for endpoint in one.endpoints)
