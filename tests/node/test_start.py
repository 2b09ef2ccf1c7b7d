"""What the plugin imports before its first step. The kubelet starts it for each pod, so this is what a start costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.helpers.paths import ROOT

# Each of these alone costs more than all that the plugin needs.
SLOW = {"argparse", "asyncio", "ctypes", "enum", "hashlib", "ipaddress", "json", "logging", "pathlib", "random", "re",
        "selectors", "shutil", "signal", "socket", "subprocess", "tempfile", "traceback", "typing", "typing_extensions",
        "zipfile"}  # fmt: skip


@pytest.mark.process
def test_the_plugin_imports_little_and_nothing_but_the_standard_library() -> None:
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import node.cni; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-ISc", program], check=True, capture_output=True, text=True)
    modules = {name.partition(".")[0] for name in done.stdout.split()}
    assert not modules & SLOW
    assert modules - {"__main__", "node"} <= sys.stdlib_module_names


@pytest.mark.process
def test_the_sources_are_those_of_python_3_9() -> None:
    import ast

    for path in sorted((ROOT / "node").rglob("*.py")):
        ast.parse(path.read_text(), path.name, feature_version=(3, 9))
