"""A topology as values: the nodes, namespaces, pods and externals of a lab.

The classes are the schema of a topology file: they reject unknown keys and invalid values. See `load` for reading
files, `address` for assigning addresses.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

LabProtocol = Literal["TCP", "UDP", "SCTP"]
Family = Literal[4, 6]
DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


def _dns_label(text: str) -> str:
    if len(text) > 63 or not DNS_LABEL.fullmatch(text):
        raise ValueError(f"{text!r} is not a name of lower-case letters, digits and dashes")
    return text


def _address(text: str) -> str:
    return str(ipaddress.ip_address(text))


def _port_shorthand(value: object) -> object:
    """Let a file say 80, "80/UDP" or "web:80/TCP" for a port."""
    if isinstance(value, int) and not isinstance(value, bool):
        return {"port": value}
    if isinstance(value, str):
        name, _, rest = value.rpartition(":")
        number, _, protocol = rest.partition("/")
        entry: dict[str, object] = {"port": number, "protocol": protocol.upper() or "TCP"}
        return entry | ({"name": name} if name else {})
    return value


DnsLabel = Annotated[str, AfterValidator(_dns_label)]
AddressText = Annotated[str, AfterValidator(_address)]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LabPort(_Value):
    """A port that a pod serves. In a file also `80`, `80/UDP` or `web:80/TCP`."""

    port: int = Field(ge=1, le=65535)
    protocol: LabProtocol = "TCP"
    name: str | None = Field(default=None, max_length=15)

    def __str__(self) -> str:
        return f"{self.port}/{self.protocol}"


LabPortEntry = Annotated[LabPort, BeforeValidator(_port_shorthand)]


class LabNode(_Value):
    """A node: a network namespace with its own switch. Without `addresses` it gets one of each of the lab's subnets."""

    name: DnsLabel
    labels: dict[str, str] = {}
    addresses: tuple[AddressText, ...] = ()


class LabNamespace(_Value):
    """A Kubernetes namespace."""

    name: DnsLabel
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class LabPod(_Value):
    """A pod: a network namespace with one interface on its node's bridge. Servers listen on `ports`."""

    namespace: DnsLabel
    name: DnsLabel
    node: DnsLabel
    labels: dict[str, str] = {}
    ports: tuple[LabPortEntry, ...] = ()
    addresses: tuple[AddressText, ...] = ()

    @property
    def key(self) -> str:
        """The name of its endpoint: `namespace/name`."""
        return f"{self.namespace}/{self.name}"


class LabExternal(_Value):
    """A machine on the underlay that is not part of the cluster; policies see it as an address block (ipBlock)."""

    name: DnsLabel
    ports: tuple[LabPortEntry, ...] = ()
    addresses: tuple[AddressText, ...] = ()


class Subnets(_Value):
    """The flat network of nodes and pods, one prefix for each family."""

    ipv4: ipaddress.IPv4Network = ipaddress.IPv4Network("10.10.0.0/16")
    ipv6: ipaddress.IPv6Network = ipaddress.IPv6Network("fd10:10::/64")


class Topology(_Value):
    """A lab. `ports` are served by nodes, and by pods and externals without ports of their own."""

    name: Annotated[DnsLabel, Field(max_length=32)] = "demo"
    families: tuple[Family, ...] = (4, 6)
    mtu: int = Field(default=1500, ge=1280, le=9000)
    subnets: Subnets = Subnets()
    ports: tuple[LabPortEntry, ...] = (LabPort(port=80),)
    nodes: tuple[LabNode, ...] = Field(min_length=1)
    namespaces: tuple[LabNamespace, ...] = ()
    pods: tuple[LabPod, ...] = ()
    externals: tuple[LabExternal, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Topology:
        if not self.families or len(set(self.families)) != len(self.families):
            raise ValueError("families must be [4], [6] or [4, 6]")
        if self.subnets.ipv4.prefixlen > 16 or self.subnets.ipv6.prefixlen > 96:
            raise ValueError("subnets must leave room: ipv4 /16 or wider, ipv6 /96 or wider")
        _unique("node", [node.name for node in self.nodes])
        _unique("namespace", [namespace.name for namespace in self.namespaces])
        _unique("pod", [pod.key for pod in self.pods])
        _unique("external", [external.name for external in self.externals])
        nodes, namespaces = {node.name for node in self.nodes}, {namespace.name for namespace in self.namespaces}
        for pod in self.pods:
            if pod.node not in nodes:
                raise ValueError(f"pod {pod.key} is on node {pod.node}, which the topology does not have")
            if pod.namespace not in namespaces:
                raise ValueError(f"pod {pod.key} is in namespace {pod.namespace}, which the topology does not have")
        return self

    def served(self, item: LabPod | LabExternal) -> tuple[LabPort, ...]:
        """The ports that a pod or an external serves: its own, or else the topology's."""
        return item.ports or self.ports

    def all_served(self) -> list[LabPort]:
        """All ports of pods and externals, once for each number and protocol, without names."""
        items: list[LabPod | LabExternal] = [*self.pods, *self.externals]
        found = (LabPort(port=port.port, protocol=port.protocol) for item in items for port in self.served(item))
        return list(dict.fromkeys(found))


def _unique(what: str, names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{what} {name} is given twice")
        seen.add(name)
