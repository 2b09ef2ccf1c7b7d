"""The one schema of `headgate run`: every option with its meaning, default, environment name and check.

Flags, help, the YAML file, the environment and the reference page all come from `RunConfig`; how the sources are merged
stands in `settings`. Nothing here touches the disk or the network.
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
from controller.tls.files import CA_CERTIFICATE, CERTIFICATE, PRIVATE_KEY, TlsFiles
from flows.pipeline.pod_limits import Rates

ENV_PREFIX = "HEADGATE_"
SOURCE_OPTIONS = "Where the Kubernetes objects come from"
SWITCH_OPTIONS = "Switches"
TLS_OPTIONS = "TLS, for addresses that begin with ssl:"
LIMIT_OPTIONS = "What one pod may take of its node"
PROCESS_OPTIONS = "The process itself"
OPTION_GROUPS = (SOURCE_OPTIONS, SWITCH_OPTIONS, LIMIT_OPTIONS, TLS_OPTIONS, PROCESS_OPTIONS)

HTTP_EXAMPLE = "127.0.0.1:8080"
IN_CLUSTER = "in-cluster"  # in place of a kubeconfig: the credentials that the kubelet gives to a pod
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


class RunConfig(BaseModel):
    """What `headgate run` was told.

    Addresses are kept in a normal form; a list given by a stronger source replaces the weaker one's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    manifests: Path | None = _option(
        SOURCE_OPTIONS, "DIR",
        "Folder of YAML or JSON files with Namespaces, Pods, Nodes and NetworkPolicies. It is watched: files may "
        "come, go and be renamed over at any moment. Names that start with a dot are not read.",
    )  # fmt: skip
    kubeconfig: str | None = _option(
        SOURCE_OPTIONS, "FILE",
        "Kubernetes API server to read the same objects from, in kubectl's form; its current context counts. "
        f"The word {IN_CLUSTER} means the service account of the pod that this runs in; that is also the default there "
        "when no source is given.",
    )  # fmt: skip
    ovsdb: Annotated[tuple[Remote, ...], AfterValidator(_unique)] = _option(
        SWITCH_OPTIONS, "REMOTE",
        "OVSDB server of a switch to connect to, as ovs-vsctl's --db takes it: unix:FILE, ssl:HOST:PORT or "
        "tcp:HOST:PORT. Give one for each switch.",
        (),
    )  # fmt: skip
    ovsdb_listen: Annotated[str, AfterValidator(_check_ovsdb_listen)] | None = _option(
        SWITCH_OPTIONS, "ssl:HOST:PORT",
        "Also wait here for switches that connect by themselves (ovs-vsctl set-manager ssl:CONTROLLER:6640); "
        "tcp:HOST:PORT does without TLS.",
    )  # fmt: skip
    openflow_listen: Annotated[str, AfterValidator(_check_openflow_listen)] = _option(
        SWITCH_OPTIONS, "ssl:HOST:PORT",
        "Where switches connect with OpenFlow. Headgate itself sets this as the bridge's controller, by OVSDB; "
        "tcp:HOST:PORT does without TLS.",
        OPENFLOW_EXAMPLE,
    )  # fmt: skip
    bridge: Annotated[tuple[Bridge, ...], Field(min_length=1), AfterValidator(_unique)] = _option(
        SWITCH_OPTIONS, "NAME",
        "Bridge that Headgate owns on every switch. Other bridges are never touched.",
        ("br-int",),
    )  # fmt: skip
    new_connections_per_pod: Annotated[int, Field(ge=0, le=10_000_000)] = _option(
        LIMIT_OPTIONS, "NUMBER",
        "New connections a second that one pod may open in the long run, and six times as many at once; what is more "
        "is dropped and counted. Packets of connections that are open are never limited. 0: no limit.",
        Rates().connections,
    )  # fmt: skip
    fragments_per_pod: Annotated[int, Field(ge=0, le=10_000_000)] = _option(
        LIMIT_OPTIONS, "NUMBER",
        "IP fragments a second that one pod may send in the long run, and six times as many at once. Open vSwitch "
        "lets 1000 fragments of a node wait for the rest of their packets, for 15 seconds. 0: no limit.",
        Rates().fragments,
    )  # fmt: skip
    private_key: Path | None = _option(
        TLS_OPTIONS, "FILE",
        "Our private key, PEM. The three files may change at any time: new connections take the new ones.",
    )  # fmt: skip
    certificate: Path | None = _option(
        TLS_OPTIONS, "FILE", "Our certificate, PEM, with those between it and its CA.",
    )  # fmt: skip
    ca_cert: Path | None = _option(
        TLS_OPTIONS, "FILE",
        "Certificates of the CAs that sign switches, PEM. Who has no certificate of theirs is refused.",
    )  # fmt: skip
    pki_dir: Path | None = _option(
        TLS_OPTIONS, "DIR",
        "Folder in the layout of ovs-pki and `headgate pki`, for those of the three that are not given: "
        f"{PRIVATE_KEY}, {CERTIFICATE} and {CA_CERTIFICATE} in it.",
    )  # fmt: skip
    allowed_switch: Annotated[tuple[str, ...], AfterValidator(_unique)] = _option(
        TLS_OPTIONS, "NAME",
        "Only switches whose certificate bears one of these names (common name or alternative name) may connect. "
        "Without it, every certificate of the CA is good.",
        (),
    )  # fmt: skip
    http: Annotated[str, AfterValidator(_check_http)] = _option(
        PROCESS_OPTIONS, "HOST:PORT",
        "Where /status, /healthz, /readyz, /flows and /metrics are served. It has no login: keep it on loopback "
        "or behind something that has.",
        HTTP_EXAMPLE,
    )  # fmt: skip
    hub: Literal["eventlet", "native"] = _option(
        PROCESS_OPTIONS, "HUB",
        "How os-ken runs its connections: eventlet's green threads, or native operating system threads.",
        "eventlet",
    )  # fmt: skip
    log_level: Literal["debug", "info", "warning", "error"] = _option(
        PROCESS_OPTIONS, "LEVEL", "The least important messages that are still logged.", "info",
    )  # fmt: skip
    log_format: Literal["human", "json"] = _option(
        PROCESS_OPTIONS, "FORMAT",
        "Log lines for people, or one JSON object a line. Both go to standard error.", "human",
    )  # fmt: skip

    @model_validator(mode="after")
    def _is_complete(self) -> RunConfig:
        if self.manifests is None and self.kubeconfig is None:
            raise ValueError(
                "there is nothing to enforce: say where the objects come from, with --manifests DIR or "
                "--kubeconfig FILE"
            )
        if not self.ovsdb and self.ovsdb_listen is None:
            raise ValueError(
                "no switch can be found: name OVSDB servers with --ovsdb REMOTE (like unix:/run/openvswitch/db.sock), "
                f"or let switches connect with --ovsdb-listen {OVSDB_EXAMPLE}"
            )
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
                "TLS is set up, but no address begins with ssl: and so nothing would be protected; write "
                "--openflow-listen ssl:0.0.0.0:6653, and ssl: for OVSDB as well"
            )
        return self

    def _addresses(self) -> tuple[str, ...]:
        """All that is spoken to switches, as written."""
        return (self.openflow_listen, *((self.ovsdb_listen,) if self.ovsdb_listen else ()), *self.ovsdb)

    @property
    def exposed(self) -> tuple[str, ...]:
        """The addresses of switches that go over a network in plain text."""
        return tuple(address for address in self._addresses() if is_exposed(address))

    @property
    def tls_files(self) -> TlsFiles | None:
        """The files for TLS; None when no address needs them."""
        if not any(map(is_tls, self._addresses())):
            return None
        folder = self.pki_dir or Path()
        return TlsFiles(
            self.private_key or folder / PRIVATE_KEY,
            self.certificate or folder / CERTIFICATE,
            self.ca_cert or folder / CA_CERTIFICATE,
        )

    @property
    def rates(self) -> Rates:
        """What one pod may send."""
        return Rates(self.new_connections_per_pod, self.fragments_per_pod)

    @property
    def openflow_address(self) -> HostPort:
        """Where to listen for OpenFlow."""
        return parse_listen(self.openflow_listen, OPENFLOW_EXAMPLE)

    @property
    def ovsdb_listen_address(self) -> HostPort | None:
        """Where to listen for OVSDB, if at all."""
        return None if self.ovsdb_listen is None else parse_listen(self.ovsdb_listen, OVSDB_EXAMPLE)

    @property
    def http_address(self) -> HostPort:
        """Where to serve HTTP."""
        return parse_host_port(self.http, HTTP_EXAMPLE)
