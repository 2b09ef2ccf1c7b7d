"""Results and errors as the CNI prints them, in the form of each version (CNI specification, section "Result")."""

from __future__ import annotations

from node.addresses import parse_interface, text_of
from node.cni_request import VERSIONS, Attachment, Configuration
from node.errors import INVALID_CONFIGURATION, CniError, NodeError
from node.ipam import Address
from node.quick import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_WITH_IP_VERSION = ("0.3.0", "0.3.1", "0.4.0")
_WITH_MTU = ("1.1.0",)


def make_result(
    version: str, attachment: Attachment, namespace: str, mac: str, mtu: int, addresses: Sequence[Address]
) -> dict[str, Any]:
    """The result of ADD. Its interfaces are the port and the pod's, in this order."""
    interfaces: list[dict[str, Any]] = [
        {"name": attachment.port},
        {"name": attachment.ifname, "mac": mac, "sandbox": namespace},
    ]
    if version in _WITH_MTU:
        for interface in interfaces:
            interface["mtu"] = mtu
    ips, routes = [], []
    for address in addresses:
        gateway = text_of(address.gateway)
        entry: dict[str, Any] = {
            "interface": 1,
            "address": f"{text_of(address.packed)}/{address.bits}",
            "gateway": gateway,
        }
        if version in _WITH_IP_VERSION:
            entry["version"] = "4" if address.bits == 32 else "6"
        ips.append(entry)
        routes.append({"dst": "0.0.0.0/0" if address.bits == 32 else "::/0", "gw": gateway})
    return {"cniVersion": version, "interfaces": interfaces, "ips": ips, "routes": routes, "dns": {}}


def read_previous(configuration: Configuration, attachment: Attachment) -> tuple[str, list[bytes]]:
    """The MAC address and the addresses of the attachment's interface in `prevResult`. Raises CniError."""
    previous = configuration.previous
    try:
        if previous is None:
            raise KeyError("prevResult")
        interfaces = previous["interfaces"]
        number = next(i for i, one in enumerate(interfaces) if one["name"] == attachment.ifname and one.get("sandbox"))
        ips = [one["address"] for one in previous["ips"] if one.get("interface", number) == number]
        return str(interfaces[number]["mac"]).lower(), [parse_interface(str(one))[0] for one in ips[:64]]
    except (KeyError, TypeError, AttributeError, StopIteration, NodeError):
        what = "prevResult: it must be the result of ADD, with this interface, its MAC address and its addresses"
        raise CniError(INVALID_CONFIGURATION, what) from None


def make_error(version: str, error: CniError) -> dict[str, Any]:
    """A failure."""
    result: dict[str, Any] = {"cniVersion": version, "code": error.code, "msg": str(error)}
    return {**result, "details": error.details} if error.details else result


def make_versions() -> dict[str, Any]:
    """The answer to VERSION."""
    return {"cniVersion": VERSIONS[-1], "supportedVersions": list(VERSIONS)}
