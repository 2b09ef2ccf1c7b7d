"""From a controller, or a cluster that was read offline, and files of changes to the answer of `headgate plan`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from controller.cli.client import ControllerClient
from controller.cli.errors import CommandFailure, Unreachable
from controller.sources.offline import parse_manifest_texts, read_manifest_texts
from controller.status.cluster_model import ClusterValues
from controller.status.detail_model import PolicyDetail
from controller.status.plans import Changes, Present


def present_of(values: ClusterValues, client: ControllerClient) -> Present:
    """What a running controller has."""
    return Present(values.cluster(), values.bridges, values.network, partial(_policy, client))


def _policy(client: ControllerClient, key: str) -> PolicyDetail:
    try:
        return client.policy(key)
    except Unreachable:
        raise
    except CommandFailure as error:
        raise LookupError(error.message) from None


def read_changes(put: Sequence[str], deleted: Sequence[str]) -> Changes:
    """The objects in files that are to be applied or deleted. Raises OfflineError."""
    put_units, deleted_units = (parse_manifest_texts(read_manifest_texts(paths)) for paths in (put, deleted))
    return Changes(
        tuple((one.name, one.value) for unit in put_units for one in unit.objects),
        tuple((one.name, one.value) for unit in deleted_units for one in unit.objects),
        tuple(problem for unit in (*put_units, *deleted_units) for problem in unit.problems),
    )
