"""docs/status.md is written by hand; its examples are held to the values that are really served."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

from pydantic import TypeAdapter

from controller.status import detail_model, model
from tests.helpers.paths import ROOT

PAGE = ROOT / "docs" / "status.md"
SHAPES: tuple[Any, ...] = (
    model.StatusView, model.WaitResult, list[model.FlowView], detail_model.PodDetail, detail_model.PolicyDetail,
    detail_model.SupportView,
)  # fmt: skip


def examples() -> list[Any]:
    found = re.findall(r"```json\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return [json.loads(text) for text in found]


def test_every_example_is_a_value_with_all_its_fields() -> None:
    assert len(examples()) == len(SHAPES)
    for shape, example in zip(SHAPES, examples(), strict=True):
        value = TypeAdapter(shape).validate_python(example)
        plain = [dataclasses.asdict(one) for one in value] if isinstance(value, list) else dataclasses.asdict(value)
        assert json.loads(json.dumps(plain)) == example


def test_every_list_of_the_status_has_an_example() -> None:
    status = examples()[0]
    assert all(status[field.name] for field in dataclasses.fields(model.StatusView) if field.name != "waiting_for")
