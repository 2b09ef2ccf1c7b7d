"""The flows of one bridge as the pieces that want them: the bridge itself and each port, by a number.

Pieces may want the same flow, as ports of one MAC address do: then it is that of the piece with the smallest number,
and it stays for as long as any of them is there. A change costs the flows of the piece that changes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from flows.wire.values import Body, FlowKey


class Pieces:
    """`flows` are those that stand; `take` says what of them came, went or differs since it was asked last."""

    __slots__ = ("_before", "_keys", "_owners", "_shared", "flows")

    def __init__(self) -> None:
        self.flows: dict[FlowKey, Body] = {}
        self._keys: dict[int, tuple[FlowKey, ...]] = {}
        self._shared: dict[FlowKey, dict[int, Body]] = {}  # flows that several pieces want
        # Whose a flow is. Nearly no bridge has flows that several want; it is made where the first one shows.
        self._owners: dict[FlowKey, int] | None = None
        self._before: dict[FlowKey, Body | None] = {}  # what `take` handed out last, of all that was touched since

    def put(self, piece: int, keys: tuple[FlowKey, ...], bodies: Iterable[Body]) -> None:
        """The flows of a piece are these now."""
        old = self._keys.get(piece)
        if old is not None and old != keys:
            self.drop(piece)
            old = None
        if old is None:
            self._keys[piece] = keys
            if self._add_all(keys, bodies):
                return
        for key, body in zip(keys, bodies, strict=True):
            self._want(piece, key, body, is_new=old is None)

    def _add_all(self, keys: Collection[FlowKey], bodies: Iterable[Body]) -> bool:
        """Add flows that nobody has; False where that is not so, or not known."""
        flows, earlier = self.flows, self._before
        if self._owners is not None or not (flows.keys().isdisjoint(keys) and earlier.keys().isdisjoint(keys)):
            return False
        flows.update(zip(keys, bodies, strict=True))
        earlier.update(dict.fromkeys(keys))
        return True

    def _want(self, piece: int, key: FlowKey, body: Body, is_new: bool) -> None:
        rivals = self._shared.get(key) if self._shared else None
        if rivals is None and is_new and key in self.flows:
            other = self._owner(key, piece)
            if other is not None and other != piece:
                rivals = self._shared[key] = {other: self.flows[key]}
        if rivals is not None:
            rivals[piece] = body
            body = rivals[min(rivals)]
        elif self._owners is not None:
            self._owners[key] = piece
        self._write(key, body)

    def _owner(self, key: FlowKey, asking: int) -> int | None:
        """Whose a flow is that stands already; None where it is no piece's."""
        if self._owners is None:
            # What the one that asks has put so far is its own; of the rest, others' comes first.
            self._owners = dict.fromkeys(self._keys[asking], asking)
            self._owners.update((k, piece) for piece, keys in self._keys.items() if piece != asking for k in keys)
        return self._owners.pop(key, None)

    def _write(self, key: FlowKey, body: Body | None) -> None:
        before = self.flows.get(key)
        if before is body or before == body:
            return
        self._before.setdefault(key, before)
        if body is None:
            del self.flows[key]
        else:
            self.flows[key] = body

    def drop(self, piece: int) -> None:
        """A piece is gone, and the flows that nobody else wants with it."""
        keys = self._keys.pop(piece, ())
        if not self._shared and self._owners is None:
            flows, earlier = self.flows, self._before
            for key in keys:
                earlier.setdefault(key, flows.pop(key, None))
            return
        for key in keys:
            self._leave(piece, key)

    def _leave(self, piece: int, key: FlowKey) -> None:
        rivals = self._shared.get(key)
        if rivals is None:
            if self._owners is not None:
                self._owners.pop(key, None)
            self._write(key, None)
            return
        rivals.pop(piece, None)
        first = min(rivals)
        self._write(key, rivals[first])
        if len(rivals) == 1:
            del self._shared[key]
            if self._owners is not None:
                self._owners[key] = first

    def keys(self, piece: int) -> tuple[FlowKey, ...]:
        """The flows that a piece wants."""
        return self._keys.get(piece, ())

    def write_all(self, changes: Mapping[FlowKey, Body | None]) -> None:
        """Flows that are no piece's are these now, or gone."""
        flows, earlier = self.flows, self._before
        # As `_write` does, without a call for each of very many flows.
        for key, body in changes.items():
            before = flows.get(key)
            if before is body or before == body:
                continue
            if key not in earlier:
                earlier[key] = before
            if body is None:
                del flows[key]
            else:
                flows[key] = body

    def take(self) -> dict[FlowKey, Body | None]:
        """The keys of `flows` that came, went or differ since the last call, with what was there before."""
        flows, earlier = self.flows, self._before
        self._before = {}
        return {key: before for key, before in earlier.items() if flows.get(key) != before}
