"""Where etcd, kube-apiserver and kubectl are; the same search as in tests/envtest/find. Nothing is built here."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

from tests.helpers.paths import ROOT

BINARIES = ("etcd", "kube-apiserver", "kubectl")
FIND = ROOT / "tests/envtest/find"


@cache
def folder() -> Path | None:
    """The folder that holds all of them, None when there is none."""
    found = subprocess.run([str(FIND)], capture_output=True, text=True, check=False)
    return Path(found.stdout.strip()) if found.returncode == 0 else None


def binary(name: str) -> str:
    """The path of one. Raises LookupError when the control plane is not here."""
    place = folder()
    if place is None:
        raise LookupError("there is no control plane: `make envtest` builds it, ENVTEST=skip leaves these tests out")
    return str(place / name)


def skipped() -> str:
    """Why tests with a control plane are left out, "" when they are not."""
    if os.environ.get("ENVTEST") == "skip":
        return "ENVTEST=skip: tests with a real kube-apiserver are left out"
    if shutil.which("openssl") is None:
        return "openssl is not installed, and a kube-apiserver needs keys"
    return ""
