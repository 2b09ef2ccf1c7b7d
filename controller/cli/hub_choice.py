"""Choosing the concurrency hub before the configuration can be read: eventlet has to come before pydantic is imported.

Only the one option is looked for, in the sources of `settings` and with their precedence; whatever is wrong with them
is left for `settings` to say.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import yaml

from controller.base import hub

DEFAULT_HUB = "eventlet"


def install_hub(arguments: Sequence[str], environment: Mapping[str, str]) -> str | None:
    """Install the hub that flags, environment or file choose; returns its name, or None where it is none of HUBS."""
    chosen = _flag(arguments, "--hub") or environment.get("HEADGATE_HUB", "").strip()
    file = _flag(arguments, "--config") or environment.get("HEADGATE_CONFIG", "")
    chosen = chosen or (_in_file(file) if file else "") or DEFAULT_HUB
    if chosen not in hub.HUBS:
        return None
    # Addressed to those who choose a hub for new projects; os-ken has chosen, and the native one is there.
    warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")
    hub.install(chosen)
    return chosen


def _flag(arguments: Sequence[str], flag: str) -> str:
    """The last value that the flag is given."""
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
