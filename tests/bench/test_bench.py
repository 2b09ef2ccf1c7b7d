"""Worlds are valid and have the sizes that they claim, and results come through as they were."""

from __future__ import annotations

import math
import random
import xml.etree.ElementTree as ET

import pytest

from bench.catalog import CATALOG, run_one
from bench.compile_cost import compiled, parsed
from bench.page import page
from bench.plan_cost import measure_sums
from bench.plot import svg
from bench.result import Result, from_json, median_interval
from bench.worlds import WORLDS, world
from controller.cli import main
from flows.parse.objects import parse_object


@pytest.mark.parametrize("name", WORLDS)
def test_every_object_of_a_world_is_valid_and_is_taken(name: str) -> None:
    objects = world(name, 0.01)
    read = [parse_object(raw) for raw in objects]
    assert all(one is not None and not one.errors for one in read)
    assert len({(one.kind, one.name) for one in read if one is not None}) == len(objects)
    pods = sum(raw["kind"] == "Pod" for raw in objects)
    policies = sum(raw["kind"] == "NetworkPolicy" for raw in objects)
    sizes = {"A": (1000, 750), "B": (1000, 101), "C": (100, 100), "D": (100, 100), "E": (1000, 100), "F": (500, 80)}
    assert (pods, policies) == sizes[name]
    _, settled, nodes = compiled(parsed(objects))
    assert settled.rules
    assert nodes


def test_rules_cost_sums_not_products() -> None:
    assert all(one.bar is not None and one.value <= one.bar for one in measure_sums())


def test_a_result_survives_json_and_knows_its_verdict() -> None:
    rising = Result("throughput", 0.9, "x", 0.85, 0.92, rising=True, more={"one": 1})
    assert from_json(rising.json()) == rising
    assert rising.verdict == "bar"
    assert [Result("t", value, "s", 2, 1).verdict for value in (0.5, 1.5, 2.5)] == ["reached", "bar", "missed"]


def test_the_interval_of_a_median_holds_it_as_often_as_it_says() -> None:
    draw = random.Random(1)
    for count in (10, 40, 101):
        samples = [[draw.expovariate(1.0) for _ in range(count)] for _ in range(1000)]
        held = sum(low <= math.log(2) <= high for low, _, high in map(median_interval, samples))
        assert 930 < held < 990
    assert median_interval([3.0, 1.0, 2.0]) == (1.0, 2.0, 3.0)


def test_a_measurement_runs_and_the_page_shows_it() -> None:
    found = run_one("world-D", 0.01)
    text = page(found, {"traffic": "no root"}, {"system": "here"}, "0.01")
    assert "world D: objects → rules" in text
    assert "no root" in text
    ET.fromstring(svg("title", "objects", "seconds", {"D": [(10, 0.1), (100, 1.1)], "<E>": [(10, 0.2)]}))


def test_the_command_lists_what_there_is_and_refuses_what_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--list"]) == 0
    assert all(name in capsys.readouterr().out for name in ["world-A"])
    assert main(["bench", "nothing"]) == 2
    assert main(["bench", "--size", "huge"]) == 2
    assert set(CATALOG) >= {"bulk", "changes", "run", "traffic"}
