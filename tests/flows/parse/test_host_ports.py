"""Host ports of pods: which containers count, what hostIP says, and what a broken or long list costs."""

from __future__ import annotations

from typing import Any

import pytest

from flows.cluster.model import HostPort, Protocol
from flows.cluster.net import parse_address
from flows.parse.host_ports import MAX_HOST_PORTS
from flows.parse.objects import parse_pod
from flows.parse.untrusted import FieldError


def read(ports: Any, field: str = "containers", **more: Any) -> tuple[tuple[HostPort, ...], list[str]]:
    errors: list[FieldError] = []
    spec = {field: [{"name": "c", "ports": ports, **more.pop("container", {})}], **more}
    pod = parse_pod({"metadata": {"name": "web", "namespace": "x"}, "spec": spec}, errors)
    return pod.host_ports, [f"{one.field}: {one.reason}" for one in errors]


def test_ports_with_a_host_port_count_once_each() -> None:
    found, errors = read(
        [
            {"containerPort": 8080, "hostPort": 80},
            {"containerPort": 8080, "hostPort": 80, "protocol": "TCP"},
            {"containerPort": 53, "hostPort": 53, "protocol": "UDP", "hostIP": "192.0.2.7"},
            {"containerPort": 53, "hostPort": 54, "protocol": "UDP", "hostIP": "::"},
            {"containerPort": 9090},
            {"containerPort": 9091, "hostPort": 0},
        ]
    )
    assert found == (
        HostPort(Protocol.TCP, 80, 8080),
        HostPort(Protocol.UDP, 53, 53, parse_address("192.0.2.7")),
        HostPort(Protocol.UDP, 54, 53, parse_address("::")),
    )
    assert errors == []


def test_only_init_containers_that_keep_running_count() -> None:
    port = [{"containerPort": 8080, "hostPort": 80}]
    assert read(port, "initContainers")[0] == ()
    assert read(port, "initContainers", container={"restartPolicy": "Always"})[0] == (HostPort(Protocol.TCP, 80, 8080),)
    assert read(port, hostNetwork=True)[0] == ()


@pytest.mark.parametrize(
    ("port", "where"),
    [
        ({"containerPort": 8080, "hostPort": 65536}, "hostPort"),
        ({"containerPort": 8080, "hostPort": "80"}, "hostPort"),
        ({"containerPort": 8080, "hostPort": 80, "hostIP": "here"}, "hostIP"),
        ({"containerPort": 8080, "hostPort": 80, "hostIP": 5}, "hostIP"),
    ],
)
def test_what_cannot_be_read_is_told_and_left_out(port: dict[str, Any], where: str) -> None:
    found, errors = read([port, {"containerPort": 1, "hostPort": 2}])
    assert found == (HostPort(Protocol.TCP, 2, 1),)
    assert len(errors) == 1
    assert errors[0].startswith(f"spec.containers[0].ports[0].{where}: ")


def test_a_pod_has_a_limited_number() -> None:
    found, errors = read([{"containerPort": 1, "hostPort": 1 + number} for number in range(MAX_HOST_PORTS + 5)])
    assert len(found) == MAX_HOST_PORTS
    assert errors == [f"spec.containers: only the first {MAX_HOST_PORTS} host ports count"]


@pytest.mark.parametrize("value", [5, "x", None, [], [5], [{"ports": 5}], [{"ports": [5]}], {"a": 1}])
def test_any_other_shape_has_none(value: Any) -> None:
    assert parse_pod({"metadata": {"name": "w", "namespace": "x"}, "spec": {"containers": value}}, []).host_ports == ()
