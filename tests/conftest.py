"""Fixtures and checks of all tests: no test leaves its process patched, recorded counts are printed at the end, and the
tests of a worker share one API server."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.helpers.api_server.assets import skipped
from tests.helpers.api_server.server import ApiServer

pytest_plugins = ("tests.helpers.fast_tier",)

# How fast examples are made depends on the machine and its load, and says nothing about what is tested.
settings.register_profile("headgate", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("headgate")


def _is_patched() -> bool:
    patcher = sys.modules.get("eventlet.patcher")
    return bool(patcher and patcher.already_patched)


# Some tests run pytest once more, in a process that eventlet was meant to patch.
_PATCHED_FROM_THE_START = _is_patched()


@pytest.fixture(autouse=True)
def threads_stay_threads() -> Iterator[None]:
    """Fail a test that lets eventlet patch this process: later tests of the process would hang without a hint."""
    yield
    if _is_patched() and not _PATCHED_FROM_THE_START:
        pytest.fail("eventlet patched the tests' own process: what installs a hub belongs in a process of its own")


# Shared fixtures, and the marker of every test that takes one.
MARKERS = {"api": "api", "ovs": "switch", "module_ovs": "switch"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests the markers of the fixtures that they take."""
    for item in items:
        for fixture in MARKERS.keys() & set(getattr(item, "fixturenames", ())):
            item.add_marker(MARKERS[fixture])


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A running API server. Tests clean up what they make, and leave it running."""
    if reason := skipped():
        pytest.skip(reason)
    with ApiServer(tmp_path_factory.mktemp("api")) as server:
        yield server


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """End the output with what tests counted and recorded: `record_property("counted", "...")`."""
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    counted = [
        f"{report.nodeid}: {value}"
        for report in reports
        if report.when == "call"
        for name, value in report.user_properties
        if name == "counted"
    ]
    if counted:
        terminalreporter.section("counted")
        for line in sorted(counted):
            terminalreporter.line(line)
