"""Runs tests under a given hub: `python -m tests.ovsdb.under_hub HUB PYTEST-ARGUMENT...`; a process has but one."""

from __future__ import annotations

import sys

from controller.hub import install

if __name__ == "__main__":
    install(sys.argv[1])
    import pytest

    if sys.argv[1] == "eventlet":
        from eventlet import debug

        # A descriptor that was closed below eventlet stays in its list of readers, and its number comes again.
        debug.hub_prevent_multiple_readers(False)

    sys.exit(pytest.main(["-p", "no:cacheprovider", "-q", *sys.argv[2:]]))
