"""The manifests under deploy/kubernetes as plain data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tests.helpers.paths import ROOT

DEPLOY = ROOT / "deploy"
MANIFESTS = DEPLOY / "kubernetes"


def documents(path: Path) -> list[dict[str, Any]]:
    """The objects of one file."""
    return [one for one in yaml.safe_load_all(path.read_text()) if one is not None]


def deployment() -> dict[str, Any]:
    """The Deployment."""
    return documents(MANIFESTS / "deployment.yaml")[0]
