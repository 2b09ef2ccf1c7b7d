"""Parts of the standard library that the CNI plugin uses, without what they cost to import.

The plugin is started for every pod, and `typing`, `json`, `socket`, `signal` and `re` took more of that than all that
it does. Each of these is a C module with a layer of Python on it; where that C module is not there, the layer is taken.
Only what the plugin imports before its first step needs this (tests/node/test_start.py).
"""

from __future__ import annotations

import sys

__all__ = ["TYPE_CHECKING", "NamedTuple", "decode_json", "encode_json", "socket"]
TYPE_CHECKING = False  # as typing.TYPE_CHECKING
if TYPE_CHECKING:
    import socket
    from typing import Any, NamedTuple
else:
    try:
        import _socket

        socket = _socket
    except ImportError:
        import socket

    class _NamedTupleType(type):
        """Makes the class of a tuple whose elements have names, as `typing.NamedTuple` does."""

        def __new__(mcs, name, bases, namespace):
            if not bases:
                return super().__new__(mcs, name, (tuple,), namespace)
            fields = tuple(namespace["__annotations__"])
            defaults = {field: namespace[field] for field in fields if field in namespace}
            elements = {field: property(_element(number)) for number, field in enumerate(fields)}
            own = {**namespace, **elements, "__slots__": (), "_fields": fields, "_defaults": defaults}
            return super().__new__(mcs, name, (NamedTuple,), own)

    def _element(number):
        return lambda values: values[number]

    class NamedTuple(metaclass=_NamedTupleType):
        """The base of such classes."""

        __slots__ = ()

        def __new__(cls, *values, **named):  # noqa: D102
            fields, defaults = cls._fields, cls._defaults
            missing = fields[len(values) :]
            try:
                found = (*values, *[named.pop(one) if one in named else defaults[one] for one in missing])
            except KeyError as error:
                raise TypeError(f"{cls.__name__} needs {error}") from None
            if named or len(found) != len(fields):
                raise TypeError(f"{cls.__name__} has the fields {', '.join(fields)}")
            return tuple.__new__(cls, found)

        def _asdict(self):
            return dict(zip(self._fields, self))

        def _replace(self, **named):
            return type(self)(**{**self._asdict(), **named})

        def __repr__(self):
            pairs = (f"{name}={value!r}" for name, value in zip(self._fields, self))
            return f"{type(self).__name__}({', '.join(pairs)})"


def _scanner() -> Any:
    """A function of a text and a position: the JSON value that begins there, and where it ends."""
    from _json import make_scanner

    class Settings:
        strict = True
        object_hook = object_pairs_hook = None
        parse_float, parse_int, parse_constant = float, int, _refuse

    return make_scanner(Settings)  # type: ignore[arg-type]  # it reads these attributes, of whatever has them


def _refuse(text: str) -> None:
    raise ValueError(f"{text} is no JSON")


try:
    _scan = _scanner()
    from _json import encode_basestring_ascii as _quote
except ImportError:
    import json

    _scan, _quote = json.JSONDecoder().raw_decode, json.dumps
_BLANKS = " \t\n\r"


def decode_json(text: str) -> tuple[Any, str]:
    """The JSON value that a text begins with, and what follows it. Raises ValueError or RecursionError."""
    text = text.lstrip(_BLANKS)
    try:
        value, end = _scan(text, 0)
    except StopIteration:
        raise ValueError("this is no JSON") from None
    return value, text[end:].lstrip(_BLANKS)


def encode_json(value: object) -> str:
    """A value of texts, numbers, lists and the like as JSON. Raises TypeError for anything else."""
    if isinstance(value, str):
        return str(_quote(value))
    if value is None or value is True or value is False:
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float) and abs(value) <= sys.float_info.max:
        return float.__repr__(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join([encode_json(one) for one in value])}]"
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return f"{{{', '.join([f'{_quote(key)}: {encode_json(one)}' for key, one in value.items()])}}}"
    raise TypeError(f"{value!r} has no form in JSON")
