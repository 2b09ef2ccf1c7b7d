"""The source that reads the API server, and what recovering took."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.api_server.server import ApiServer
from tests.helpers.controller.kubernetes_source import RunningSource


@pytest.fixture
def reader(api: ApiServer, tmp_path: Path) -> Iterator[RunningSource]:
    """A source that reads the API server with the rights of deploy/kubernetes/rbac.yaml, synced."""
    with RunningSource(api.credentials(tmp_path)) as one:
        one.wait_synced()
        yield one


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How long recovering took, as tests recorded it."""
    found = [
        f"{name.removeprefix('recovery: ')}: {value}"
        for report in terminalreporter.getreports("passed")
        for name, value in report.user_properties
        if name.startswith("recovery: ")
    ]
    if found:
        terminalreporter.section("recovery of the Kubernetes source")
        for line in sorted(found):
            terminalreporter.line(line)
