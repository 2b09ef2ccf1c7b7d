"""What tests on real packets share: labs of the truth tables' world, one for each file of tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.helpers.lab.truth_lab import world_lab
from topology.lab.lab import Lab


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A lab of the whole world. Tests leave it as they found it."""
    with world_lab() as made:
        yield made
