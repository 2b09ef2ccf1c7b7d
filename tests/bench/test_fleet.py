"""The fleet's measurements run as they are, with few nodes: what they wait for is there, and is what they say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from bench.fleet import Fleet
from bench.fleet_controllers import Controllers
from bench.fleet_cost import FleetMeasurement
from bench.fleet_objects import Api, FleetObjects, Folder
from bench.fleet_room import check_room
from tests.helpers.api_server.assets import binary

NODES, PODS = 3, 10
pytestmark = [pytest.mark.switch, pytest.mark.process, pytest.mark.slow]


@contextmanager
def _fleet(folder: Path, replicas: int) -> Iterator[FleetMeasurement]:
    with ExitStack() as stack:
        objects: FleetObjects = Folder(folder / "manifests")
        if replicas:
            objects = api = Api(folder / "api", binary)
            stack.callback(api.stop)
        controllers = Controllers(replicas, NODES, folder)
        stack.callback(controllers.stop_all)
        fleet = stack.enter_context(Fleet(NODES, PODS, folder, objects, controllers.ovsdb, controllers.openflow))
        yield FleetMeasurement(fleet, controllers, full=False)


def test_one_controller_realizes_policies_and_compares_after_a_restart(tmp_path: Path) -> None:
    with _fleet(tmp_path, 0) as measurement:
        (start,) = measurement.start()
        assert float(start.more["flows"]) > 100 * NODES
        assert all(one.value > 0 for one in (*measurement.everywhere(), *measurement.policy(), *measurement.rollout()))
        (restart,) = measurement.restart()
        assert restart.more["bundles sent"] == 0


@pytest.mark.api
def test_replicas_divide_the_fleet_and_take_over_what_a_killed_one_had(tmp_path: Path) -> None:
    with _fleet(tmp_path, 2) as measurement:
        (start,) = measurement.start()
        assert start.more["flows changed"] == start.more["flows"], "each switch is written once, whoever is ready first"
        assert float(start.more["dumps"]) >= NODES
        fast, slow = measurement.rollout()
        assert 0 < fast.value <= slow.value
        assert (fast.more["not in time"], fast.more["first error"]) == (0, "")
        killed, back = measurement.takeover()
        assert killed.more["switches"]
        assert killed.more["bundles sent"] == 0
        assert back.value > 0


def test_what_a_machine_lacks_for_a_fleet_is_said_before_it_is_begun() -> None:
    check_room(2, 2, 1)
    with pytest.raises(RuntimeError, match=r"need [\d,]+ open files in one process, and [\d,]+ are allowed"):
        check_room(10**9, 2, 3)
    with pytest.raises(
        RuntimeError, match=r"3 controllers need about [\d,]+ MB of memory, and [\d,]+ MB are available"
    ):
        check_room(100, 10**9, 3)
