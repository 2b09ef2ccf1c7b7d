"""The desired groups of one bridge, beside its flows, and what changed since they were taken.

Which groups there are is decided by whoever puts them here. Bridges that have the same group share its bytes: encode it
once (`flows.wire.groups.encode_group`), and put the same body into each.

Example. `put(0x48000007, b1)`, and `take` returns {0x48000007: None}, the body before. After `put(0x48000007, b2)` it
returns {0x48000007: b1}.
"""

from __future__ import annotations

from flows.wire.values import GroupBody


class BridgeGroups:
    """`desired` are the bodies by group id. It stays the same mapping, and changes in place. `names` are those that an
    operator is shown, such as `Service ns/name:port`, where there is one."""

    __slots__ = ("_before", "desired", "names")

    def __init__(self) -> None:
        self.desired: dict[int, GroupBody] = {}
        self.names: dict[int, str] = {}
        self._before: dict[int, GroupBody | None] = {}  # of groups written since `take`: the bodies then

    @property
    def changed(self) -> bool:
        """Whether `take` may have something to return."""
        return bool(self._before)

    def put(self, number: int, body: GroupBody, name: str = "") -> None:
        """The group with this id has this body and name now."""
        if name:
            self.names[number] = name
        before = self.desired.get(number)
        if before != body:
            self._before.setdefault(number, before)
            self.desired[number] = body

    def drop(self, number: int) -> None:
        """There is no group with this id any more."""
        self.names.pop(number, None)
        before = self.desired.pop(number, None)
        if before is not None:
            self._before.setdefault(number, before)

    def take(self) -> dict[int, GroupBody | None]:
        """The ids of groups that came, went or differ since the last call, with the body before; None for no group."""
        earlier, self._before = self._before, {}
        return {number: before for number, before in earlier.items() if self.desired.get(number) != before}
