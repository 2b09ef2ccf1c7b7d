"""A pod that asks for a bandwidth is known as such, whatever the annotations say."""

from __future__ import annotations

import pytest

from flows.parse.bandwidth import BANDWIDTH_ANNOTATIONS
from flows.parse.objects import parse_pod
from flows.parse.untrusted import FieldError


@pytest.mark.parametrize(
    ("annotations", "limits"),
    [
        ({BANDWIDTH_ANNOTATIONS[0]: "10M"}, True),
        ({BANDWIDTH_ANNOTATIONS[1]: 7, "x": "y"}, True),
        ({"x": "kubernetes.io/ingress-bandwidth"}, False),
        ({}, False),
        ([BANDWIDTH_ANNOTATIONS[0]], False),
        (None, False),
    ],
)
def test_annotations_for_bandwidth(annotations: object, limits: bool) -> None:
    errors: list[FieldError] = []
    metadata = {"namespace": "x", "name": "a", "annotations": annotations}
    assert parse_pod({"metadata": metadata, "spec": {}, "status": {}}, errors).limits_bandwidth is limits
    assert not errors
