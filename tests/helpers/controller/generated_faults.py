"""Faults that nobody wrote down: every function of some rooms that is called with a certain object can be made to raise
whenever it is.

`functions_about` runs something and finds them; `raising` makes one of them raise inside a block.
"""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from flows.bridge.state import BridgeState
from flows.cluster.model import EndpointSlice, Key

ROOMS = ("flows.", "controller.reconcile.")
_MOST = 8  # elements of a collection that is looked into: a function that takes all objects concerns all of them
_DEPTH = 4
_NAMING = ("key", "name", "service", "served", "node", "claim")


class Found(NamedTuple):
    """A function: the module or class that has it, and its name there."""

    owner: Any
    name: str
    function: Any

    def __str__(self) -> str:
        return f"{self.owner.__name__}.{self.name}"


Culprit = Callable[[object], bool]


def functions_about(wanted: object, run: Callable[[], object]) -> list[Found]:
    """The functions that are called with `wanted` while `run` runs."""
    seen: dict[str, Found] = {}

    def note(found: Found, arguments: tuple[object, ...]) -> None:
        if str(found) not in seen and any(_names(one, wanted, _DEPTH) for one in arguments):
            seen[str(found)] = found

    undo: list[tuple[Any, str, Any]] = []
    try:
        for found in list(_functions()):
            _replace(found, functools.partial(note, found), undo)
        run()
    finally:
        _restore(undo)
    return [seen[name] for name in sorted(seen)]


@contextmanager
def raising(found: Found, wanted: object, error: Exception) -> Iterator[list[int]]:
    """Inside the block the function raises when it is called with `wanted`. Yields a list that grows with each time."""
    raised: list[int] = []

    def refuse(arguments: tuple[object, ...]) -> None:
        if any(_names(one, wanted, _DEPTH) for one in arguments):
            raised.append(1)
            raise error

    undo: list[tuple[Any, str, Any]] = []
    try:
        _replace(found, refuse, undo)
        yield raised
    finally:
        _restore(undo)


def _functions() -> Iterator[Found]:
    for name, module in list(sys.modules.items()):
        if not name.startswith(ROOMS):
            continue
        for own, value in list(vars(module).items()):
            if getattr(value, "__module__", None) != name:
                continue
            if isinstance(value, types.FunctionType):
                yield Found(module, own, value)
            elif isinstance(value, type):
                for attribute, function in list(vars(value).items()):
                    if isinstance(function, types.FunctionType | staticmethod) and not attribute.startswith("__"):
                        yield Found(value, attribute, function)


def _replace(found: Found, first: Callable[[tuple[object, ...]], None], undo: list[tuple[Any, str, Any]]) -> None:
    """Have `first` called with all arguments, but `self`, before the function."""
    is_method = isinstance(found.owner, type) and isinstance(found.function, types.FunctionType)
    real = found.function.__func__ if isinstance(found.function, staticmethod) else found.function

    @functools.wraps(real)
    def instead(*arguments: Any, **named: Any) -> Any:
        first((*(arguments[1:] if is_method else arguments), *named.values()))
        return real(*arguments, **named)

    new = staticmethod(instead) if isinstance(found.function, staticmethod) else instead
    owners: list[Any] = [found.owner]
    if not isinstance(found.owner, type):  # other modules have it under the same name
        owners = [one for name, one in list(sys.modules.items()) if name.startswith(ROOMS)]
    for owner in owners:
        if vars(owner).get(found.name) is found.function:
            undo.append((owner, found.name, found.function))
            setattr(owner, found.name, new)


def _restore(undo: list[tuple[Any, str, Any]]) -> None:
    for owner, name, function in undo:
        setattr(owner, name, function)


def _names(value: object, wanted: object, depth: int) -> bool:
    """Whether a value is the object's name, or that of something that is about this object alone."""
    if type(value) is type(wanted) and value == wanted:
        return True
    if depth == 0 or value is None or isinstance(value, str | bytes | int | float):
        return False
    if isinstance(value, list | tuple | set | frozenset | dict) and not hasattr(value, "_fields"):
        return len(value) <= _MOST and any(_names(one, wanted, depth - 1) for one in list(value))
    if isinstance(value, BridgeState):
        return wanted in ((value.ovsdb, value.name), value.node)
    if isinstance(value, EndpointSlice):
        return Key(value.key.namespace, value.service) == wanted
    inner = (getattr(value, name, None) for name in _NAMING)
    return any(_names(one, wanted, depth - 1) for one in inner if not callable(one))
