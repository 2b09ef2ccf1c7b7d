"""The decision about one end and all others at once: which ports of whom it reaches, and who reaches its own.

Theory of operation. Both ends of a connection must allow it: the near end by the rules that select it, the far ends by
the rules that name the near end's address. `_near` and `_far` make a region of each; what both have is the answer:

    row(x/a) = (egress rules of x/a, for all whom they name) met with
               (ingress rules that name x/a's address, for all their subjects)

An end that nothing isolates allows everything. Rules of NetworkPolicies are a union, so their order does not matter.
The ordered rules of the tiers before and after them are walked in `tiers`; `_tiered` is where the tiers meet. Ends with
the same rules have the same answer, which is computed once.

Not asked here: the connection of a pod with itself, which is always open, and that of two ends outside.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from flows.cluster.model import Cluster, Direction, Key, Pod, Tier
from flows.cluster.net import Net
from flows.policy.named_ports import named_ports
from flows.policy.pod_index import PodIndex
from flows.reach.ends import Ends
from flows.reach.ports import EVERYTHING
from flows.reach.regions import Allowance, Region, meet, only, region_of
from flows.reach.rules import RuleBook
from flows.reach.tiers import Step, TierBook, walk

RegionKey = tuple[object, ...]
_OTHER = {Direction.INGRESS: Direction.EGRESS, Direction.EGRESS: Direction.INGRESS}


class Decision:
    """All connections of one snapshot. With `about`, only ends of pods in these namespaces may be asked; it then costs
    less."""

    def __init__(
        self,
        cluster: Cluster,
        ends: Ends | None = None,
        about: Collection[str] | None = None,
        index: PodIndex | None = None,
        book: RuleBook | None = None,
    ) -> None:
        """`index` has the pods of the cluster, and `book` its rules; without them they are made."""
        self.cluster = cluster
        self.ends = ends or Ends([cluster])
        self.index = index or PodIndex(cluster)
        self._book = book or RuleBook(cluster, self.ends, self.index, about)
        self._tiers = TierBook(self._book)
        self._named = frozenset(n for n, key in enumerate(self._book.rules) if named_ports(key.rule.ports))
        self._regions: dict[RegionKey, Region] = {}
        self._keys: dict[Direction, dict[int, RegionKey]] = {direction: {} for direction in Direction}
        self._rules_near: dict[tuple[str, int], dict[Direction, tuple[int, ...] | None]] = {}
        self._rules_far: dict[tuple[Direction, str, int], frozenset[int]] = {}
        self._nodes: dict[Net, tuple[str, ...]] = {}
        for name, node in cluster.nodes.items():
            for address in node.addresses:
                self._nodes[address] = (*self._nodes.get(address, ()), name)
        self.present = self._everyone = self.ends.present_in(cluster)

    def with_policies(
        self, cluster: Cluster, changed: Collection[Key], affected: Collection[Key], about: Collection[str]
    ) -> Decision:
        """The decision about a snapshot with the same pods, namespaces and nodes, of which these NetworkPolicies have
        changed, which select these pods before or now."""
        book = self._book.with_policies(cluster, changed, about)
        pods = [pod for key in affected if (pod := cluster.pods.get(key)) is not None]
        book.take_isolated(self._book, self.ends.of_pods(affected), pods)
        return Decision(cluster, self.ends, about, self.index, book)

    def key(self, number: int, direction: Direction) -> RegionKey:
        """What the answer for an end depends on: ends with equal keys have equal answers. EGRESS is about what it
        reaches, INGRESS about who reaches it."""
        known = self._keys[direction]
        found = known.get(number)
        if found is None:
            found = known[number] = self._key(number, direction) if self.present >> number & 1 else ()
        return found

    def _key(self, number: int, direction: Direction) -> RegionKey:
        outside = number >= len(self.ends.addresses)
        near, far = self._near_key(number, direction), self._far_key(number, direction)
        return direction, self.ends.version_of(number), outside, near, far

    def region(self, number: int, direction: Direction) -> Region:
        """Which ends the end reaches (EGRESS), or which reach it (INGRESS), and on which ports.

        Only ends of its own family; for one outside only pods. Empty for an end that this snapshot does not have:
        numberings may be shared by snapshots.
        """
        whole = self.key(number, direction)
        if not whole:
            return {}
        found = self._regions.get(whole)
        if found is None:
            within = self.ends.families[self.ends.version_of(number)] & self.present
            if number >= len(self.ends.addresses):
                within &= ~self.ends.outside_bits
            near, far = whole[-2:]
            rules = far[0]  # type: ignore[index]  # as `_far_key` made it
            one = self._once((direction, "near", near), lambda: self._near(number, direction))
            other = self._once((direction, "far", far), lambda: self._far(number, direction, rules))
            found = self._regions[whole] = meet(one, other, within)
        return found

    def own(self, number: int, direction: Direction) -> Region:
        """What the policies of an end itself allow it, whatever those of the other ends say."""
        near = self._near_key(number, direction)
        return self._once((direction, "near", near), lambda: self._near(number, direction))

    # -- what the answer depends on ----------------------------------------------------------------------------------

    def _pod(self, number: int) -> Pod | None:
        """The pod of an end; None for one outside."""
        return self.cluster.pods[self.ends.addresses[number][0]] if number < len(self.ends.addresses) else None

    def _claimants(self, number: int) -> list[Pod]:
        """The pods that have the address of an end; none for one outside."""
        if number >= len(self.ends.addresses):
            return []
        return [self.index.pods[n] for n in sorted(self.index.claimants(self.ends.addresses[number][1]))]

    def _near_key(self, number: int, direction: Direction) -> RegionKey:
        pod = self._pod(number)
        if pod is None:
            return ("outside",)
        # Objects with equal labels share one mapping, which the cluster keeps.
        alike = (pod.key.namespace, id(pod.labels))
        rules = self._rules_near.get(alike)
        if rules is None:
            rules = self._rules_near[alike] = self._isolating_rules(pod)
        found = rules[direction]
        by_name = direction is Direction.INGRESS and any(n in self._named for n in found or ())
        by_name = by_name or self._tiers.by_name
        tiered = self._tiers.near_key(number, direction)
        return found, tiered, pod.ports if by_name else (), pod.node if self._node_ends(pod.node) else ""

    def _isolating_rules(self, pod: Pod) -> dict[Direction, tuple[int, ...] | None]:
        """The rules that count for a pod, by direction; None where no policy isolates it."""
        policies = self._book.policies_of(pod)
        found: dict[Direction, tuple[int, ...] | None] = {}
        for direction in Direction:
            isolating = [one for one in policies if direction in one.isolates]
            numbers = {n for one in isolating for n in one.rules if self._book.rules[n].direction is direction}
            found[direction] = tuple(sorted(numbers)) if isolating else None
        return found

    def _far_key(self, number: int, direction: Direction) -> RegionKey:
        peers = self._book.peers[_OTHER[direction]]
        claimants = self._claimants(number)
        address = self.address_of(number)
        by_block = peers.of_outside(address)
        if len(claimants) == 1:
            pod = claimants[0]
            alike = (direction, pod.key.namespace, id(pod.labels))
            by_pod = self._rules_far.get(alike)
            if by_pod is None:
                by_pod = self._rules_far[alike] = peers.of_claimants(claimants, self._book.namespace_labels)
        else:
            by_pod = peers.of_claimants(claimants, self._book.namespace_labels)
        found = by_block | by_pod
        by_name = direction is Direction.INGRESS and not self._named.isdisjoint(found)
        # A class outside is asked without the nodes that may be in it: each reaches its own pods besides.
        nodes = self._nodes.get(address, ()) if claimants else ()
        by_name = by_name or self._tiers.by_name
        tiered = self._tiers.far_key(number, _OTHER[direction])
        return found, tiered, tuple(pod.ports for pod in claimants) if by_name else (), nodes

    def address_of(self, number: int) -> Net:
        """The address of an end; of a class outside, one of them."""
        pods = len(self.ends.addresses)
        return self.ends.addresses[number][1] if number < pods else self.ends.outside[number - pods].sample

    def _node_ends(self, name: str) -> int:
        """The pods' ends with an address of this node, which its own pods always reach. None as a rule."""
        node = self.cluster.nodes.get(name)
        return self.ends.with_addresses(node.addresses) if node is not None else 0

    # -- the two halves of an answer ---------------------------------------------------------------------------------

    def _near(self, number: int, direction: Direction) -> Region:
        """What the policies of the end itself allow it."""
        pod = self._pod(number)
        if pod is None:
            return {EVERYTHING: self._everyone}
        rules = self._isolating_rules(pod)[direction]
        found: list[Allowance] = []
        for n in rules or ():
            peers, specs = self._book.peer_ends(n), self._book.rules[n].rule.ports
            if direction is Direction.EGRESS:
                found += self._book.allowances(specs, peers, subjects=False)
            else:
                found.append((self._book.ports_at(specs, [pod]), peers))
        isolated = 0 if rules is None else self._everyone
        steps = {tier: self._tiers.near_steps(tier, direction, number, pod) for tier in Tier}
        return self._tiered(direction, isolated, region_of(found), steps, self._node_ends(pod.node))

    def _far(self, number: int, direction: Direction, rules: frozenset[int]) -> Region:
        """What the policies of all others allow them with this end."""
        other = _OTHER[direction]
        found: list[Allowance] = []
        claimants = self._claimants(number)
        for n in sorted(rules):
            subjects, specs = self._book.subjects(n), self._book.rules[n].rule.ports
            if other is Direction.INGRESS:
                found += self._book.allowances(specs, subjects, subjects=True)
            else:
                found.append((self._book.ports_at(specs, claimants), subjects))
        steps = {tier: self._tiers.far_steps(tier, other, number, claimants) for tier in Tier}
        on_node = self._pods_on(self._nodes.get(self.address_of(number), ())) if claimants else 0
        return self._tiered(other, self._book.isolated(other), region_of(found), steps, on_node)

    def _tiered(
        self, direction: Direction, isolated: int, allowed: Region, steps: Mapping[Tier, Iterable[Step]], nodes: int
    ) -> Region:
        """All tiers in their order: Admin; NetworkPolicy, which allows `allowed` where an end is `isolated`; Baseline
        for the others; then everything. `nodes` are pods with their own node, which no NetworkPolicy parts, and what
        comes from the node no tier either."""
        undecided: Region = {EVERYTHING: self._everyone}
        if not self._tiers:
            return region_of([*allowed.items(), (EVERYTHING, self._everyone & ~isolated | nodes)])
        accepted, undecided = walk(steps[Tier.ADMIN], undecided)
        found = [*accepted.items(), *meet(undecided, allowed, isolated).items()]
        found += [(EVERYTHING, nodes)] if direction is Direction.INGRESS else only(undecided, isolated & nodes).items()
        accepted, undecided = walk(steps[Tier.BASELINE], only(undecided, ~isolated))
        return region_of([*found, *accepted.items(), *undecided.items()])

    def _pods_on(self, nodes: tuple[str, ...]) -> int:
        """The ends of the pods on these nodes."""
        if not nodes:
            return 0
        return self.ends.of_pods(pod.key for pod in self.cluster.pods.values() if pod.networked and pod.node in nodes)

    def _once(self, name: RegionKey, compute: Callable[[], Region]) -> Region:
        found = self._regions.get(name)
        if found is None:
            found = self._regions[name] = compute()
        return found
