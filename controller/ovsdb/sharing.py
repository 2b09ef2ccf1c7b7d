"""What replicas share of OVSDBs: all of them read all, and each writes to those that it was told to.

Decided by `controller.reconcile.roles`; kept here for the threads of all connections. The lock of the OVSDB server
makes sure of it (`connection`): a replica that writes has the lock, and the server checks that with every transaction.
"""

from __future__ import annotations

from collections.abc import Iterable


class Sharing:
    """`others` are the OpenFlow targets of the other replicas. Every method may be called from any thread.

    Without replicas (`shared` is False) everything is written to, and connections without the lock do not publish.
    """

    def __init__(self, shared: bool = False) -> None:
        self._ovsdbs: frozenset[str] | None = frozenset() if shared else None
        self._primary: frozenset[str] = frozenset()
        self.others: tuple[str, ...] = ()

    def write_to(self, ovsdbs: frozenset[str] | None, primary: frozenset[str]) -> frozenset[str] | None:
        """From now on write to these, None: to all; the switches of `primary` have this replica as their primary.

        Returns those of which either is new, or was; None: any.
        """
        old, self._ovsdbs, self._primary = (self._ovsdbs, self._primary), ovsdbs, primary
        return None if ovsdbs is None or old[0] is None else (old[0] ^ ovsdbs) | (old[1] ^ primary)

    def set_others(self, targets: Iterable[str]) -> bool:
        """The other replicas' OpenFlow targets; returns whether they differ from those before."""
        before, self.others = self.others, tuple(sorted(set(targets)))
        return before != self.others

    @property
    def shared(self) -> bool:
        """Whether there may be other replicas."""
        return self._ovsdbs is not None

    def may_write(self, ovsdb: str) -> bool:
        """Whether to write to an OVSDB."""
        return self._ovsdbs is None or ovsdb in self._ovsdbs

    def may_steal(self, ovsdb: str) -> bool:
        """Whether to take the lock from whoever has it: the switch has said that nobody else is its primary."""
        return ovsdb in self._primary
