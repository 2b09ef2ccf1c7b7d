"""What the log says of an API server that cannot be read: once when it begins, when it changes, and when it ends."""

from __future__ import annotations

import time
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from structlog.testing import capture_logs

from bench.control_plane import write_kubeconfig
from bench.ports import free_ports
from controller.sources.kubernetes.problem_log import FailedRequest, ReadProblemLog, problem_lines
from controller.sources.kubernetes.stream import ApiError
from tests.helpers.api_server.server import ApiServer
from tests.helpers.controller.kubernetes_source import RunningSource

AWAY, BACK = "the Kubernetes API cannot be read", "the Kubernetes API can be read again"
Lines = list[MutableMapping[str, Any]]


def said(lines: Lines) -> Lines:
    return [line for line in lines if line["event"] in (AWAY, BACK)]


def read_for(credentials: Path, seconds: float) -> Lines:
    """What is logged while a source tries for so long."""
    with capture_logs() as lines, RunningSource(credentials):
        time.sleep(seconds)
    return said(lines)


def test_a_fault_of_the_server_is_one_line_for_all_kinds() -> None:
    problem_log = ReadProblemLog()
    with capture_logs() as lines:
        for plural in ("pods", "nodes", "namespaces") * 50:
            problem_log.failed("https://a", plural, ApiError(0, "Connection refused"))
        problem_log.failed("https://a", "pods", ApiError(401, "HTTP 401: Unauthorized"))
        for plural in ("pods", "nodes", "namespaces"):
            problem_log.recovered("https://a", plural)
            problem_log.recovered("https://a", plural)
    assert [line["event"] for line in said(lines)] == [AWAY, AWAY, AWAY, BACK]
    assert [line.get("reason") for line in lines][:2] == ["Connection refused", "HTTP 401: Unauthorized"]
    assert all(line["server"] == "https://a" for line in lines)


def test_single_kinds_are_named_each_with_the_right_that_it_needs() -> None:
    lines = problem_lines({"pods": FailedRequest(403, "no"), "nodes": FailedRequest(403, "no")})
    assert [line.split(":")[0] for line in lines] == ["nodes", "pods"]
    assert all("get, list and watch of" in line and "rbac.yaml" in line for line in lines)


def test_a_port_that_refuses(tmp_path: Path, api: ApiServer) -> None:
    path = write_kubeconfig(
        tmp_path / "config", free_ports(1)[0], api.folder / "certs" / "apiserver.crt", {"token": "x"}
    )
    (line,) = read_for(path, 3.0)
    assert line["reason"] == "Connection refused"
    assert "address" in line["check"]
    assert line["server"].startswith("https://127.0.0.1:")


def test_a_name_that_nobody_knows(tmp_path: Path, api: ApiServer) -> None:
    path = write_kubeconfig(tmp_path / "config", 6443, api.folder / "certs" / "apiserver.crt", {"token": "x"})
    config = yaml.safe_load(path.read_text())
    config["clusters"][0]["cluster"]["server"] = "https://nobody.invalid:6443"
    path.write_text(yaml.safe_dump(config))
    lines = read_for(path, 3.0)
    assert lines
    assert "DNS" in lines[0]["check"]


def test_a_server_that_does_not_know_us(tmp_path: Path, api: ApiServer) -> None:
    path = write_kubeconfig(tmp_path / "config", api.port, api.folder / "certs" / "apiserver.crt", {"token": "wrong"})
    (line,) = read_for(path, 3.0)
    assert "401" in line["reason"]
    assert "token" in line["check"]


def test_rights_that_are_missing_are_named(tmp_path: Path, api: ApiServer) -> None:
    """Each kind with what the account lacks, in the server's words and in ours."""
    api.kubectl("create", "serviceaccount", "nobody", "--namespace=default")
    token = api.kubectl("create", "token", "nobody", "--namespace=default").strip()
    path = write_kubeconfig(tmp_path / "config", api.port, api.folder / "certs" / "apiserver.crt", {"token": token})
    try:
        lines = read_for(path, 3.0)
    finally:
        api.kubectl("delete", "serviceaccount", "nobody", "--namespace=default")
    plurals = {line["reason"].split(":")[0] for line in lines}
    assert {"pods", "nodes", "namespaces", "networkpolicies"} <= plurals
    assert len(lines) == len(plurals)
    assert all("403" in line["reason"] and "list and watch" in line["check"] for line in lines)


@pytest.mark.parametrize("times", [1])
def test_it_is_said_when_it_ends(tmp_path: Path, api: ApiServer, times: int) -> None:
    credentials = api.credentials(tmp_path)
    token = tmp_path / "token"
    good = token.read_text()
    token.write_text("wrong")
    with capture_logs() as lines, RunningSource(credentials) as reader:
        reader.until(lambda: bool(said(lines)))
        token.write_text(good)
        reader.until(lambda: any(line["event"] == BACK for line in lines))
    assert [line["event"] for line in said(lines)].count(BACK) == times
