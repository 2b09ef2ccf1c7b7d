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
from controller.status.detail_model import Live
from flows.explain.model import Hit, LiveLeg, LiveProbe, SwitchWalk
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
def views() -> FakeViews:
    return FakeViews()


@pytest.fixture
def served(views: FakeViews) -> Iterator[str]:
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


def test_a_disagreement_comes_first_and_has_its_own_code(
    views: FakeViews, served: str, capsys: pytest.CaptureFixture[str]
) -> None:
    hit = Hit("node-1", "br-int", 60, "ingress", 100, "tcp", "goto_table:65", "rule", 7, ("tenant-a/p ingress[0]",))
    views.walk = SwitchWalk(True, False, (hit, Hit("node-1", "br-int", 65, "ingress_default")), ("pod tenant-a/api-1",))
    question = ["--server", served, "explain", "tenant-a/frontend", "tenant-a/api-1", "-p", "80"]
    assert main(question) == 4
    text = capsys.readouterr().out
    assert text.startswith("The switches DISAGREE with policy: policy denies 10.10.1.1 to 10.10.1.4")
    assert "rule of tenant-a/p ingress[0]: tcp -> goto_table:65" in text and "no flow matches" in text
    assert main([*question, "--policy-only"]) == 1


def test_a_live_packet_is_asked_for_by_a_program_and_shown(
    views: FakeViews, served: str, capsys: pytest.CaptureFixture[str]
) -> None:
    leg = LiveLeg(
        "node-1", "br-int", "port of pod tenant-a/frontend", "ingress_default", "dropped in table ingress_default"
    )
    views.probed = LiveProbe(
        True, False, True, source_port=61_000, legs=(leg,), reason="dropped in table ingress_default"
    )
    question = ["--server", served, "explain", "tenant-a/frontend", "tenant-a/api-1", "-p", "80"]
    assert main([*question, "--live"]) == 1
    assert views.live == [Live.PROBE]
    text = capsys.readouterr().out
    assert "live: the packet did not come through: dropped in table ingress_default" in text
    views.probed = LiveProbe(True, True, False, True, 61_000, (leg,), notes=("a note",))
    assert main([*question, "--live", "--deliver"]) == 4
    assert views.live[-1] is Live.DELIVER
    text = capsys.readouterr().out
    assert text.startswith("A live packet DISAGREES with policy: policy denies 10.10.1.1 to 10.10.1.4")
    assert "came through, and the pod got it" in text and "note: a note" in text


@pytest.mark.parametrize("wrong", [["--deliver"], ["--live", "--policy-only"], ["--live", "--manifests", EXAMPLE]])
def test_a_live_packet_needs_switches(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "tenant-a/frontend", "tenant-a/api-1", "-p", "80", *wrong]) == 2
    assert "--live asks the switches of a running controller" in capsys.readouterr().err


def test_verify_tells_numbers_and_differences(served: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--server", served, "--sample", "8", "--seed", "77"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("0 of 8 connections differ: 3 are allowed and 5 denied")
    assert "node-1 (br-int); a sample of 77, repeated by --seed 77" in text
    assert main(["verify", "--server", served, "--node", "none"]) == 1
    assert main(["verify", "--server", served, "--sample", "0"]) == 2
