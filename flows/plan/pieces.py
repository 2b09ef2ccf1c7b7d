"""The flows of one bridge by the pieces that they belong to, and what changed since they were taken.

Two pieces may have the same key, as two ports with one MAC address do: the flow is then that of the piece with the
smaller number, and it stays while either is there. A change costs the flows of the piece that changes. What a piece is
and which flows it has is decided in `bridge_plan`.

The pieces of a first plan wait until one is put again or dropped, or until the flows are asked for. Then all are put at
once, which is quicker than one by one.

Example. Ports 3 and 5 both want key k, with bodies b3 and b5: `flows[k]` is b3. When port 3 is dropped, `flows[k]`
becomes b5, and `take` returns {k: b3} for it, the body before.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain
from typing import cast

from flows.wire.values import Body, FlowKey


class AllNew(Mapping[FlowKey, None]):
    """Changes by which all of these flows came. A view, for a first plan has very many: it follows the flows."""

    __slots__ = ("_flows",)

    def __init__(self, flows: Mapping[FlowKey, Body]) -> None:
        self._flows = flows

    def __getitem__(self, key: FlowKey) -> None:
        self._flows[key]

    def __iter__(self) -> Iterator[FlowKey]:
        return iter(self._flows)

    def __len__(self) -> int:
        return len(self._flows)


class Pieces:
    """`flows` are the flows of all pieces, and those of `write_all`, once `take` was called."""

    __slots__ = ("_before", "_keys", "_owners", "_shared", "_waiting", "flows")

    def __init__(self) -> None:
        self.flows: dict[FlowKey, Body] = {}
        # The bodies of pieces that wait; None once they were put. Those that wait are in `_keys` too, and no other is.
        self._waiting: dict[int, Collection[Body]] | None = {}
        self._keys: dict[int, tuple[FlowKey, ...]] = {}
        self._shared: dict[FlowKey, dict[int, Body]] = {}  # keys of several pieces: body by piece
        # The piece of each key that one piece has. Hardly any bridge has shared keys, so this is made with the first.
        self._owners: dict[FlowKey, int] | None = None
        # Of keys written since `take`: the bodies then. None before the first `take`: there were no flows.
        self._before: dict[FlowKey, Body | None] | None = None

    def put(self, piece: int, keys: tuple[FlowKey, ...], bodies: Collection[Body]) -> None:
        """The flows of a piece are these now: keys, and as many bodies."""
        waiting = self._waiting
        if waiting is not None:
            if piece not in waiting:
                self._keys[piece], waiting[piece] = keys, bodies
                return
            self._put_waiting()
        old = self._keys.get(piece)
        if old is not None and old != keys:
            self.drop(piece)
            old = None
        if old is None:
            self._keys[piece] = keys
            if self._add_all(keys, bodies):
                return
        for key, body in zip(keys, bodies, strict=True):
            self._put_flow(piece, key, body, is_new=old is None)

    def _put_waiting(self) -> None:
        """Put the pieces that wait, all at once if no two have a key in common."""
        waiting, self._waiting = self._waiting, None
        if not waiting:
            return
        flows, pieces = self.flows, self._keys
        flows.update(zip(chain.from_iterable(pieces.values()), chain.from_iterable(waiting.values()), strict=True))
        if len(flows) == sum(map(len, pieces.values())):
            return
        flows.clear()
        self._keys = {}
        for piece, bodies in waiting.items():
            self.put(piece, pieces[piece], bodies)

    def _add_all(self, keys: Collection[FlowKey], bodies: Iterable[Body]) -> bool:
        """Add flows at once if no piece has any of them; False where one may."""
        flows, earlier = self.flows, self._before
        if self._owners is not None or not flows.keys().isdisjoint(keys):
            return False
        if earlier is not None:
            if not earlier.keys().isdisjoint(keys):
                return False
            earlier.update(dict.fromkeys(keys))
        flows.update(zip(keys, bodies, strict=True))
        return True

    def _put_flow(self, piece: int, key: FlowKey, body: Body, is_new: bool) -> None:
        sharers = self._shared.get(key) if self._shared else None
        if sharers is None and is_new and key in self.flows:
            other = self._take_owner(key, piece)
            if other is not None and other != piece:
                sharers = self._shared[key] = {other: self.flows[key]}
        if sharers is not None:
            sharers[piece] = body
            body = sharers[min(sharers)]
        elif self._owners is not None:
            self._owners[key] = piece
        self._write(key, body)

    def _take_owner(self, key: FlowKey, asking: int) -> int | None:
        """The piece that has a key already, None for a key of no piece. The caller notes the new owner."""
        if self._owners is None:
            # The keys of `asking` are its own, except where another piece has them too.
            self._owners = dict.fromkeys(self._keys[asking], asking)
            self._owners.update((k, piece) for piece, keys in self._keys.items() if piece != asking for k in keys)
        return self._owners.pop(key, None)

    def _write(self, key: FlowKey, body: Body | None) -> None:
        before = self.flows.get(key)
        if before is body or before == body:
            return
        if self._before is not None:
            self._before.setdefault(key, before)
        if body is None:
            del self.flows[key]
        else:
            self.flows[key] = body

    def drop(self, piece: int) -> None:
        """A piece is gone, and its flows with it, except those that another piece has too."""
        if self._waiting is not None:
            self._put_waiting()
        keys = self._keys.pop(piece, ())
        if not self._shared and self._owners is None:
            flows, earlier = self.flows, self._before
            for key in keys:
                before = flows.pop(key, None)
                if earlier is not None:
                    earlier.setdefault(key, before)
            return
        for key in keys:
            self._drop_flow(piece, key)

    def _drop_flow(self, piece: int, key: FlowKey) -> None:
        sharers = self._shared.get(key)
        if sharers is None:
            if self._owners is not None:
                self._owners.pop(key, None)
            self._write(key, None)
            return
        sharers.pop(piece, None)
        first = min(sharers)
        self._write(key, sharers[first])
        if len(sharers) == 1:
            del self._shared[key]
            if self._owners is not None:
                self._owners[key] = first

    def keys(self, piece: int) -> tuple[FlowKey, ...]:
        """The keys of a piece; none where there is no such piece."""
        return self._keys.get(piece, ())

    def write_all(self, changes: Mapping[FlowKey, Body | None]) -> None:
        """Flows that belong to no piece are these now, None for those that are gone."""
        if self._waiting is not None:
            self._put_waiting()
        flows, earlier = self.flows, self._before
        if earlier is None:
            flows.update(cast(Mapping[FlowKey, Body], changes))  # and now without those that are gone
            for key in [key for key, body in changes.items() if body is None]:
                del flows[key]
            return
        # As `_write` does, without a call for each of very many flows.
        for key, body in changes.items():
            before = flows.get(key)
            if before is body or before == body:
                continue
            if earlier is not None and key not in earlier:
                earlier[key] = before
            if body is None:
                del flows[key]
            else:
                flows[key] = body

    def take(self, changes: Mapping[FlowKey, Body | None]) -> Mapping[FlowKey, Body | None]:
        """The keys of `flows` that came, went or differ since the last call, after `write_all` of these changes.

        With each is the body before, None where there was no flow. The first call returns `AllNew`.
        """
        known_to_differ = self._before == {}  # as most often: only the rules of a bridge changed
        if changes:
            self.write_all(changes)
        elif self._waiting is not None:
            self._put_waiting()
        flows, earlier = self.flows, self._before
        if earlier is None:
            self._before = {}
            return AllNew(flows)
        if not earlier:
            return {}
        self._before = {}
        return earlier if known_to_differ else {key: old for key, old in earlier.items() if flows.get(key) != old}
