"""The ports of a rule of a ClusterNetworkPolicy, and objects of which exactly one field must be set.

An object without a known field is an error: it may have had a field of a newer version, which the API server left out.
"""

from __future__ import annotations

from flows.cluster.model import PortSpec, Protocol
from flows.parse.names import port_name_error
from flows.parse.untrusted import (
    Errors,
    FieldError,
    JsonObject,
    check_known_fields,
    describe,
    not_a_string,
    port_number_error,
    quote,
)

_TRANSPORTS = {"tcp": Protocol.TCP, "udp": Protocol.UDP, "sctp": Protocol.SCTP}
_PROTOCOL = frozenset({*_TRANSPORTS, "destinationNamedPort"})


def only_field(fields: JsonObject, known: frozenset[str], path: str, errors: Errors) -> str:
    """The name of the only field; "" where there is not exactly one, or an unknown one, which is an error.

    No field at all may be one of a newer version that the API server left out.
    """
    check_known_fields(fields, known, path, errors)
    given = [name for name in sorted(known) if fields.get(name) is not None]
    if len(given) == 1 and fields.keys() <= known:
        return given[0]
    if fields.keys() <= known:
        errors.append(FieldError(path, f"must have exactly one of {', '.join(sorted(known))}"))
    return ""


def named_port(value: object, path: str, errors: Errors) -> tuple[PortSpec, ...]:
    """A container port by its name, whatever its protocol."""
    if not isinstance(value, str):
        errors.append(FieldError(path, not_a_string(value)))
    elif error := port_name_error(value):
        errors.append(FieldError(path, f"{quote(value)} {error}"))
    else:
        return tuple(PortSpec(protocol, value) for protocol in Protocol)
    return ()


def port_range(fields: JsonObject, protocol: Protocol, path: str, errors: Errors) -> tuple[PortSpec, ...]:
    """The ports from `start` to `end`, which must be larger."""
    start, end = fields.get("start"), fields.get("end")
    for name, value in (("start", start), ("end", end)):
        if error := "is required" if value is None else port_number_error(value):
            errors.append(FieldError(f"{path}.{name}", error))
            return ()
    if isinstance(start, int) and isinstance(end, int) and start < end:
        return (PortSpec(protocol, start, end),)
    errors.append(FieldError(f"{path}.end", "must be larger than start"))
    return ()


def protocol_entry(fields: JsonObject, path: str, errors: Errors) -> tuple[PortSpec, ...]:
    """One entry of `protocols`. An object without a known field may have had an unknown one, so it is an error."""
    given = only_field(fields, _PROTOCOL, path, errors)
    if given == "destinationNamedPort":
        return named_port(fields[given], f"{path}.{given}", errors)
    if not given:
        return ()
    value, path = fields[given], f"{path}.{given}"
    if not isinstance(value, dict):
        errors.append(FieldError(path, f"must be an object, not {describe(value)}"))
        return ()
    if not only_field(value, frozenset({"destinationPort"}), path, errors):
        return ()
    return _destination_port(value["destinationPort"], _TRANSPORTS[given], f"{path}.destinationPort", errors)


def _destination_port(fields: object, protocol: Protocol, path: str, errors: Errors) -> tuple[PortSpec, ...]:
    if not isinstance(fields, dict):
        errors.append(FieldError(path, f"must be an object, not {describe(fields)}"))
        return ()
    given = only_field(fields, frozenset({"number", "range"}), path, errors)
    value, where = fields.get(given), f"{path}.{given}"
    if given == "number":
        if error := port_number_error(value):
            errors.append(FieldError(where, error))
        return (PortSpec(protocol, value),) if isinstance(value, int) and not error else ()
    if given != "range":
        return ()
    if not isinstance(value, dict):
        errors.append(FieldError(where, f"must be an object, not {describe(value)}"))
        return ()
    check_known_fields(value, frozenset({"start", "end"}), where, errors)
    return port_range(value, protocol, where, errors)
