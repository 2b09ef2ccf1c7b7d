"""One command of the CNI as its values: the environment and the configuration of the specification 1.1, checked."""

from __future__ import annotations

from node.errors import (
    INCOMPATIBLE_VERSION,
    INVALID_CONFIGURATION,
    INVALID_ENVIRONMENT,
    UNDECODABLE,
    CniError,
)
from node.facts import BRIDGE
from node.links import MAX_NAME
from node.ovsdb import DEFAULT_SOCKET
from node.quick import TYPE_CHECKING, NamedTuple, decode_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

try:  # `hashlib` loads OpenSSL first, which costs more than all else that happens before the first step
    from _blake2 import blake2b
except ImportError:
    from hashlib import blake2b

VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
MAX_CONFIGURATION = 1 << 20  # bytes of standard input
RUN_DIR = "/run/headgate"  # empty after a boot, as the pods' interfaces are
DEFAULT_TIMEOUT = 60.0  # seconds that ADD waits for the policy
PORT_PREFIX = "hgp"
_PORT_DIGITS, _HEXADECIMAL = 12, frozenset("0123456789abcdef")
_ALPHANUMERIC = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_IN_NAMES = _ALPHANUMERIC | frozenset("_.-")
_MAX_CONTAINER, _MAX_NETWORK = 255, 128  # characters


class Configuration(NamedTuple):
    """The network configuration: its well-known keys, and our own. `ipam` is the section for the IPAM plugin,
    `timeout` how many seconds ADD waits for the policy, `state_dir` where headgate-node keeps its settings ("": nobody
    but the operator sets up the node), `valid` what GC may not touch (None where it is not named)."""

    version: str
    name: str
    ovsdb: str
    bridge: str
    run_dir: str
    timeout: float
    state_dir: str
    ipam: dict[str, Any]
    previous: dict[str, Any] | None
    valid: frozenset[tuple[str, str]] | None


class Attachment(NamedTuple):
    """A container's interface, which is what the CNI adds and deletes."""

    container: str
    ifname: str

    @property
    def port(self) -> str:
        """The name of the end of the veth pair on the bridge, which is the port's name. The same for the same
        attachment, so that whatever a killed command has left is found without a record."""
        digest = blake2b(f"{self.container}\0{self.ifname}".encode(), digest_size=6).hexdigest()
        return PORT_PREFIX + digest


class Pod(NamedTuple):
    """The pod that CNI_ARGS names."""

    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Request(NamedTuple):
    """A command for one attachment."""

    configuration: Configuration
    attachment: Attachment
    environment: Mapping[str, str]

    @property
    def namespace(self) -> str:
        """The path of the container's network namespace; "" where it is gone."""
        return self.environment.get("CNI_NETNS", "")


def is_port_name(name: str) -> bool:
    """Whether this is a name that `Attachment.port` may be."""
    digits = name[len(PORT_PREFIX) :]
    return name.startswith(PORT_PREFIX) and len(digits) == _PORT_DIGITS and frozenset(digits) <= _HEXADECIMAL


def _is_name(text: str, most: int) -> bool:
    """Whether it is a name as the CNI has them, for networks and containers."""
    return 0 < len(text) <= most and text[0] in _ALPHANUMERIC and frozenset(text) <= _IN_NAMES


def _is_interface(text: str) -> bool:
    """Whether the kernel takes it as the name of an interface (dev_valid_name)."""
    return 0 < len(text.encode()) <= MAX_NAME and not any(one.isspace() or one in "/:\0" for one in text)


def parse_attachment(environment: Mapping[str, str]) -> Attachment:
    """The attachment that the environment names. Raises CniError."""
    container, ifname = environment.get("CNI_CONTAINERID", ""), environment.get("CNI_IFNAME", "")
    if not _is_name(container, _MAX_CONTAINER):
        raise CniError(INVALID_ENVIRONMENT, f"CNI_CONTAINERID: {container[:80]!r} is no id of a container")
    if not _is_interface(ifname) or ifname in (".", "..", "lo"):
        raise CniError(INVALID_ENVIRONMENT, f"CNI_IFNAME: {ifname[:80]!r} is no name of an interface")
    return Attachment(container, ifname)


def parse_pod(environment: Mapping[str, str]) -> Pod:
    """The pod in CNI_ARGS, as the kubelet's runtime writes it. Raises CniError."""
    text = environment.get("CNI_ARGS", "")
    arguments = dict(pair.partition("=")[::2] for pair in text.split(";")) if len(text) <= 1 << 16 else {}
    names = [arguments.get(f"K8S_POD_{key}", "") for key in ("NAMESPACE", "NAME", "UID")]
    if not names[0] or not names[1] or not all(len(name) <= 253 and name.isprintable() for name in names):
        raise CniError(INVALID_ENVIRONMENT, "CNI_ARGS: K8S_POD_NAMESPACE and K8S_POD_NAME must name the pod")
    return Pod(*names)


def parse_configuration(text: bytes) -> Configuration:
    """The configuration that came on standard input. Raises CniError."""
    if len(text) > MAX_CONFIGURATION:
        raise CniError(UNDECODABLE, f"the network configuration has more than {MAX_CONFIGURATION} bytes")
    try:
        values, rest = decode_json(text.decode())
    except (ValueError, RecursionError):
        raise CniError(UNDECODABLE, "the network configuration is no JSON") from None
    if rest or not isinstance(values, dict):
        raise CniError(UNDECODABLE, "the network configuration is no JSON object")
    version = values.get("cniVersion", "")
    if version not in VERSIONS:
        raise CniError(INCOMPATIBLE_VERSION, f"cniVersion {str(version)[:40]!r}: this plugin has {', '.join(VERSIONS)}")
    name = values.get("name")
    if not isinstance(name, str) or not _is_name(name, _MAX_NETWORK):
        raise CniError(INVALID_CONFIGURATION, f"name: {str(name)[:80]!r} is no name of a network")
    return Configuration(
        version=version,
        name=name,
        ovsdb=_path(values, "ovsdb", DEFAULT_SOCKET),
        bridge=_text(values, "bridge", BRIDGE),
        run_dir=_path(values, "runDir", RUN_DIR),
        state_dir=_path(values, "stateDir", "/") if "stateDir" in values else "",
        timeout=_timeout(values.get("timeout", DEFAULT_TIMEOUT)),
        ipam=_ipam(values.get("ipam", {})),
        previous=_previous(values.get("prevResult")),
        valid=_valid(values.get("cni.dev/valid-attachments")),
    )


def _invalid(key: str, must: str) -> CniError:
    return CniError(INVALID_CONFIGURATION, f"{key} must be {must}")


def _text(values: Mapping[str, Any], key: str, default: str) -> str:
    text = values.get(key, default)
    if not isinstance(text, str) or not text or len(text) > 4096 or not text.isprintable():
        raise _invalid(key, "a text")
    return text


def _path(values: Mapping[str, Any], key: str, default: str) -> str:
    text = _text(values, key, default)
    if not text.startswith("/"):
        raise _invalid(key, "a full path")
    return text


def _timeout(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 3600:
        raise _invalid("timeout", "a number of seconds up to 3600")
    return float(value)


def _ipam(value: object) -> dict[str, Any]:
    section = {"type": "host-local", **value} if isinstance(value, dict) else {}
    kind = section.get("type")
    if not isinstance(kind, str) or not _is_name(kind, _MAX_NETWORK):
        raise _invalid("ipam", "an object whose type is the file name of an IPAM plugin")
    return section


def _previous(value: object) -> dict[str, Any] | None:
    if value is not None and not isinstance(value, dict):
        raise _invalid("prevResult", "an object")
    return value


def _valid(value: object) -> frozenset[tuple[str, str]] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise _invalid("cni.dev/valid-attachments", "a list of objects")
    pairs = [(one.get("containerID"), one.get("ifname")) for one in value]
    if not all(isinstance(one, str) for pair in pairs for one in pair):
        raise _invalid("cni.dev/valid-attachments", "objects with containerID and ifname")
    return frozenset(pairs)
