"""What a run on virtual machines has counted, at its end."""

from __future__ import annotations

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what tests recorded."""
    found = [
        f"{name}: {value}"
        for report in terminalreporter.getreports("passed")
        for name, value in report.user_properties
        if "vagrant" in report.nodeid
    ]
    if found:
        terminalreporter.section("counted on virtual machines")
        for line in found:
            terminalreporter.line(line)
