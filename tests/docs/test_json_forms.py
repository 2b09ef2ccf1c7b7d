"""Every command that prints JSON has a published form, and prints it."""

from __future__ import annotations

import json
import runpy
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from controller.cli import headgate, main
from controller.cli.output import JSON
from tests.helpers.json_forms import SCHEMAS, fits
from tests.helpers.paths import ROOT

EXAMPLE = str(ROOT / "docs/examples/05-named-ports/manifests")
DENY = str(ROOT / "docs/examples/01-default-deny/manifests/policy.yaml")
Captured = pytest.CaptureFixture[str]


def commands(command: click.Command, path: str, parent: click.Context | None) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(command, parent, info_name=path)
    yield path, command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            if child := command.get_command(context, name):
                yield from commands(child, f"{path} {name}", context)


def prints_json(command: click.Command) -> bool:
    return any(isinstance(one.type, click.Choice) and JSON in one.type.choices for one in command.params)


def test_every_command_with_json_has_a_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    forms = runpy.run_path(str(ROOT / "scripts/json_forms.py"))["FORMS"]
    wanted = {path for path, command in commands(headgate, "headgate", None) if prints_json(command)}
    assert wanted == {form.command.partition(" --")[0] for form in forms.values()}
    assert {path.stem for path in SCHEMAS.glob("*.json")} == set(forms)
    for name, form in forms.items():
        schema = json.loads((SCHEMAS / f"{name}.json").read_text())
        assert schema["properties"][form.key]["const"] == form.version and form.key in schema["required"]


def printed(capsys: Captured, *arguments: str) -> str:
    assert main(list(arguments)) in (0, 1)
    return capsys.readouterr().out


def test_what_is_decided_on_manifests_has_its_form(capsys: Captured, tmp_path: Path) -> None:
    offline = ["--manifests", EXAMPLE, "-o", "json"]
    ends = ["tenant-a/frontend", "tenant-a/api-1"]
    for port in ("80", "8080"):
        fits("explain", printed(capsys, "explain", *ends, "-p", port, *offline))
    for level in ("pod", "workload", "namespace"):
        assert fits("matrix", printed(capsys, "matrix", "--by", level, *offline))["blocks"]
    assert fits("matrix-exposure", printed(capsys, "matrix", "--exposure", *offline))["exposures"]
    assert fits("plan", printed(capsys, "plan", DENY, *offline))["reach"]
    shop = str(ROOT / "docs/debugging")
    assert fits("check", printed(capsys, "check", shop, "-o", "json"))["findings"]
    file = tmp_path / "matrix.json"
    printed(capsys, "matrix", *offline, "--file", str(file))
    fits("matrix", file.read_text())


def test_measurements_have_their_form(capsys: Captured) -> None:
    assert fits("bench-list", printed(capsys, "bench", "--list", "-o", "json"))["measurements"]


@pytest.mark.process
def test_results_of_measurements_have_their_form(capsys: Captured) -> None:
    found = fits("bench", printed(capsys, "bench", "rules", "--size", "0.01", "-o", "json"))
    assert found["results"] and not found["failed"]
