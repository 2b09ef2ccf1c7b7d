"""One API server for all tests of a worker, and the source that reads it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.envtest.assets import skipped
from tests.kubernetes.reader import Reader
from tests.kubernetes.server import ApiServer


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A running API server. Tests clean up what they make, and leave it running."""
    if reason := skipped():
        pytest.skip(reason)
    with ApiServer(tmp_path_factory.mktemp("api")) as server:
        yield server


@pytest.fixture
def reader(api: ApiServer, tmp_path: Path) -> Iterator[Reader]:
    """A source that reads the API server with the rights of deploy/kubernetes/rbac.yaml, synced."""
    with Reader(api.credentials(tmp_path)) as one:
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
