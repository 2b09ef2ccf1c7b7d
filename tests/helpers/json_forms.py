"""Holds what a command printed with -o json to the published schema of its form."""

from __future__ import annotations

import json
from typing import Any

from jsonschema import Draft202012Validator

from tests.helpers.paths import ROOT

SCHEMAS = ROOT / "docs" / "schemas"


def fits(name: str, text: str) -> Any:
    """The answer in `text`, which must have the form `name`, and no key that this has not."""
    answer = json.loads(text)
    schema = json.loads((SCHEMAS / f"{name}.json").read_text())
    for one in (schema, *schema.get("$defs", {}).values()):
        if "properties" in one:
            one["additionalProperties"] = False
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(answer)
    return answer
