"""Moves pods of a stage between nodes, as a kubelet and a CNI plugin do: port and network namespace go and come.

The underlay's bridge forgets its MAC addresses with each move; in a real network the pod's first frame tells it.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence

from tests.chaos.places import Place
from tests.chaos.stage import Stage
from topology.host import links, netns, process
from topology.lab.manifests import Manifest, pod_object
from topology.lab.node import LAB_BRIDGE, NodeSwitch
from topology.lab.pod import PodLink, attach_pods, detach_pods
from topology.spec.model import LabPod


class Mover:
    """Pods of one stage. Objects of the API are not its business, apart from saying which they are."""

    def __init__(self, stage: Stage) -> None:
        self._stage, self._lab = stage, stage.lab
        self._home: dict[str, tuple[str, str]] = {}  # the node on which each pod was first, and its port's number

    def detach(self, key: str, place: Place) -> None:
        """Take a pod's port and network namespace away. Again is no error. Raises LabError."""
        node = self._lab.nodes[place.node]
        link = self._link(key, place)
        if key not in self._home:
            number = node.vsctl(["--no-wait", "--if-exists", "get", "Interface", link.interface, "ofport"]).strip()
            self._home[key] = place.node, number
        detach_pods([link], self._lab.netns_folder, node.netns, LAB_BRIDGE, _at_once(node))
        with netns.inside(self._lab.netns_folder / "underlay"):
            links.forget_bridged("underlay")

    def attach(self, key: str, place: Place) -> None:
        """Give a pod a network namespace, a port, and its servers. What is there already is made anew. Raises LabError.

        At home its port has the number that it had first, so that flows can be compared.
        """
        self.detach(key, place)
        lab, node = self._lab, self._lab.nodes[place.node]
        link = self._link(key, place)
        attach_pods([link], lab.netns_folder, node.netns, LAB_BRIDGE, _at_once(node), lab.prefixes, lab.topology.mtu)
        home, number = self._home[key]
        if home == place.node and number.isdigit():
            node.vsctl(["--no-wait", "set", "Interface", link.interface, f"ofport_request={number}"])
        role = f"servers-{key.replace('/', '.')}"
        process.end(lab.folder, role, signal.SIGKILL)
        lab.start_servers(role, {key: lab.topology.served(self._pod(key, place))})

    def is_attached(self, key: str, place: Place) -> bool:
        """Whether the switch has the port. Raises LabError."""
        get = ["--no-wait", "--if-exists", "get", "Interface", self._link(key, place).interface, "ofport"]
        return self._lab.nodes[place.node].vsctl(get).strip().isdigit()

    def manifest(self, key: str, place: Place, labels: Mapping[str, str]) -> Manifest:
        """The Pod object there."""
        endpoints = {**self._lab.endpoints, key: self._link(key, place).endpoint}
        return pod_object(self._lab.topology, self._pod(key, place).model_copy(update={"labels": labels}), endpoints)

    def _pod(self, key: str, place: Place) -> LabPod:
        (pod,) = (one for one in self._lab.topology.pods if one.key == key)
        return pod.model_copy(update={"node": place.node})

    def _link(self, key: str, place: Place) -> PodLink:
        return PodLink(place.endpoint(self._lab.endpoints[key]), "")


def _at_once(node: NodeSwitch) -> Callable[[Sequence[str]], str]:
    """ovs-vsctl that does not wait for an ovs-vswitchd, which may be away."""
    return lambda arguments: node.vsctl(["--no-wait", *arguments])
