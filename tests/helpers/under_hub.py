"""Runs tests under a hub: `python -m tests.helpers.under_hub HUB PYTEST-ARGUMENT...`; a process has but one hub."""

from __future__ import annotations

import sys

from controller.base.hub import install

if __name__ == "__main__":
    install(sys.argv[1])
    import pytest

    from tests.hubs.closing import Closing

    plugins = [Closing()] if sys.argv[1] == "eventlet" else []
    sys.exit(pytest.main(["-p", "no:cacheprovider", "-q", *sys.argv[2:]], plugins=plugins))
