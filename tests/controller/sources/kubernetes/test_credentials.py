"""Who Headgate is for a server: by a token file, a plugin, a service account; and what is said when that is wrong."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from bench.control_plane import write_kubeconfig
from controller.sources.source import SourceError
from tests.helpers.api_server.server import ApiServer
from tests.helpers.controller.kubernetes_source import RunningSource


def test_a_plugin_gives_the_token(api: ApiServer, tmp_path: Path) -> None:
    """It is asked again when its token has expired."""
    api.credentials(tmp_path)
    expires = (datetime.now(UTC) + timedelta(seconds=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
    said = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": (tmp_path / "token").read_text(), "expirationTimestamp": expires},
    }
    (tmp_path / "said").write_text(json.dumps(said))
    plugin = tmp_path / "plugin"
    plugin.write_text(f"#!/bin/sh\necho asked >>{tmp_path}/asked\ncat {tmp_path}/said\n")
    plugin.chmod(0o755)
    path = write_kubeconfig(tmp_path / "config", api.port, api.folder / "certs" / "apiserver.crt", {})
    config = yaml.safe_load(path.read_text())
    config["users"][0]["user"] = {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": str(plugin),
            "interactiveMode": "Never",
        }
    }
    path.write_text(yaml.safe_dump(config))
    with RunningSource(path) as reader:
        reader.wait_synced()
        asked = len((tmp_path / "asked").read_text().split())
        time.sleep(2.1)
        reader.reread()
        assert len((tmp_path / "asked").read_text().split()) > asked


def test_a_pods_service_account(api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    api.credentials(tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(api.port))
    loader = "kubernetes.config.incluster_config"
    monkeypatch.setattr(f"{loader}.SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(f"{loader}.SERVICE_CERT_FILENAME", str(api.folder / "certs" / "apiserver.crt"))
    with RunningSource("in-cluster") as reader:
        reader.wait_synced()
        assert "kube-system" in reader.cluster.namespaces


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "No such file"),
        ("", "cannot be used"),
        ("[1, 2]", "cannot be used"),
        ("a: [", "cannot be used"),
        ("{apiVersion: v1, kind: Config, current-context: none}", "cannot be used"),
    ],
)
def test_what_is_wrong_is_said_at_the_start(tmp_path: Path, text: str | None, said: str) -> None:
    path = tmp_path / "config"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SourceError, match=said) as caught, RunningSource(path):
        raise AssertionError("it started")
    assert str(path) in str(caught.value)


@pytest.mark.skipif("KUBERNETES_SERVICE_HOST" in os.environ, reason="this is a pod")
def test_no_pod_here() -> None:
    with pytest.raises(SourceError, match="--kubeconfig FILE"), RunningSource("in-cluster"):
        raise AssertionError("it started")


def test_a_certificate_that_nobody_knows(api: ApiServer, tmp_path: Path) -> None:
    """Nothing is read over a connection whose other end is not proven; the state says why."""
    config = yaml.safe_load(api.credentials(tmp_path).read_text())
    del config["clusters"][0]["cluster"]["certificate-authority"]
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(config))
    with RunningSource(path) as reader:
        reader.until(lambda: "certificate" in reader.source.state().reason)
        assert not reader.posted
        assert not reader.source.state().synced
