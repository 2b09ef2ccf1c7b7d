"""The flows, or groups, of one switch: those desired, and where the actual ones differ from them.

What a switch has is nearly always what is desired, so no second copy is kept: only the differences, by key, with the
body that the switch has (None for none). This module computes the changes that make the actual flows equal to the
desired ones; `switch` decides when to send them.

Example. Desired are {a: 1, b: 2}; a dump says that the switch has {a: 1, b: 3, c: 4}. `differences` is {b: 3, c: 4},
and `bundle_changes` modifies b to 2 and deletes c. Once that is committed, `record` empties `differences`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Generic, TypeVar

from flows.wire.values import Body, FlowChanges, FlowKey, WireFlow, wire_flow

_Key = TypeVar("_Key")
_Body = TypeVar("_Body")


@dataclass(slots=True)
class SwitchState(Generic[_Key, _Body]):
    """`desired` may be a mapping that its owner changes in place, and reports through `follow`.

    While `dump_is_current`, `differences` are those of the actual flows or groups. While the switch is being dumped
    they are the changes of the desired ones since the dump was requested, with the bodies of that moment. Otherwise
    they mean nothing.
    """

    desired: dict[_Key, _Body] = field(default_factory=dict)
    differences: dict[_Key, _Body | None] = field(default_factory=dict)
    dump_is_current: bool = False

    def follow(self, changed: Mapping[_Key, _Body | None]) -> None:
        """`desired` has changed: keys, and the bodies before."""
        for key, before in changed.items():
            actual = self.differences.setdefault(key, before)
            if actual == self.desired.get(key):
                del self.differences[key]

    def start_dump(self) -> dict[_Key, _Body]:
        """A dump is requested. Returns what the switch should have: the dump is compared with this copy."""
        self.dump_is_current = self.dump_is_current and not self.differences
        self.differences = {}
        return dict(self.desired)  # `desired` changes while another thread compares

    def record(self, found: Mapping[_Key, _Body | None]) -> None:
        """The switch has these; None for none."""
        for key, body in found.items():
            if self.desired.get(key) == body:
                self.differences.pop(key, None)
            else:
                self.differences[key] = body

    def actual_of(self, key: _Key) -> _Body | None:
        """The actual one with this key; None where there is none, or it is not known."""
        return self.differences.get(key, self.desired.get(key)) if self.dump_is_current else None

    def actual(self) -> Iterator[tuple[_Key, _Body]] | None:
        """The actual ones; None when they are not known."""
        if not self.dump_is_current:
            return None
        same = ((key, body) for key, body in self.desired.items() if key not in self.differences)
        return chain(same, ((key, body) for key, body in self.differences.items() if body is not None))

    @property
    def actual_count(self) -> int | None:
        """How many there are; None when that is not known."""
        if not self.dump_is_current:
            return None
        different = sum(body is not None for body in self.differences.values())
        return len(self.desired) - len(self.desired.keys() & self.differences.keys()) + different


class FlowState(SwitchState[FlowKey, Body]):
    """The flows of a switch."""

    __slots__ = ()

    def bundle_changes(self) -> tuple[FlowChanges, dict[FlowKey, Body | None]]:
        """What makes the actual flows the desired ones; and the same as what the switch has afterwards."""
        adds: list[WireFlow] = []
        modifies: list[WireFlow] = []
        deletes: list[WireFlow] = []
        after: dict[FlowKey, Body | None] = {}
        for key, actual in self.differences.items():
            body = after[key] = self.desired.get(key)
            if body is not None and actual is not None and body.cookie == actual.cookie:
                modifies.append(wire_flow(key, body))
                continue
            # A modify keeps the cookie (OpenFlow 1.4, 6.4), so a flow with another one is deleted and added.
            if actual is not None:
                deletes.append(wire_flow(key, actual))
            if body is not None:
                adds.append(wire_flow(key, body))
        return FlowChanges(tuple(adds), tuple(modifies), tuple(deletes)), after
