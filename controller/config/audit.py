"""The address of syslog, as an option has it."""

from __future__ import annotations

from controller.config.addresses import parse_host_port

_UNIX, _UDP = "unix:", "udp:"
_EXAMPLE = "udp:127.0.0.1:514"


def check_syslog(text: str) -> str:
    """The address in its normal form. Raises ValueError."""
    if text.startswith(_UNIX) and len(text) > len(_UNIX):
        return text
    if text.startswith(_UDP):
        return _UDP + str(parse_host_port(text.removeprefix(_UDP), _EXAMPLE.removeprefix(_UDP)))
    raise ValueError(f"{text!r} is neither unix:SOCKET nor udp:HOST:PORT, like {_EXAMPLE}")


def syslog_address(text: str) -> str | tuple[str, int]:
    """A checked address as Python's SysLogHandler takes it."""
    if text.startswith(_UNIX):
        return text.removeprefix(_UNIX)
    found = parse_host_port(text.removeprefix(_UDP), _EXAMPLE.removeprefix(_UDP))
    return found.host, found.port
