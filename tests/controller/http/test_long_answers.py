"""An answer that is encoded in chunks equals one that is encoded at once."""

from __future__ import annotations

from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.exposition import generate_latest
from pydantic import TypeAdapter

from controller.http import long_answers
from controller.http.long_answers import StatusEncoder, exposition
from controller.status.model import StatusView
from tests.helpers.controller.fake_views import STATUS


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
def test_a_status(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_answers, "VALUES_PER_CHUNK", 3)
    encoder = StatusEncoder()
    pods = tuple(replace(STATUS.pods[0], key=f"x/p{n}") for n in range(count))
    for view in (replace(STATUS, pods=pods), replace(STATUS, pods=pods, uptime=7.5), replace(STATUS, problems=())):
        assert b"".join(encoder.encode(view)) == TypeAdapter(StatusView).dump_json(view)


def test_a_list_that_did_not_change_is_not_encoded_again() -> None:
    encoder = StatusEncoder()
    encoder.encode(STATUS)
    kept = encoder._lists["pods"]._last[1]
    encoder.encode(replace(STATUS, uptime=1.0))
    assert encoder._lists["pods"]._last[1] is kept


def test_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_answers, "VALUES_PER_CHUNK", 3)
    registry = CollectorRegistry()
    Info("build", "Of what.", registry=registry).info({"version": "1"})
    Gauge("empty", "Nothing.", ("a",), registry=registry)
    counter = Counter("many", "Several\nlines.", ("a",), registry=registry)
    for n in range(10):
        counter.labels(f"#{n}\n").inc()
    Histogram("times", "Long.", registry=registry).observe(1)
    assert exposition(registry, generate_latest) == generate_latest(registry)
