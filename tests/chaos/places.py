"""Where each pod is, as a value: what the oracle judges by and the prober sends from. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from topology.spec.address import LabEndpoint, mac_of
from topology.spec.model import Topology


class Place(NamedTuple):
    """A pod's life on a node, with its addresses by family. A pod that comes again has another `life`, wherever it is:
    nothing that was sent to the one before reaches it.
    """

    node: str
    addresses: tuple[tuple[int, str], ...]
    life: int = 0

    def endpoint(self, of: LabEndpoint) -> LabEndpoint:
        """The pod's endpoint here; name and network namespace are those of `of`."""
        addresses = dict(self.addresses)
        return LabEndpoint(of.name, of.netns, mac_of(of.name, addresses), addresses)

    def address(self, family: int) -> str:
        """The address of a family."""
        return dict(self.addresses)[family]


Places = Mapping[str, Place]  # of the pods that are there, by key


def first_places(topology: Topology, endpoints: Mapping[str, LabEndpoint]) -> dict[str, Place]:
    """All pods where a topology has them."""
    return {pod.key: Place(pod.node, tuple(sorted(endpoints[pod.key].addresses.items()))) for pod in topology.pods}


class Addresses:
    """Addresses for pods that move: one that another pod has left is used before a new one, once `rest` seconds have
    passed, so that no probe to the pod before is under way any more.
    """

    def __init__(self, new: Mapping[int, str], rest: float) -> None:
        """`new` has the prefix of new addresses for each family; a number follows."""
        self._new, self._rest = new, rest
        self._left: list[tuple[float, tuple[tuple[int, str], ...]]] = []
        self._count = 0

    def leave(self, addresses: tuple[tuple[int, str], ...], now: float) -> None:
        """A pod has left these."""
        self._left.append((now, addresses))

    def come(self, addresses: tuple[tuple[int, str], ...]) -> None:
        """A pod has these again."""
        self._left = [one for one in self._left if one[1] != addresses]

    def take(self, now: float, but: tuple[tuple[int, str], ...]) -> tuple[tuple[int, str], ...]:
        """Those of another pod that are free for long enough, or new ones; never `but`."""
        for one in self._left:
            if one[1] != but and now - one[0] >= self._rest:
                self._left.remove(one)
                return one[1]
        self._count += 1
        return tuple((family, f"{prefix}{self._count}") for family, prefix in sorted(self._new.items()))
