"""From the containers of an untrusted Pod to its host ports: the ports of its node that lead to it."""

from __future__ import annotations

from flows.cluster.model import HostPort
from flows.cluster.net import Net, parse_address
from flows.parse.untrusted import (
    Errors,
    FieldError,
    JsonObject,
    port_number_error,
    protocol_at,
    quote,
)

MAX_HOST_PORTS = 100  # of a pod: the API has no limit, and each costs flows on every bridge


def host_ports(spec: JsonObject, errors: Errors) -> tuple[HostPort, ...]:
    """Those of the containers and of the init containers that keep running (restartPolicy Always), as the kubelet hands
    them to the container runtime. A port that cannot be read is reported and left out; what is of the wrong type is
    reported where named ports are read."""
    found: list[HostPort] = []
    for field in ("containers", "initContainers"):
        containers = spec.get(field)
        for index, container in enumerate(containers if isinstance(containers, list) else ()):
            if not isinstance(container, dict) or not isinstance(ports := container.get("ports"), list):
                continue
            if field == "containers" or container.get("restartPolicy") == "Always":
                for number, port in enumerate(ports):
                    if isinstance(port, dict) and port.get("hostPort"):
                        _read(port, f"spec.{field}[{index}].ports[{number}]", found, errors)
    several = list(dict.fromkeys(found))
    if len(several) > MAX_HOST_PORTS:
        errors.append(FieldError("spec.containers", f"only the first {MAX_HOST_PORTS} host ports count"))
    return tuple(several[:MAX_HOST_PORTS])


def _read(port: JsonObject, path: str, found: list[HostPort], errors: Errors) -> None:
    number, inner = port.get("hostPort"), port.get("containerPort")
    protocol = protocol_at(port, path, [])
    address: Net | None = None
    if host_ip := port.get("hostIP"):
        try:
            address = parse_address(host_ip if isinstance(host_ip, str) else "")
        except ValueError:
            errors.append(FieldError(f"{path}.hostIP", f"{quote(str(host_ip))} is no address"))
            return
    if error := port_number_error(number):
        errors.append(FieldError(f"{path}.hostPort", error))
    elif protocol is not None and isinstance(number, int) and isinstance(inner, int) and not port_number_error(inner):
        found.append(HostPort(protocol, number, inner, address))
