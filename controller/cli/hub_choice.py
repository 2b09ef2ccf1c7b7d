"""Installs the concurrency hub before the configuration is loaded: eventlet must patch before pydantic is imported.

Reads only the option `hub`, from flags, environment and file with the precedence of `controller.config.load`, which
reports all errors in them.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import yaml

from controller.base import hub

DEFAULT_HUB = "eventlet"


def install_hub(arguments: Sequence[str], environment: Mapping[str, str]) -> str | None:
    """Install the hub that flags, environment or file name. Returns its name, None if there is no such hub."""
    chosen = _flag(arguments, "--hub") or environment.get("HEADGATE_HUB", "").strip()
    file = _flag(arguments, "--config") or environment.get("HEADGATE_CONFIG", "")
    chosen = chosen or (_in_file(file) if file else "") or DEFAULT_HUB
    if chosen not in hub.HUBS:
        return None
    # Meant for projects that can choose: os-ken needs a hub, and Headgate offers the native one as well.
    warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")
    hub.install(chosen)
    return chosen


def _flag(arguments: Sequence[str], flag: str) -> str:
    """The last value of the flag, "" without one."""
    found = ""
    for number, argument in enumerate(arguments):
        if argument.startswith(f"{flag}="):
            found = argument.partition("=")[2]
        elif argument == flag and number + 1 < len(arguments):
            found = arguments[number + 1]
    return found


def _in_file(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            content = yaml.safe_load(file)
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return ""
    return str(content.get("hub") or "") if isinstance(content, dict) else ""
