"""`headgate explain` on manifests and on a controller: output and exit codes."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from controller.cli import main
from controller.config.addresses import HostPort
from controller.http.pages import Application
from controller.http.server import HttpServer
from controller.metrics.registry import Metrics
from controller.sources.offline import offline_manifests
from tests.helpers.controller.fake_views import FakeViews
from tests.helpers.paths import ROOT

EXAMPLE = str(ROOT / "docs/examples/05-named-ports/manifests")
BLOCKS = str(ROOT / "docs/examples/06-ip-block-with-except/manifests")


def test_allowed_is_zero_and_names_the_rule(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "tenant-a/frontend", "tenant-a/api-1", "-p", "8080", "--manifests", EXAMPLE]) == 0
    text = capsys.readouterr().out
    assert text.startswith("ALLOWED: TCP port 8080 from pod tenant-a/frontend to pod tenant-a/api-1\n")
    assert "tenant-a/api-by-name ingress[0] (from[0], port api/TCP)" in text


def test_denied_is_one_and_names_the_difference(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "198.51.100.20", "tenant-a/backend", "-p", "80", "--manifests", BLOCKS]) == 1
    assert "198.51.100.16/28 is excepted" in capsys.readouterr().out


def test_wrong_questions_are_two(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["a/b", "tenant-a/backend", "-p", "80"], ["tenant-a/backend", "tenant-a/backend"]):
        assert main(["explain", *arguments, "--manifests", BLOCKS]) == 2
    assert main(["explain", "a/b", "c/d", "--manifests", "/does/not/exist"]) == 2
    assert main(["explain", "a/b", "c/d", "--manifests", BLOCKS, "--kubeconfig", "x"]) == 2
    assert main(["explain", "a/b", "c/d", "--kubeconfig", "/does/not/exist"]) == 2
    assert "there is no pod a/b" in capsys.readouterr().err


def test_json_has_a_version_and_fits_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    main(["explain", "tenant-a/frontend", "tenant-a/api-1", "-p", "80", "--manifests", EXAMPLE, "-o", "json"])
    answer = json.loads(capsys.readouterr().out)
    schema = json.loads((ROOT / "docs/schemas/explain.json").read_text())
    assert answer["version"] == 1 and answer.keys() <= schema["properties"].keys()
    assert answer["connections"][0].keys() == schema["$defs"]["Connection"]["properties"].keys()


def test_standard_input_is_read(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    text = b"\n---\n".join(path.read_bytes() for path in sorted(Path(EXAMPLE).iterdir()))
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text)))
    assert main(["explain", "tenant-a/frontend", "tenant-a/api-2", "-p", "9090", "--manifests", "-"]) == 0
    assert "ALLOWED" in capsys.readouterr().out


@pytest.fixture
def served() -> Iterator[str]:
    views = FakeViews()
    views.snapshot = offline_manifests([EXAMPLE]).cluster
    application = Application(views, Metrics("1", "native").registry, loopback=True)
    server = HttpServer(HostPort("127.0.0.1", 0), application)
    server.start()
    yield f"http://{server.address}"
    server.stop()


def test_a_controller_answers_the_same(served: str, capsys: pytest.CaptureFixture[str]) -> None:
    question = ["tenant-a/frontend", "tenant-a/api-1", "-p", "80"]
    assert main(["--server", served, "explain", *question]) == 1
    asked = capsys.readouterr().out
    assert main(["explain", *question, "--manifests", EXAMPLE]) == 1
    assert capsys.readouterr().out == asked
    assert main(["explain", "tenant-a/frontend", "tenant-a/api-1", "-p", "8080", "--server", served]) == 0
    capsys.readouterr()
    assert main(["explain", "tenant-a/none", "tenant-a/api-1", "-p", "80", "--server", served]) == 2
    assert "there is no pod tenant-a/none" in capsys.readouterr().err
    assert main(["explain", "a/b", "c/d", "-p", "80", "--server", "http://127.0.0.1:9"]) == 3
