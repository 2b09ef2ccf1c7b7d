"""The world: the newest cluster and all bridges, and the desired flows that follow from both.

Theory of operation. Changes come in through `set_cluster`, `set_bridge` and the like, which only note what they touch.
`update_plans` then does the work, once for all changes that came together:

1. decide which bridges are served (`owners`), since several OVSDBs may claim one datapath id;
2. read the ports of stale bridges (`reader`): which pod is behind which port, with which MAC and addresses. A pod whose
   status has no address gets those of its port, which may change rules elsewhere;
3. let the policy engine compile what changed: rules, sets of subjects and peers, isolation;
4. distribute that to the plans of the bridges that have subjects (`rule_distribution`), and take from each plan the
   flows that came, went or differ;
5. where switches route, give each of them what changed in Services (`cluster_services`).

Example. Pod `x/a` runs on node n1, and a policy lets it reach pod `x/b` on n2. A label of `x/b` changes, so that the
policy's peers select it no more. `set_cluster` puts `x/b` into the engine, whose set of peers loses 10.0.2.7.
`update_plans` reads no port. It finds n1's bridge among those with rules of that set, has it drop the clause flow of
10.0.2.7, and returns that one flow for n1. n2's bridge has no subject of the rule and is not asked.

What raises is contained: an object that cannot be accepted is rejected (`accepted_objects`), a bridge that cannot be
planned has no plan for a while (`plan_failures`); the others go on. No input or output here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from flows.bridge.claim_contest import BridgeName
from flows.bridge.external_ids import MAX_NODE_ADDRESSES
from flows.bridge.node_addresses import with_counted_addresses
from flows.bridge.state import BridgeState
from flows.cluster.model import Cluster, Key, Pod
from flows.cluster.net import Net, host_address_error
from flows.cluster.objects import (
    POLICY_KINDS,
    SERVICE_KINDS,
    ObjectRef,
    binding_fields,
    changed_objects,
    objects_of_kind,
)
from flows.pipeline.pod_limits import Limit
from flows.pipeline.tables import NAMES
from flows.plan.accepted_objects import MAX_LOAD_ATTEMPTS, WorldError
from flows.plan.bridge_plans import ChangedFlows
from flows.plan.cluster_services import ServicesError
from flows.plan.dns_servers import concerns_dns, dns_servers
from flows.plan.world_state import WorldState
from flows.render.name_memory import read_memory
from flows.services.frontends import named_object
from flows.wire.codec import decode_flow
from flows.wire.errors import CodecError
from flows.wire.values import Body, FlowKey, wire_flow


class World(WorldState):
    """The changes that a world takes, and `update_plans`."""

    def start_over(self) -> None:
        """Compute everything anew from the cluster and the bridges, after an error that may have left it inconsistent.

        Raises WorldError.
        """
        self._reset()
        objects = self._objects
        objects.must_reload = True  # until all of this is done
        for name, bridge in list(self.bridges.items()):
            try:
                self._update_indexes(name, None, bridge)
            except Exception as error:  # noqa: BLE001 - it concerns this bridge and no other
                self._displace(name, error)
        if self.cluster is not None:
            objects.load()
            objects.must_reload = True
            if not self._load_nodes():
                return  # once more, without those that were rejected
        objects.must_reload = False

    # -- changes of the cluster --------------------------------------------------------------------------------------

    def set_cluster(self, cluster: Cluster, changed: Iterable[ObjectRef] | None = None) -> bool:
        """A new snapshot. `changed` names what may differ from the last one; None has all of it compared.

        Returns whether anything differs. Raises WorldError.
        """
        old = self._objects.set_snapshot(cluster)
        if old is None:
            self._dns_stale = True
            if not self._objects.must_reload:
                self._objects.load()
            self._load_nodes()
            self._stale.update(self.bridges)
            self.owners.nodes_changed()
            return True
        differs = False
        for kind, key in changed_objects(old, cluster) if changed is None else changed:
            differs |= self._update_object(kind, key, old, cluster)
        return differs

    def _update_object(self, kind: str, key: Key | str, old: Cluster, new: Cluster) -> bool:
        before, after = objects_of_kind(old, kind).get(key), objects_of_kind(new, kind).get(key)
        if before == after:
            return False
        objects = self._objects
        if kind in SERVICE_KINDS:
            self._dns_stale |= concerns_dns((kind, key), new, old, self.network_options)
        self._plans.patterns.clear()
        readmitted = bool(objects.rejected.reasons) and objects.readmit(kind, key)
        if kind not in POLICY_KINDS:
            try:
                self._note_object(kind, key, before, after, readmitted)
            except Exception as error:  # noqa: BLE001 - one object must not keep out others
                objects.reject(kind, key, error)
        if not objects.must_reload:
            objects.put_newest(kind, key, after)
        return True

    def _note_object(self, kind: str, key: Key | str, before: object, after: object, readmitted: bool) -> None:
        """An object is another one now: note what its change touches beside policy and Services."""
        if kind == "Node" and isinstance(key, str):
            self.network.set_node(key, after)
            candidates = self.nodes.add_node(key) if after is not None else self.nodes.remove_node(key)
            self._stale.update(name for name in candidates if self.bridges[name].node == key)
            if (before is None) != (after is None):
                self._match_nodes(candidates)
                self.owners.nodes_changed()
        elif kind == "Pod" and isinstance(key, Key) and (readmitted or binding_fields(before) != binding_fields(after)):
            was, now = before if isinstance(before, Pod) else None, after if isinstance(after, Pod) else None
            self._stale.update(self._bridges_of_pods.of(key))
            self._rebound.add(key)
            if was is not None and (now is None or _identity(was) != _identity(now)):
                self.learned.forget(key)
            self.nodes.update_pod(was, now)
        elif kind in SERVICE_KINDS:
            self.network.set_service_object(kind, key, after)

    def _load_nodes(self) -> bool:
        """Take the nodes that are accepted. Returns False where some were rejected: then all is to be loaded again."""
        accepted = self._objects.accepted
        try:
            for node in accepted.nodes:
                self.nodes.add_node(node)
            self.network.load(accepted)
        except Exception:
            if not self._reject_nodes(accepted):
                raise
            return False
        self.nodes.set_pods(accepted.pods.values())
        self._match_nodes(list(self.bridges))
        return True

    def _reject_nodes(self, accepted: Cluster) -> bool:
        """Reject the nodes that raise, one by one; whether there was any."""
        count = 0
        for name, node in list(accepted.nodes.items()):
            try:
                self.nodes.add_node(name)
                self.network.set_node(name, node)
            except Exception as error:  # noqa: BLE001 - as above
                self._objects.reject("Node", name, error)
                count += 1
        return count > 0

    def _match_nodes(self, names: Iterable[BridgeName]) -> None:
        """Match these bridges to nodes again: nodes came or went."""
        self.network.routed_nodes()  # what raises here concerns no bridge
        for name in names:
            try:
                self._match_node(name)
            except Exception as error:  # noqa: BLE001 - it concerns this bridge and no other
                self._displace(name, error)

    def _match_node(self, name: BridgeName) -> None:
        old = self.bridges[name]
        bridge = self._with_routing(self._with_node(old))
        if bridge.node != old.node:
            self.bridges[name] = bridge
            self.nodes.update_bridge(name, old, bridge)
            self.owners.claim(bridge, 0.0)  # the same datapath id: the time of its claim stays
            self._stale.add(name)

    def _displace(self, name: BridgeName, error: Exception) -> None:
        """A bridge has no place in the cluster. All is to be loaded again, for what is kept of it may be half of it."""
        self.displaced.add(name, self.bridges.pop(name), error)
        self._plans.replanned.add(name)
        self.owners.unclaim(name)
        self._objects.must_reload = True

    def _with_node(self, bridge: BridgeState) -> BridgeState:
        node = self.nodes.node_for(bridge.claimed_node)
        node = "" if node == bridge.claimed_node else node
        return bridge if bridge.matched_node == node else replace(bridge, matched_node=node)

    def _with_routing(self, bridge: BridgeState) -> BridgeState:
        routing = self.network.routing_of(bridge)
        return bridge if routing is bridge.routing else replace(bridge, routing=routing)

    def _prove_addresses(self) -> None:
        """Of the addresses that several nodes claim, a node proves the one that its OVSDB's connection comes from."""
        contested = self.network.contested
        for name, bridge in self.bridges.items() if contested else ():
            if bridge.node in contested and not self.owners.refusal(name):
                self.network.prove(bridge.node, self.owners.peer_of(name[0]).host)

    def _route_bridges(self) -> None:
        """Nodes have other ranges or addresses than before: tell all bridges."""
        self._prove_addresses()
        if self.network.changed:
            self._objects.set_node_addresses(self.network.node_addresses())
            self.network.routed_nodes()  # as above
        for name, old in list(self.bridges.items()) if self.network.changed else ():
            try:
                bridge = self._with_routing(old)
            except Exception as error:  # noqa: BLE001 - it concerns this bridge and no other
                self._displace(name, error)
                continue
            if bridge is not old:
                self.bridges[name] = bridge
                self._stale.add(name)
        self.network.changed = False

    # -- changes of bridges ------------------------------------------------------------------------------------------

    def set_bridge(self, bridge: BridgeState, now: float = 0.0) -> bool:
        """A bridge is new or has changed. Returns whether anything differs."""
        name = (bridge.ovsdb, bridge.name)
        if metered := self.metered.get(bridge.dpid):
            bridge = replace(bridge, metered=metered)
        if answered := self.answered.get(bridge.dpid):
            bridge = replace(bridge, answered_addresses=answered)
        bridge = self._with_routing(self._with_node(bridge))
        old = self.bridges.get(name)
        if old is not None:  # until `_count_node_addresses`
            bridge = replace(bridge, node_addresses=old.node_addresses, confirmed_addresses=old.confirmed_addresses)
        if old == bridge:
            return False
        self.bridges[name] = bridge
        self.displaced.discard(name)
        if old is not None and old.datapath_type != bridge.datapath_type:
            self._plans.drop_plan(name)
        self._update_indexes(name, old, bridge)
        self._stale.add(name)
        self._failures.discard(name)
        self.owners.claim(bridge, now)
        return True

    def retry_displaced(self, now: float) -> bool:
        """Take bridges again that were left out, those that are due. Returns whether there was any."""
        found = self.displaced.take_due(now)
        for bridge in found:
            try:
                self.set_bridge(bridge, now)
            except Exception as error:  # noqa: BLE001 - it concerns this bridge and no other
                self.displaced.add((bridge.ovsdb, bridge.name), bridge, error)
                self._objects.must_reload = True
        return bool(found)

    def replan(self, names: Iterable[BridgeName]) -> None:
        """`is_planned` has another answer for these bridges."""
        self._stale |= self.bridges.keys() & set(names)

    def remove_bridge(self, name: BridgeName) -> None:
        """A bridge is gone, and with it the addresses that only its ports gave to pods."""
        old = self.bridges.pop(name, None)
        self.displaced.discard(name)
        self._plans.replanned.add(name)
        self.owners.unclaim(name)
        self._update_indexes(name, old, None)
        self._stale.discard(name)
        self._failures.new.discard(name)
        self._failures.discard(name)
        self._plans.drop(name)

    def _update_indexes(self, name: BridgeName, old: BridgeState | None, new: BridgeState | None) -> None:
        self._bridges_of_pods.update_bridge(name, old, new)
        self.nodes.update_bridge(name, old, new)
        self._objects.node_addresses.update_bridge(name, old, new)

    def set_metered(self, dpid: int, limits: tuple[Limit, ...]) -> bool:
        """A switch has meters for these limits. Returns whether that is new."""
        if self.metered.get(dpid, ()) == limits:
            return False
        self.metered.pop(dpid, None)
        if limits:
            self.metered[dpid] = limits
        for name in self._bridges_with(dpid):
            self.bridges[name] = replace(self.bridges[name], metered=limits)
            self._stale.add(name)
        return True

    def set_answered(self, dpid: int, addresses: Iterable[Net]) -> bool:
        """A switch's node answered for these addresses, and no others. Returns whether that is new."""
        found = tuple(sorted(net for net in addresses if not host_address_error(net)))[:MAX_NODE_ADDRESSES]
        if self.answered.get(dpid, ()) == found:
            return False
        self.answered.pop(dpid, None)
        if found:
            self.answered[dpid] = found
        for name in self._bridges_with(dpid):
            old = self.bridges[name]
            self.bridges[name] = replace(old, answered_addresses=found)
            self._objects.node_addresses.update_bridge(name, old, self.bridges[name])
        return True

    def restore_names(self, dpid: int, flows: Mapping[FlowKey, Body | None], until: float) -> bool:
        """A switch has these flows that nobody here desires: those that remember what pods learned count again, live
        ones until a time. Returns whether there was any."""
        found = False
        for key, body in flows.items():
            if body is None or key[0] != NAMES.number:
                continue
            try:
                memory = read_memory(decode_flow(wire_flow(key, body)))
            except CodecError:
                continue
            if memory is not None and self.pod_at(dpid, memory[0]) == memory[1]:
                for entry in memory[2]:
                    found |= self.learned.restore(memory[1], entry, until, dpid)
        return found

    def _bridges_with(self, dpid: int) -> list[BridgeName]:
        """All bridges that claim a datapath id, served or not."""
        return [name for name, bridge in self.bridges.items() if bridge.dpid == dpid]

    # -- plans -------------------------------------------------------------------------------------------------------

    def update_plans(self, now: float = 0.0) -> ChangedFlows:
        """Bring all plans up to date. A bridge that fails is planned once more from nothing; then it has no plan.

        Returns the flows that came, went or differ, with the bodies that they had before, of the bridges where any did.
        Raises WorldError.
        """
        failures = self._failures
        self.decide_served(now)
        if failures.by_bridge:
            self._stale |= failures.due(now)
        changed = self._update_once()
        if failures.new:
            failed = failures.take_new()
            self._stale |= failed
            again = self._update_once()
            changed = {name: {**again.get(name, {}), **changed.get(name, {})} for name in changed.keys() | again.keys()}
            failures.take_new()
            failures.postpone(failed - self._plans.by_bridge.keys(), now)
        if failures.by_bridge:
            failures.resolve(self._plans.by_bridge)
        return changed

    def decide_served(self, now: float) -> None:
        """Decide which bridges are served."""
        self._stale |= self.owners.decide(now)

    def _update_once(self) -> ChangedFlows:
        """Steps 2 to 5 above."""
        for _ in range(MAX_LOAD_ATTEMPTS):
            if self._objects.must_reload:
                self.start_over()
            if self._routes:
                self._route_bridges()
            if self._objects.must_reload:  # without a bridge that has no place
                continue
            if self._dns_stale and self.cluster is not None:
                self._dns_stale = False
                self._answering |= self._plans.set_dns_servers(dns_servers(self.cluster, self.network_options))
            moved, read = set[Key](), set[BridgeName]()
            if self._stale or self._rebound or self._objects.has_doubtful_addresses:
                moved, read = self._update_ports()
            for node, error in self.flow_encoder.take_failed_nodes():
                self._objects.reject("Node", node, error)
            if not self._objects.must_reload:
                if self._answering:
                    read, self._answering = read | self._answering, set()
                try:
                    return self._plans.apply_policy(moved, read)
                except ServicesError as error:
                    for key, reason in error.reasons.items():
                        self._objects.reject(*named_object(key), reason)
        raise WorldError("objects could not be accepted together with the addresses that ports give them")

    def _update_ports(self) -> tuple[set[Key], set[BridgeName]]:
        """Step 2: as `_read_ports`, with the addresses that pods and nodes yield to others."""
        objects = self._objects
        if objects.has_doubtful_addresses:
            self._count_node_addresses()
        moved, read = self._read_ports()
        if objects.has_doubtful_addresses:
            objects.yield_addresses(lambda key: bool(self._plans.pod_ports.of(key)))
            self._count_node_addresses()
        if self._stale:  # a pod got an address that a bridge also claimed for its node
            more, again = self._read_ports()
            moved, read = moved | more, read | again
        return moved, read

    def _count_node_addresses(self) -> None:
        """Decide which of the addresses that a bridge claims for its node count: those that no pod has."""
        doubtful = self._objects.node_addresses.take_doubtful()
        for name in doubtful & self.bridges.keys() if doubtful else ():
            bridge = with_counted_addresses(self.bridges[name], self._objects.has_pod_with)
            if bridge is not self.bridges[name]:
                self.bridges[name] = bridge
                self._stale.add(name)

    def _read_ports(self) -> tuple[set[Key], set[BridgeName]]:
        """Read the ports of stale bridges; returns the pods that came, went or moved, and these bridges.

        A port may give its pod an address. That changes rules, but not what is behind other ports, so once is enough.
        """
        stale, self._stale = self._stale & self.bridges.keys(), set()
        plans = self._plans
        plans.replanned |= stale
        moved: set[Key] = set()
        asked = len(stale)
        for name in stale:
            if name not in plans.by_bridge:
                asked += len(self.bridges[name].interfaces)
        isolated = self.engine.applying_to(asked)
        for name in sorted(stale):
            if self.owners.refusal(name):
                moved.update(plans.pod_ports.on(name))
                plans.drop(name)
                self._failures.discard(name)
            else:
                moved |= plans.update(name, self._rebound, isolated)
        rebound, self._rebound = self._rebound, set()
        for key in rebound:
            plans.update_port_addresses(key)
        return moved, stale

    # -- what was changed --------------------------------------------------------------------------------------------

    def take_replanned(self) -> set[BridgeName]:
        """The bridges that may have another plan, or none any more, since the last call."""
        found, self._plans.replanned = self._plans.replanned, set()
        return found

    @property
    def names_only(self) -> bool:
        """Whether the last `update_plans` applied what pods learned of domain names, and nothing else."""
        return self._plans.names_only

    def take_bridges_to_show(self) -> set[BridgeName]:
        """The bridges whose pods and flows may differ from what status showed after the last call."""
        found, self._plans.to_show = self._plans.to_show, set()
        return found


def _identity(pod: Pod) -> tuple[str, str, bool]:
    """What makes it the same pod, with what it learned."""
    return pod.uid, pod.node, pod.networked
