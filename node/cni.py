"""The CNI plugin as a program: reads the environment and standard input, runs one command, prints its result.

Every failure, whatever it is, is a JSON object on standard output and exit status 1 (CNI specification, "Error").
"""

from __future__ import annotations

import os
import sys

from node import cni_commands, cni_result
from node.cni_request import (
    MAX_CONFIGURATION,
    VERSIONS,
    Configuration,
    Request,
    parse_attachment,
    parse_configuration,
    parse_pod,
)
from node.errors import INTERNAL, INVALID_ENVIRONMENT, IO_FAILURE, TRY_AGAIN, CniError, NodeError
from node.quick import TYPE_CHECKING, encode_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_MIN_CHECK = VERSIONS.index("0.4.0")  # from this version on there is CHECK
_MIN_GC = VERSIONS.index("1.1.0")  # from this version on there are GC and STATUS


def main() -> int:
    """Run the command of CNI_COMMAND; its exit code."""
    version = VERSIONS[-1]
    try:
        text = sys.stdin.buffer.read(MAX_CONFIGURATION + 1)
        command = os.environ.get("CNI_COMMAND", "")
        if command == "VERSION":
            return _print(cni_result.make_versions(), 0)
        configuration = parse_configuration(text)
        version = configuration.version
        result = _run(command, configuration, dict(os.environ))
    except CniError as error:
        return _print(cni_result.make_error(version, error), 1)
    except NodeError as error:
        return _print(cni_result.make_error(version, CniError(TRY_AGAIN, str(error))), 1)
    except OSError as error:
        return _print(cni_result.make_error(version, CniError(IO_FAILURE, str(error))), 1)
    except Exception as error:  # noqa: BLE001 - the runtime must get an answer that it can read
        import traceback

        details = traceback.format_exc()[-4000:]
        return _print(
            cni_result.make_error(version, CniError(INTERNAL, f"{type(error).__name__}: {error}", details)), 1
        )
    return _print(result, 0) if result is not None else 0


def _run(command: str, configuration: Configuration, environment: Mapping[str, str]) -> dict[str, Any] | None:
    """Run a command; None where it has no result. Raises CniError."""
    number = VERSIONS.index(configuration.version)
    if command in ("GC", "STATUS") and number >= _MIN_GC:
        if command == "GC":
            cni_commands.collect_garbage(configuration, environment)
        else:
            cni_commands.status(configuration, environment)
        return None
    if command in ("ADD", "DEL") or (command == "CHECK" and number >= _MIN_CHECK):
        request = Request(configuration, parse_attachment(environment), environment)
        if command == "ADD":
            return cni_commands.add(request, parse_pod(environment))
        if command == "DEL":
            cni_commands.delete(request)
        else:
            cni_commands.check(request)
        return None
    what = f"CNI_COMMAND: there is no command {command[:40]!r} in version {configuration.version}"
    raise CniError(INVALID_ENVIRONMENT, what)


def _print(value: dict[str, Any], status: int) -> int:
    try:
        sys.stdout.write(encode_json(value) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        return 1  # the runtime has gone; its DEL will follow
    return status
