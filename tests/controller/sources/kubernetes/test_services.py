"""Where the network routes, the source reads the range of Services and the API server's own Service, by rbac.yaml."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.bridge.network import NetworkOptions
from flows.bridge.routing import NetworkMode
from flows.plan.cluster_network import API_SERVICE, ClusterNetwork
from tests.helpers.api_server.server import ApiServer
from tests.helpers.controller.kubernetes_source import RunningSource

pytestmark = [pytest.mark.api]


def test_the_range_of_services_is_found_with_the_rights_of_rbac(api: ApiServer, tmp_path: Path) -> None:
    with RunningSource(api.credentials(tmp_path), services=True) as one:
        one.wait_synced()
        one.until(lambda: bool(one.reread().service_cidrs) and API_SERVICE in one.cluster.services)
        network = ClusterNetwork(NetworkOptions(NetworkMode.ROUTED))
        network.load(one.cluster)
        (address,) = one.cluster.services[API_SERVICE].cluster_ips
        assert any(net.contains(address) for net in network.service_cidrs)
        assert not one.posted[-1].problems and not one.source.state().reason
