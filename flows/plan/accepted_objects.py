"""The newest snapshot of the cluster in a policy engine and an index of Services, as far as these accept its objects.

An object whose handling raises is rejected (see `rejected_objects`), and both, which may then be between two states,
are filled again without it. In mode `flat` the index stays empty. What bridges make of the objects must not live here:
only their ports' addresses come in, for pods whose status has none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flows.bridge.leaving_pods import LeavingPods
from flows.bridge.node_addresses import NodeAddresses
from flows.bridge.routing import NetworkMode
from flows.cluster.model import CLUSTER_NETWORK_POLICY, NETWORK_POLICY, AuditMode, Cluster, Key, Pod
from flows.cluster.net import Net
from flows.cluster.objects import CLUSTER_KINDS, objects_of_kind
from flows.plan.effective_cluster import EffectiveParts
from flows.plan.rejected_objects import RejectedObjects
from flows.policy.engine import PolicyEngine
from flows.services.index import ServiceIndex

MAX_LOAD_ATTEMPTS = 4  # until all objects that cannot be accepted are found


class WorldError(Exception):
    """The cluster cannot be loaded, and no single object can be named as the reason."""


class AcceptedObjects:
    """`cluster` is the newest snapshot, None before the first; `engine` and `services` have what is accepted of it.

    While `must_reload`, they may be between two states: nothing is put into them until `load`.
    """

    def __init__(self, network: NetworkMode = NetworkMode.FLAT, audit: AuditMode = AuditMode.OFF) -> None:
        self._with_services = network is not NetworkMode.FLAT
        self._with_tunnels = network is NetworkMode.OVERLAY
        self._audit = audit
        self.cluster: Cluster | None = None
        self.rejected = RejectedObjects()
        self.reset()

    def reset(self) -> None:
        """Forget all but the snapshot and the rejected objects."""
        self.engine = PolicyEngine(self._audit)
        self._node_addresses: Mapping[str, tuple[Net, ...]] = {}
        self.services = self._new_index()
        self.leaving = LeavingPods()
        self.node_addresses = NodeAddresses()
        self.must_reload = False
        self._accepted: Cluster | None = None
        self._port_addresses: dict[Key, tuple[Net, ...]] = {}  # of pods whose status has none

    def _new_index(self) -> ServiceIndex:
        index = ServiceIndex(self._with_tunnels)
        index.set_node_addresses(self._node_addresses)
        return index

    def set_node_addresses(self, addresses: Mapping[str, tuple[Net, ...]]) -> None:
        """The addresses that nodes have for each other: where host ports are."""
        self._node_addresses = addresses
        self.services.set_node_addresses(addresses)

    @property
    def accepted(self) -> Cluster:
        """The snapshot as far as it is accepted; empty before the first."""
        if self._accepted is None:
            self._accepted = self.rejected.accepted(self.cluster or Cluster())
        return self._accepted

    def set_snapshot(self, cluster: Cluster) -> Cluster | None:
        """Keep a newer snapshot; returns the one before. The caller then loads it, or puts what differs."""
        old, self.cluster = self.cluster, cluster
        self._accepted = None
        return old

    def readmit(self, kind: str, key: Key | str) -> bool:
        """An object has changed: accept it again if it was rejected. Returns whether it was."""
        again = bool(self.rejected.reasons) and self.rejected.readmit(kind, key)
        if again:
            self._accepted = None
        return again

    def load(self) -> None:
        """Fill an empty engine and index, without the objects that they cannot accept.

        Raises WorldError.
        """
        for _ in range(MAX_LOAD_ATTEMPTS):
            try:
                self.engine = PolicyEngine(self._audit)
                self.engine.load(self.accepted)
                self.services = self._new_index()
                for kind in ("Service", "EndpointSlice"):
                    for name in objects_of_kind(self.accepted, kind):
                        self._put(kind, name, objects_of_kind(self.accepted, kind)[name])
                self.leaving = LeavingPods()
                self.node_addresses.mark_all_doubtful()
                for key, pod in self.accepted.pods.items():
                    if pod.terminating:
                        self.leaving.set_pod(key, pod)
                    if pod.host_ports and self._with_services:
                        self.services.put_pod(key, pod)
                self.must_reload = False
                return
            except Exception:  # noqa: BLE001 - one object must not keep out all others
                if not self._reject_one_by_one():
                    return
        self.must_reload = True
        raise WorldError("objects still could not be accepted after several attempts")

    def _reject_one_by_one(self) -> bool:
        """Put one object after the other into a new engine, and reject those that raise; whether there was any."""
        self.engine = PolicyEngine(self._audit)
        self.services = self._new_index()
        accepted, count = self.accepted, 0
        for kind in CLUSTER_KINDS:
            for key, value in list(objects_of_kind(accepted, kind).items()):
                try:
                    self._put(kind, key, value)
                except Exception as error:  # noqa: BLE001 - as above
                    self.reject(kind, key, error)
                    count += 1
        return count > 0

    def reject(self, kind: str, key: Key | str, error: BaseException) -> None:
        """Handling an object raised: it is left out, and all is to be loaded again."""
        self.rejected.add(kind, key, error)
        self._accepted = None
        self.must_reload = True

    def put_newest(self, kind: str, key: Key | str, newest: Any) -> None:
        """As `put`, of an object that is like this in the snapshot; None where it is not there."""
        if self.rejected.reasons:
            self.put(kind, key)
            return
        try:
            self._put(kind, key, newest)
        except Exception as error:  # noqa: BLE001 - one object must not keep out others
            self.reject(kind, key, error)

    def put(self, kind: str, key: Key | str) -> None:
        """Give the engine or the index an object as it is now, or its absence. It is rejected if that raises."""
        try:
            self._put(kind, key, objects_of_kind(self.accepted, kind).get(key))
        except Exception as error:  # noqa: BLE001 - as above
            self.reject(kind, key, error)

    def _put(self, kind: str, key: Key | str, new: Any) -> None:
        """`new` is of the kind, or None."""
        engine = self.engine
        if isinstance(key, str):
            if kind == "Namespace":
                labels, audit = (new.labels, new.audit) if new is not None else (None, None)
                engine.put_namespace(key, labels, audit)
            elif kind == "Node":
                engine.remove_node(key) if new is None else engine.put_node(new)
        elif kind == "Pod":
            self._put_pod(engine, key, new)
        elif kind == NETWORK_POLICY:
            engine.remove_policy(key) if new is None else engine.put_policy(new)
        elif kind == CLUSTER_NETWORK_POLICY:
            engine.remove_cluster_policy(key) if new is None else engine.put_cluster_policy(new)
        elif self._with_services:
            (self.services.put_service if kind == "Service" else self.services.put_slice)(key, new)

    def _put_pod(self, engine: PolicyEngine, key: Key, pod: Pod | None) -> None:
        leaving = self.leaving
        if leaving.addresses or (pod is not None and pod.terminating):
            leaving.set_pod(key, pod)
        matters = bool(leaving.addresses or self.node_addresses.bridges)  # which addresses pods have
        if matters:
            self._mark_doubtful(key, _addresses_in(engine, key))
        if pod is None:
            engine.remove_pod(key)
        else:
            if not pod.addresses and key in self._port_addresses:
                pod = pod._replace(addresses=self._port_addresses[key])
            if leaving.yielded and (yielded := leaving.yielded.get(key)):
                pod = pod._replace(addresses=tuple(net for net in pod.addresses if net not in yielded))
            engine.put_pod(pod)
            if matters:
                self._mark_doubtful(key, pod.addresses)
        if self._with_services:
            self.services.put_pod(key, pod)

    def _mark_doubtful(self, key: Key, addresses: tuple[Net, ...]) -> None:
        """A pod has or had these addresses."""
        self.leaving.mark_doubtful(key, addresses)
        self.node_addresses.mark_doubtful(addresses)

    def effective_parts(self, node_addresses: Mapping[str, tuple[Net, ...]]) -> EffectiveParts:
        """What the effective cluster is made of, with what bridges add to the addresses of nodes."""
        return EffectiveParts(self.accepted, dict(self._port_addresses), dict(self.leaving.yielded), node_addresses)

    # -- pods' addresses ---------------------------------------------------------------------------------------------

    def set_port_addresses(self, key: Key, addresses: tuple[Net, ...]) -> None:
        """The addresses that OVSDB gives a pod whose status has none; () for any other pod."""
        if self._port_addresses.get(key, ()) == addresses:
            return
        if addresses:
            self._port_addresses[key] = addresses
        else:
            del self._port_addresses[key]
        self.put("Pod", key)

    @property
    def has_port_addresses(self) -> bool:
        """Whether any pod has the addresses of its port."""
        return bool(self._port_addresses)

    def mark_moved(self, keys: Iterable[Key]) -> None:
        """Ports of these pods came or went: their addresses may be other pods' now."""
        for key in keys:
            self.leaving.mark_doubtful(key, _addresses_in(self.engine, key))

    @property
    def has_doubtful_addresses(self) -> bool:
        """Whether `yield_addresses` or the addresses of nodes may have something to decide."""
        return bool(self.leaving.doubtful or self.node_addresses.doubtful)

    def yield_addresses(self, has_port: Callable[[Key], bool]) -> None:
        """Take addresses from terminating pods without a port, where a pod with a port has the same."""
        engine = self.engine
        for key in self.leaving.decide(has_port, lambda net: [pod.key for pod in engine.pods_with_address(net)]):
            self.put("Pod", key)

    def has_pod_with(self, address: Net) -> bool:
        """Whether any pod has an address."""
        return self.engine.has_pod_with(address)


def _addresses_in(engine: PolicyEngine, key: Key) -> tuple[Net, ...]:
    pod = engine.pod(key)
    return () if pod is None else pod.addresses
