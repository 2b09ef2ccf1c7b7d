"""Commands here ask the controllers that tests name, never that of a lab which happens to be up on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def no_lab_of_this_machine(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("labs")
    monkeypatch.setenv("HEADGATE_LAB_DIR", str(folder))
    monkeypatch.delenv("HEADGATE_LAB", raising=False)
    monkeypatch.delenv("HEADGATE_SERVER", raising=False)
    return folder
