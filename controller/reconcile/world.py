"""The cluster and the bridges put together: which pods stand where, with which addresses, and which flows follow from
that.

A pod's addresses come from its status, else from its port on whatever switch has it. Everything is kept as it changes:
an event costs what it changes. No input or output here.
"""

from __future__ import annotations

from collections.abc import Iterable

from controller.reconcile.events import Body
from flows.attach import Attachment, BridgeState, Reading, pod_named, read_bridge
from flows.bridge_plan import BridgePlan
from flows.bridge_reader import BridgeReader
from flows.encoding import Encoder, FlowEncoder, FlowKey
from flows.engine import Change, Part, PolicyEngine
from flows.model import Cluster, Key, Pod
from flows.net import Net

BridgeName = tuple[str, str]  # the OVSDB's name and the bridge's
Plan = BridgePlan[Body]
Touched = tuple[str, Key | str]  # kind and key or name of an object that may have changed
KINDS = ("Namespace", "Pod", "Node", "NetworkPolicy")


class World:
    """The newest cluster and bridges, and the plan of each bridge.

    `by_dpid` names the bridges that claim a datapath id; more than one is a mistake, and only the first is served.
    """

    def __init__(self, encoder: Encoder[Body]) -> None:
        self.cluster: Cluster | None = None
        self.bridges: dict[BridgeName, BridgeState] = {}
        self.by_dpid: dict[int, tuple[BridgeName, ...]] = {}
        self.engine = PolicyEngine()
        self.encoder = encoder
        self._flow_encoder = FlowEncoder(encoder)
        self._plans: dict[BridgeName, Plan] = {}
        self._readings: dict[BridgeName, Reading] = {}
        self._readers: dict[BridgeName, BridgeReader] = {}
        self._stale: set[BridgeName] = set()  # bridges whose ports are to be read again
        self._changed: set[Key] = set()  # pods that are otherwise placed than when ports were read last
        self._named: dict[Key, tuple[BridgeName, ...]] = {}  # which bridges have a port that names a pod
        self._names: dict[BridgeName, frozenset[Key]] = {}
        self._addresses: dict[Key, tuple[Net, ...]] = {}  # of pods whose status has none
        self._refreshed: set[BridgeName] = set()  # bridges whose ports were read since the last settle
        self._ports: dict[BridgeName, dict[Key, Attachment]] = {}  # the pods on a bridge
        self._place: dict[Key, tuple[tuple[BridgeName, int], ...]] = {}  # the same, by pod: bridges and ofports
        self._where: dict[bytes, tuple[BridgeName, ...]] = {}  # the bridges that have subjects of a part

    # -- changes -----------------------------------------------------------------------------------------------------

    def set_cluster(self, cluster: Cluster, touched: Iterable[Touched] | None = None) -> bool:
        """A new snapshot. `touched` names what may differ from the last one; None has all of it compared.

        Returns whether anything differs.
        """
        old, self.cluster = self.cluster, cluster
        if old is None:
            self._load(cluster)
            return True
        changed = False
        for kind, key in _compare(old, cluster) if touched is None else touched:
            changed |= self._take(kind, key, old, cluster)
        return changed

    def _load(self, cluster: Cluster) -> None:
        self.engine.load(cluster)
        self._stale.update(self.bridges)

    def _take(self, kind: str, key: Key | str, old: Cluster, new: Cluster) -> bool:
        before, after = _objects(old, kind).get(key), _objects(new, kind).get(key)
        if before == after:
            return False
        if isinstance(key, str):
            if kind == "Node":
                self._stale.update(name for name, bridge in self.bridges.items() if bridge.node == key)
            else:
                namespace = new.namespaces.get(key)
                self.engine.put_namespace(key, namespace.labels if namespace else None)
        elif kind == "Pod":
            if _placement(before) != _placement(after):
                self._stale.update(self._named.get(key, ()))
                self._changed.add(key)
            self._put_pod(key)
        elif key in new.policies:
            self.engine.put_policy(new.policies[key])
        else:
            self.engine.remove_policy(key)
        return True

    def _put_pod(self, key: Key) -> None:
        pod = self.cluster.pods.get(key) if self.cluster else None
        if pod is None:
            self.engine.remove_pod(key)
            return
        found = self._addresses.get(key) if not pod.addresses else None
        self.engine.put_pod(pod._replace(addresses=found) if found else pod)

    def set_bridge(self, bridge: BridgeState) -> None:
        """A bridge is new or has changed."""
        name = (bridge.ovsdb, bridge.name)
        old = self.bridges.get(name)
        if old is not None and old.datapath_type != bridge.datapath_type:
            self.remove_bridge(name)
        self.bridges[name] = bridge
        self._name(name, {key for i in bridge.interfaces if (key := pod_named(i.external_ids)) is not None})
        self._stale.add(name)
        self._index_dpids()

    def remove_bridge(self, name: BridgeName) -> None:
        """A bridge is gone, and the addresses that only its ports knew with it."""
        self.bridges.pop(name, None)
        self._name(name, set())
        self._index_dpids()
        self._stale.discard(name)
        if self._readings.pop(name, None) is not None:
            self._replace(name, {})
        self._plans.pop(name, None)
        self._readers.pop(name, None)
        for part, bridges in self._where.items():
            if name in bridges:
                self._where[part] = _without(bridges, name)

    def _name(self, name: BridgeName, keys: set[Key]) -> None:
        before = self._names.get(name, frozenset())
        for key in before - keys:
            self._named[key] = _without(self._named[key], name)
            if not self._named[key]:
                del self._named[key]
        for key in keys - before:
            self._named[key] = (*self._named.get(key, ()), name)
        self._names[name] = frozenset(keys)

    def _index_dpids(self) -> None:
        self.by_dpid = {}
        for name in sorted(self.bridges):
            dpid = self.bridges[name].dpid
            if dpid:
                self.by_dpid[dpid] = (*self.by_dpid.get(dpid, ()), name)

    # -- what follows ------------------------------------------------------------------------------------------------

    def settle(self) -> dict[BridgeName, dict[FlowKey, Body | None]]:
        """Bring every plan up to date; returns the flows that came, went or differ, as they were before, of the bridges
        where any did."""
        moved = self._read_ports()
        settled = self.engine.settle()
        # Parts without a port anywhere are not kept, so those of pods that moved are asked for.
        parts = {part.identity: part for key in moved for part in self.engine.parts_of(key)}
        concerned = {name for key in moved for name, _ in self._place.get(key, ())}
        for change in settled.parts:
            concerned |= self._apply(change)
            parts.pop(_identity(change), None)
        for part in parts.values():
            concerned |= self._apply(Change(part, part))
        for key in settled.isolation:
            for name, _ in self._place.get(key, ()):
                self._plans[name].isolate(key, self.engine.isolated)
                concerned.add(name)
        concerned |= self._refreshed
        self._refreshed = set()
        taken = {name: self._plans[name].take() for name in sorted(concerned) if name in self._plans}
        return {name: keys for name, keys in taken.items() if keys}

    def _read_ports(self) -> set[Key]:
        """Read the ports of stale bridges again; returns the pods that came, went or moved.

        A port can give a pod its address, and that address can matter to nobody's ports: so once round is enough.
        """
        moved: set[Key] = set()
        for name in sorted(self._stale):
            moved |= self._read(name)
        self._refreshed = self._refreshed | self._stale
        self._stale = set()
        self._changed = set()
        return moved

    def _read(self, name: BridgeName) -> set[Key]:
        bridge = self.bridges[name]
        reader = self._readers.setdefault(name, BridgeReader())
        reading = reader.read(bridge, self.cluster or Cluster(), self._changed)
        self._readings[name] = reading
        moved = self._replace(name, {attachment.pod: attachment for attachment in reading.view.attachments})
        plan = self._plans.get(name)
        if plan is None:
            plan = self._plans[name] = BridgePlan(self._flow_encoder, reading.view.userspace)
        plan.set_view(reading.view, self.engine.isolated)
        return moved

    def _replace(self, name: BridgeName, there: dict[Key, Attachment]) -> set[Key]:
        """The pods of a bridge are these now; returns those that came, went or moved."""
        before = self._ports.pop(name, {})
        if there:
            self._ports[name] = there
        moved = set()
        for key in before.keys() | there.keys():
            old, new = before.get(key), there.get(key)
            if old is new and key not in self._changed:
                continue
            if (old.ofport if old else None) != (new.ofport if new else None):
                moved.add(key)
                self._stand(key, name, new)
            self._learn_address(key)
        return moved

    def _stand(self, key: Key, name: BridgeName, attachment: Attachment | None) -> None:
        """A pod has this port on a bridge now, or none."""
        place = tuple(one for one in self._place.get(key, ()) if one[0] != name)
        if attachment is not None:
            place = (*place, (name, attachment.ofport))
        if place:
            self._place[key] = place
        else:
            self._place.pop(key, None)

    def _learn_address(self, key: Key) -> None:
        """A pod whose status has no address has those of its port; should it have several, of the last by name."""
        pod = self.cluster.pods.get(key) if self.cluster else None
        wanted: tuple[Net, ...] = ()
        if pod is not None and not pod.addresses:
            for name, _ in sorted(self._place.get(key, ())):
                wanted = self._ports[name][key].addresses or wanted
        if self._addresses.get(key, ()) == wanted:
            return
        if wanted:
            self._addresses[key] = wanted
        else:
            del self._addresses[key]
        self._put_pod(key)

    def _apply(self, change: Change) -> set[BridgeName]:
        """Tell the bridges that have, or had, subjects of a part."""
        name = _identity(change)
        ports = self._ports_of(change.new) if change.new else {}
        concerned = ports.keys() | self._where.get(name, ())
        for bridge in concerned:
            self._plans[bridge].rules.update(name, change.new, tuple(sorted(ports.get(bridge, ()))))
        if ports:
            self._where[name] = tuple(ports)
        else:
            self._where.pop(name, None)
        return concerned

    def _ports_of(self, part: Part) -> dict[BridgeName, set[int]]:
        found: dict[BridgeName, set[int]] = {}
        pods = self.engine.index.pods
        for n in part.variant.subjects:
            for name, ofport in self._place.get(pods[n].key, ()):
                found.setdefault(name, set()).add(ofport)
        return found

    # -- asking ------------------------------------------------------------------------------------------------------

    def reading(self, name: BridgeName) -> Reading:
        """Which pod is behind which port of a bridge, as of the last `settle`."""
        found = self._readings.get(name)
        return found if found is not None else read_bridge(self.bridges[name], self.cluster or Cluster())

    def places(self, pod: Key) -> tuple[tuple[BridgeName, int], ...]:
        """The bridges that have a port of a pod, and its ofport there: one, unless somebody is wrong."""
        return tuple(place for place in self._place.get(pod, ()) if place[0] in self.bridges)

    def attachments(self, pod: Key) -> list[Attachment]:
        """The same ports as they were read."""
        return [self._ports[name][pod] for name, _ in self.places(pod)]

    def planned(self, name: BridgeName) -> Plan | None:
        """The plan of a bridge as of the last `settle`; None before there was one."""
        return self._plans.get(name)

    def unplaced(self) -> list[Key]:
        """Running pods without any address, neither in their status nor on a port."""
        ports = {key for name in self.bridges for key in self._with_address(name)}
        pods: Iterable[Pod] = self.cluster.pods.values() if self.cluster else ()
        return [pod.key for pod in pods if pod.networked and not pod.addresses and pod.key not in ports]

    def _with_address(self, name: BridgeName) -> list[Key]:
        attachments = read_bridge(self.bridges[name], self.cluster or Cluster()).view.attachments
        return [attachment.pod for attachment in attachments if attachment.addresses]


def _identity(change: Change) -> bytes:
    part = change.new or change.old
    if part is None:
        raise ValueError("a change of nothing")
    return part.identity


def _without(bridges: tuple[BridgeName, ...], name: BridgeName) -> tuple[BridgeName, ...]:
    return tuple(one for one in bridges if one != name)


def _placement(pod: object) -> object:
    """All of a pod that decides what is behind a port; labels and container ports do not."""
    if not isinstance(pod, Pod):
        return None
    return pod.addresses, pod.node, pod.uid, pod.host_network, pod.finished


def _objects(cluster: Cluster, kind: str) -> dict[object, object]:
    maps = (cluster.namespaces, cluster.pods, cluster.nodes, cluster.policies)
    return maps[KINDS.index(kind)]  # type: ignore[return-value]  # read only, by the kind's own keys


def _compare(old: Cluster, new: Cluster) -> Iterable[Touched]:
    for kind in KINDS:
        before, after = _objects(old, kind), _objects(new, kind)
        for key in before.keys() | after.keys():
            if before.get(key) is not after.get(key):
                yield kind, key  # type: ignore[misc]  # keys of these maps
