"""Runs pytest under a hub, in a process of its own because a process can have only one hub.

python -m tests.helpers.controller.pytest_under_hub HUB PYTEST-ARGUMENT...
"""

from __future__ import annotations

import sys

from controller.base.hub import install

if __name__ == "__main__":
    install(sys.argv[1])
    import pytest

    from tests.helpers.controller.descriptor_watch import ClosedDescriptorCheck

    plugins = [ClosedDescriptorCheck()] if sys.argv[1] == "eventlet" else []
    sys.exit(pytest.main(["-p", "no:cacheprovider", "-q", *sys.argv[2:]], plugins=plugins))
