"""The schema of `headgate run`: every option with its help, default and check.

Flags, help, the keys of the YAML file, the environment variables and docs/config.md all come from `RunConfig`. How they
are merged: see `load`. Nothing here touches the disk or the network.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from controller.config.addresses import (
    OPENFLOW_EXAMPLE,
    OVSDB_EXAMPLE,
    HostPort,
    is_exposed,
    is_tls,
    normal_listen,
    normal_remote,
    parse_host_port,
    parse_listen,
)
from controller.config.audit import check_syslog
from controller.config.network import (
    NODE_PORTS_EXAMPLE,
    normal_dns_server,
    normal_node_ports,
    normal_range,
    normal_service,
    parse_dns_server,
    parse_node_ports,
    parse_range,
    parse_service_name,
)
from controller.config.replicas import (
    ReplicaOptions,
    check_duration,
    check_lease,
    check_replica,
    default_replica,
    parse_duration,
)
from controller.tls.files import CA_CERTIFICATE, CERTIFICATE, PRIVATE_KEY, TlsFiles
from flows.bridge.network import DNS_SERVICE, NetworkOptions
from flows.bridge.routing import NetworkMode
from flows.cluster.model import AuditMode, Key
from flows.pipeline.pod_limits import Rates

ENV_PREFIX = "HEADGATE_"
SOURCE_OPTIONS = "Where the Kubernetes objects come from"
SWITCH_OPTIONS = "Switches"
REPLICA_OPTIONS = "Several replicas, with --kubeconfig"
TLS_OPTIONS = "TLS, for addresses that begin with ssl:"
NETWORK_OPTIONS = "The network of the cluster"
LIMIT_OPTIONS = "Limits of one pod"
AUDIT_OPTIONS = "Audit of connections"
DNS_OPTIONS = "Domain names in policies"
PROCESS_OPTIONS = "The process itself"
OPTION_GROUPS = (
    SOURCE_OPTIONS, SWITCH_OPTIONS, NETWORK_OPTIONS, LIMIT_OPTIONS, DNS_OPTIONS, AUDIT_OPTIONS, REPLICA_OPTIONS,
    TLS_OPTIONS,
    PROCESS_OPTIONS,
)  # fmt: skip

HTTP_EXAMPLE = "127.0.0.1:8080"
IN_CLUSTER = "in-cluster"  # instead of a kubeconfig: the service account of the pod that Headgate runs in
MAX_INTERFACE_NAME = 15  # IFNAMSIZ - 1: a bridge is a network device too


def _check_openflow_listen(text: str) -> str:
    return normal_listen(text, OPENFLOW_EXAMPLE)


def _check_ovsdb_listen(text: str) -> str:
    return normal_listen(text, OVSDB_EXAMPLE)


def _check_http(text: str) -> str:
    return str(parse_host_port(text, HTTP_EXAMPLE))


def _check_bridge(name: str) -> str:
    if not 0 < len(name.encode()) <= MAX_INTERFACE_NAME or not name.isprintable() or set(name) & set("/ "):
        raise ValueError(
            f"{name!r} is no bridge name: 1 to {MAX_INTERFACE_NAME} characters without '/' and spaces, like br-int"
        )
    return name


def _unique(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


def _option(group: str, metavar: str, description: str, default: Any = None) -> Any:
    return Field(default=default, description=description, json_schema_extra={"group": group, "metavar": metavar})


Remote = Annotated[str, AfterValidator(normal_remote)]
Bridge = Annotated[str, AfterValidator(_check_bridge)]
DnsServerText = Annotated[str, AfterValidator(normal_dns_server)]
Replica = Annotated[str, AfterValidator(check_replica)]
Duration = Annotated[str, AfterValidator(check_duration)]
Cidr = Annotated[str, AfterValidator(normal_range)]
# Options that mean nothing in mode flat.
ONLY_ROUTING = ("encap", "pod_cidr", "node_cidr", "service_cidr", "mtu", "node_ports")


class RunConfig(BaseModel):
    """The options of `headgate run`. Addresses are in their normal form."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    manifests: Path | None = _option(
        SOURCE_OPTIONS, "DIR",
        "Folder of YAML or JSON files with Namespaces, Pods, Nodes and NetworkPolicies. Headgate watches it: files may "
        "be created, replaced by renaming, and deleted at any time. Names that start with a dot are ignored.",
    )  # fmt: skip
    kubeconfig: str | None = _option(
        SOURCE_OPTIONS, "FILE",
        "Kubeconfig of the API server to read the same objects from; its current context is used. "
        f"{IN_CLUSTER} means the service account of the pod that Headgate runs in, which is the default in a pod "
        "when no source is given.",
    )  # fmt: skip
    mode: Literal["enforce", "audit"] = _option(
        SOURCE_OPTIONS, "MODE",
        "audit: all NetworkPolicies are staged, as if each had the annotation headgate.io/mode: audit. Nothing of them "
        "is in force; what they would deny is counted. ClusterNetworkPolicies stay in force.",
        "enforce",
    )  # fmt: skip
    ovsdb: Annotated[tuple[Remote, ...], AfterValidator(_unique)] = _option(
        SWITCH_OPTIONS, "REMOTE",
        "OVSDB server of a switch to connect to, as ovs-vsctl's --db takes it: unix:FILE, ssl:HOST:PORT or "
        "tcp:HOST:PORT. Give one for each switch.",
        (),
    )  # fmt: skip
    ovsdb_listen: Annotated[str, AfterValidator(_check_ovsdb_listen)] | None = _option(
        SWITCH_OPTIONS, "ssl:HOST:PORT",
        "Address for OVSDB connections that switches make (ovs-vsctl set-manager ssl:CONTROLLER:6640); "
        "tcp:HOST:PORT is without TLS.",
    )  # fmt: skip
    openflow_listen: Annotated[str, AfterValidator(_check_openflow_listen)] = _option(
        SWITCH_OPTIONS, "ssl:HOST:PORT",
        "Address for OpenFlow connections of switches. Headgate sets it as the bridge's controller, through OVSDB; "
        "tcp:HOST:PORT is without TLS.",
        OPENFLOW_EXAMPLE,
    )  # fmt: skip
    bridge: Annotated[tuple[Bridge, ...], Field(min_length=1), AfterValidator(_unique)] = _option(
        SWITCH_OPTIONS, "NAME",
        "Bridge that Headgate owns on every switch. It never changes other bridges.",
        ("br-int",),
    )  # fmt: skip
    network: Literal["flat", "routed", "overlay"] = _option(
        NETWORK_OPTIONS, "MODE",
        "How pods of different nodes reach each other. flat: the network exists already, and Headgate enforces policy "
        "in it. routed: the switches route, and the network between the nodes has routes to the pods. overlay: the "
        "switches route, and tunnel to other nodes. With routed and overlay, Services are translated in the switches.",
        "flat",
    )  # fmt: skip
    encap: Literal["geneve", "vxlan"] = _option(
        NETWORK_OPTIONS, "TYPE", "The tunnels of --network overlay.", "geneve",
    )  # fmt: skip
    pod_cidr: Annotated[tuple[Cidr, ...], AfterValidator(_unique)] = _option(
        NETWORK_OPTIONS, "CIDR",
        "Range of all pods of the cluster, as kube-controller-manager's --cluster-cidr has it. A node's own range is "
        "in its Node's spec.podCIDRs; one outside of these is refused. Without it, the ranges of the nodes count, and "
        "every node's routes change with each node that comes.",
        (),
    )  # fmt: skip
    node_cidr: Annotated[tuple[Cidr, ...], AfterValidator(_unique)] = _option(
        NETWORK_OPTIONS, "CIDR",
        "Range that the InternalIPs of all nodes are in. A Node's InternalIP outside of these is refused, so a "
        "compromised node gets nobody's packets by claiming an address that no Node has. Without it, such an address "
        "is its node's.",
        (),
    )  # fmt: skip
    service_cidr: Annotated[tuple[Cidr, ...], AfterValidator(_unique)] = _option(
        NETWORK_OPTIONS, "CIDR",
        "Range of the Services' cluster addresses, as the API server's --service-cluster-ip-range has it. Without it, "
        "the API's ServiceCIDR objects count.",
        (),
    )  # fmt: skip
    mtu: Annotated[int, Field(ge=1280, le=65535)] | None = _option(
        NETWORK_OPTIONS, "BYTES",
        "MTU of pods. Without it, the network between the nodes is taken to have 1500: pods have 1450 with an overlay "
        "over IPv4, 1430 with one over IPv6, and 1500 without an overlay.",
    )  # fmt: skip
    node_ports: Annotated[str, AfterValidator(normal_node_ports)] = _option(
        NETWORK_OPTIONS, "FIRST-LAST",
        "The node ports of Services, as the API server's --service-node-port-range has them.",
        NODE_PORTS_EXAMPLE,
    )  # fmt: skip
    new_connections_per_pod: Annotated[int, Field(ge=0, le=10_000_000)] = _option(
        LIMIT_OPTIONS, "NUMBER",
        "New connections per second that one pod may open, with bursts of six times as many; more are dropped and "
        "counted. Packets of open connections are never limited. 0: no limit.",
        Rates().connections,
    )  # fmt: skip
    fragments_per_pod: Annotated[int, Field(ge=0, le=10_000_000)] = _option(
        LIMIT_OPTIONS, "NUMBER",
        "IP fragments per second that one pod may send, with bursts of six times as many; more are dropped and "
        "counted. Open vSwitch keeps at most 1000 fragments of a node for reassembly, for 15 seconds. 0: no limit.",
        Rates().fragments,
    )  # fmt: skip
    dns_service: Annotated[str, AfterValidator(normal_service)] = _option(
        DNS_OPTIONS, "NAMESPACE/NAME",
        "The Service whose answers count for the domain names in ClusterNetworkPolicies: its cluster addresses and its "
        "endpoints, at its port 53.",
        str(DNS_SERVICE),
    )  # fmt: skip
    dns_server: Annotated[tuple[DnsServerText, ...], AfterValidator(_unique)] = _option(
        DNS_OPTIONS, "ADDRESS[:PORT]",
        "A DNS server whose answers count, too, such as a cache on the nodes. Whoever can send packets from such an "
        "address decides what the names stand for.",
        (),
    )  # fmt: skip
    dns_min_ttl: Annotated[int, Field(ge=1, le=86400)] = _option(
        DNS_OPTIONS, "SECONDS",
        "The least time that a learned address is open to new connections, whatever time to live the answer has.",
        30,
    )  # fmt: skip
    audit: Literal["off", "denied", "all"] = _option(
        AUDIT_OPTIONS, "MODE",
        "What is reported of pods whose annotation headgate.io/audit, or whose namespace's, says nothing else. denied: "
        "connections that policy denies and other packets that are dropped. all: connections that open, too.",
        "off",
    )  # fmt: skip
    audit_per_pod: Annotated[int, Field(ge=1, le=100)] = _option(
        AUDIT_OPTIONS, "NUMBER",
        "Packets per second that are reported of one pod, with bursts of six times as many; more are counted. Of one "
        "node at most 200.",
        Rates().reports,
    )  # fmt: skip
    audit_events: Annotated[int, Field(ge=100, le=1_000_000)] = _option(
        AUDIT_OPTIONS, "NUMBER", "Events that are kept in memory, the last ones.", 10_000,
    )  # fmt: skip
    audit_file: Path | None = _option(
        AUDIT_OPTIONS, "FILE",
        "File that gets every event as a line of JSON. At its greatest size it is renamed to FILE.1, and so on to 5.",
    )  # fmt: skip
    audit_file_bytes: Annotated[int, Field(ge=65_536, le=1 << 40)] = _option(
        AUDIT_OPTIONS, "BYTES", "Greatest size of the audit file.", 100_000_000,
    )  # fmt: skip
    audit_syslog: Annotated[str, AfterValidator(check_syslog)] | None = _option(
        AUDIT_OPTIONS, "ADDRESS", "Syslog that gets every event: unix:SOCKET, like unix:/dev/log, or udp:HOST:PORT.",
    )  # fmt: skip
    replica: Replica | None = _option(
        REPLICA_OPTIONS, "NAME",
        "This replica's name, different for each. Replicas find each other by Leases in Headgate's namespace, and "
        "divide the switches among them. Without it, the pod's name (POD_NAME) or the host's.",
    )  # fmt: skip
    lease_duration: Duration = _option(
        REPLICA_OPTIONS, "DURATION",
        "After so long without a sign of life the others take over a replica's switches. Give all the same.",
        "5s",
    )  # fmt: skip
    renew_interval: Duration = _option(
        REPLICA_OPTIONS, "DURATION", "How often a replica gives a sign of life, and looks for those of the others.",
        "1s",
    )  # fmt: skip
    private_key: Path | None = _option(
        TLS_OPTIONS, "FILE",
        "The controller's private key, PEM. The three files may change at any time: new connections use the new ones.",
    )  # fmt: skip
    certificate: Path | None = _option(
        TLS_OPTIONS, "FILE", "The controller's certificate, PEM, with its intermediate certificates.",
    )  # fmt: skip
    ca_cert: Path | None = _option(
        TLS_OPTIONS, "FILE",
        "Certificates of the CAs that sign the switches' certificates, PEM. Other connections are refused.",
    )  # fmt: skip
    pki_dir: Path | None = _option(
        TLS_OPTIONS, "DIR",
        "Folder in the layout of ovs-pki and `headgate pki`, for those of the three files that are not given: "
        f"{PRIVATE_KEY}, {CERTIFICATE} and {CA_CERTIFICATE}.",
    )  # fmt: skip
    allowed_switch: Annotated[tuple[str, ...], AfterValidator(_unique)] = _option(
        TLS_OPTIONS, "NAME",
        "Only switches whose certificate has one of these names (common name or alternative name) may connect. "
        "Without it, every certificate of the CAs may.",
        (),
    )  # fmt: skip
    http: Annotated[str, AfterValidator(_check_http)] = _option(
        PROCESS_OPTIONS, "HOST:PORT",
        "Address of /status, /healthz, /readyz, /flows and /metrics. They need no login: keep them on loopback, or "
        "behind a proxy that asks for one.",
        HTTP_EXAMPLE,
    )  # fmt: skip
    ui_token_file: Path | None = _option(
        PROCESS_OPTIONS, "FILE",
        "File with the token that the page for a browser, /ui, asks for: 16 to 256 letters, digits and signs. Without "
        "it, the page is served on loopback only.",
    )  # fmt: skip
    hub: Literal["eventlet", "native"] = _option(
        PROCESS_OPTIONS, "HUB",
        "Threads that connections run in: eventlet's green threads, or native threads of the operating system.",
        "eventlet",
    )  # fmt: skip
    log_level: Literal["debug", "info", "warning", "error"] = _option(
        PROCESS_OPTIONS, "LEVEL", "The lowest level that is logged.", "info",
    )  # fmt: skip
    log_format: Literal["human", "json"] = _option(
        PROCESS_OPTIONS, "FORMAT",
        "Log lines for people, or one JSON object per line; on standard error.", "human",
    )  # fmt: skip

    @model_validator(mode="after")
    def _is_complete(self) -> RunConfig:
        if self.manifests is None and self.kubeconfig is None:
            raise ValueError(
                "there is nothing to enforce: give a source of objects, with --manifests DIR or --kubeconfig FILE"
            )
        if not self.ovsdb and self.ovsdb_listen is None:
            raise ValueError(
                "there is no switch: name OVSDB servers with --ovsdb REMOTE (like unix:/run/openvswitch/db.sock), "
                f"or let switches connect with --ovsdb-listen {OVSDB_EXAMPLE}"
            )
        return self

    @model_validator(mode="after")
    def _is_one_network(self) -> RunConfig:
        if self.network == "flat":
            useless = [name for name in ONLY_ROUTING if name in self.model_fields_set]
            if useless:
                flag = "--" + useless[0].replace("_", "-")
                raise ValueError(f"{flag} has no effect with --network flat; give --network routed or overlay, too")
        elif len(self.bridge) > 1:
            raise ValueError(f"--network {self.network} routes on one bridge of each node; give one --bridge")
        if self.network == "routed" and "encap" in self.model_fields_set:
            raise ValueError("--encap has no effect with --network routed, which has no tunnels")
        return self

    @model_validator(mode="after")
    def _leases_last(self) -> RunConfig:
        check_lease(self.lease_duration, self.renew_interval)
        return self

    @model_validator(mode="after")
    def _has_what_tls_needs(self) -> RunConfig:
        flags = {"private_key": "--private-key", "certificate": "--certificate", "ca_cert": "--ca-cert"}
        missing = [flag for name, flag in flags.items() if getattr(self, name) is None and self.pki_dir is None]
        secured = [address for address in self._addresses() if is_tls(address)]
        if secured and missing:
            raise ValueError(
                f"{secured[0]} needs {' and '.join(missing)} (or --pki-dir DIR for all; `headgate pki init` makes one)"
            )
        if not secured and (len(missing) < len(flags) or self.pki_dir or self.allowed_switch):
            raise ValueError(
                "TLS files are given, but no address begins with ssl:, so TLS would not be used; write "
                "--openflow-listen ssl:0.0.0.0:6653, and ssl: for OVSDB as well"
            )
        return self

    def _addresses(self) -> tuple[str, ...]:
        """The addresses of OpenFlow and OVSDB."""
        return (self.openflow_listen, *((self.ovsdb_listen,) if self.ovsdb_listen else ()), *self.ovsdb)

    @property
    def exposed(self) -> tuple[str, ...]:
        """The addresses of OpenFlow and OVSDB that are used without TLS over a network."""
        return tuple(address for address in self._addresses() if is_exposed(address))

    @property
    def tls_files(self) -> TlsFiles | None:
        """The TLS files; None when no address needs them."""
        if not any(map(is_tls, self._addresses())):
            return None
        folder = self.pki_dir or Path()
        return TlsFiles(
            self.private_key or folder / PRIVATE_KEY,
            self.certificate or folder / CERTIFICATE,
            self.ca_cert or folder / CA_CERTIFICATE,
        )

    @property
    def routes(self) -> bool:
        """Whether switches route and translate Services."""
        return self.network != "flat"

    @property
    def replica_options(self) -> ReplicaOptions | None:
        """How this controller takes part among replicas; None where there can be no others."""
        if self.kubeconfig is None:
            return None
        lease, renew = parse_duration(self.lease_duration), parse_duration(self.renew_interval)
        return ReplicaOptions(self.replica or default_replica(), lease, renew)

    @property
    def network_options(self) -> NetworkOptions:
        """What the operator decides of the cluster's network."""
        return NetworkOptions(
            mode=NetworkMode(self.network),
            encap=self.encap,
            pod_cidrs=tuple(map(parse_range, self.pod_cidr)),
            node_cidrs=tuple(map(parse_range, self.node_cidr)),
            service_cidrs=tuple(map(parse_range, self.service_cidr)),
            mtu=self.mtu,
            node_ports=parse_node_ports(self.node_ports),
            dns_servers=tuple(map(parse_dns_server, self.dns_server)),
            dns_service=self.dns_service_key,
        )

    @property
    def dns_service_key(self) -> Key:
        """The Service whose answers count."""
        return parse_service_name(self.dns_service)

    @property
    def rates(self) -> Rates:
        """The limits of one pod."""
        return Rates(self.new_connections_per_pod, self.fragments_per_pod, self.audit_per_pod)

    @property
    def audit_mode(self) -> AuditMode:
        """What is audited of pods without an annotation."""
        return AuditMode(self.audit)

    @property
    def openflow_address(self) -> HostPort:
        """The address to listen on for OpenFlow."""
        return parse_listen(self.openflow_listen, OPENFLOW_EXAMPLE)

    @property
    def ovsdb_listen_address(self) -> HostPort | None:
        """The address to listen on for OVSDB, if any."""
        return None if self.ovsdb_listen is None else parse_listen(self.ovsdb_listen, OVSDB_EXAMPLE)

    @property
    def http_address(self) -> HostPort:
        """The address to serve HTTP on."""
        return parse_host_port(self.http, HTTP_EXAMPLE)
