"""What commands print with -o json: a form for each, with the type that its schema is made of.

A form has a number in its answers, which grows when a key goes or changes its name, type or meaning; a new key does not
change it. Every command with -o json has a form here: tests/docs/test_json_forms.py holds that, and every answer to its
schema.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from bench.result import BENCH_VERSION, BenchView, MeasurementsView
from controller.cli.check.formats import CHECK_VERSION, CheckView
from controller.cli.flow_lines import FLOWS_VERSION, FlowsView, RatesView, StagesView
from controller.cli.lab.probe import PROBE_VERSION, ProbeAnswer
from controller.status.audit_model import AUDIT_VERSION, AuditEvent, DropsAnswer
from controller.status.detail_model import DETAIL_VERSION, PodDetail, PolicyDetail
from controller.status.model import STATUS_FORM, WAIT_VERSION, StatusView, WaitResult
from controller.status.verify_model import VERIFY_VERSION, VerifyView
from flows.explain.model import EXPLAIN_VERSION, Explanation
from flows.reach.model import (
    EXPOSURE_VERSION,
    MATRIX_VERSION,
    PLAN_VERSION,
    RECOMMEND_VERSION,
    ExposureView,
    MatrixView,
    PlanView,
    RecommendView,
)
from topology.lab.report import LAB_VERSION, LabReport

DIALECT = "https://json-schema.org/draft/2020-12/schema"


@dataclass(frozen=True)
class Form:
    """The form of what `command` prints; with `lines` of every line. `key` is where its number stands."""

    command: str
    type: Any
    version: int
    key: str = "version"
    lines: bool = False


FORMS: dict[str, Form] = {
    "status": Form("headgate status", StatusView, STATUS_FORM, "form"),
    "wait": Form("headgate status --wait", WaitResult, WAIT_VERSION),
    "pod": Form("headgate pod", PodDetail, DETAIL_VERSION),
    "policy": Form("headgate policy", PolicyDetail, DETAIL_VERSION),
    "explain": Form("headgate explain", Explanation, EXPLAIN_VERSION),
    "verify": Form("headgate verify", VerifyView, VERIFY_VERSION),
    "check": Form("headgate check", CheckView, CHECK_VERSION),
    "audit": Form("headgate audit", AuditEvent, AUDIT_VERSION, lines=True),
    "drops": Form("headgate drops", DropsAnswer, AUDIT_VERSION),
    "flows": Form("headgate flows", FlowsView, FLOWS_VERSION),
    "flows-stages": Form("headgate flows --stages", StagesView, FLOWS_VERSION),
    "flows-watch": Form("headgate flows --watch", RatesView, FLOWS_VERSION, lines=True),
    "matrix": Form("headgate matrix", MatrixView, MATRIX_VERSION),
    "matrix-exposure": Form("headgate matrix --exposure", ExposureView, EXPOSURE_VERSION),
    "plan": Form("headgate plan", PlanView, PLAN_VERSION),
    "recommend": Form("headgate recommend", RecommendView, RECOMMEND_VERSION),
    "lab-status": Form("headgate lab status", LabReport, LAB_VERSION),
    "lab-probe": Form("headgate lab probe", ProbeAnswer, PROBE_VERSION),
    "bench": Form("headgate bench", BenchView, BENCH_VERSION),
    "bench-list": Form("headgate bench --list", MeasurementsView, BENCH_VERSION),
}


def schema_of(name: str) -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of a form. An answer has every key, also those with default values."""
    form = FORMS[name]
    made = TypeAdapter(form.type).json_schema(mode="serialization")
    for one in (made, *made.get("$defs", {}).values()):
        if "properties" in one:
            one["required"] = list(one["properties"])
    made["properties"][form.key]["const"] = form.version
    return {"$schema": DIALECT, "$id": f"urn:headgate:{name}:{form.version}", **made}


def schema_text(name: str) -> str:
    """The schema as a file."""
    return json.dumps(schema_of(name), indent=2) + "\n"


def forms_page() -> str:
    """The list of all schemas."""
    rows = [
        f"| `{form.command} -o json` | {'one on each line' if form.lines else 'one'} | [{name}.json]({name}.json) "
        f"| `{form.key}` = {form.version} |\n"
        for name, form in FORMS.items()
    ]
    return (
        "# What commands print for programs\n\n"
        "JSON schemas (draft 2020-12) of what commands print with `-o json`, made of the types in the code. An\n"
        "answer has every key of its form, and the form's number. The number grows when a key goes, or changes its\n"
        "name, type or meaning; new keys may come under the same number, so programs should pass over keys that\n"
        "they do not know.\n\n"
        "| command | objects | schema | number |\n|---|---|---|---|\n"
        f"{''.join(rows)}\n"
        "With `--follow`, `headgate drops` prints the lines of `headgate audit`. `headgate check -o sarif` and\n"
        "`-o junit` have the forms of SARIF 2.1.0 and JUnit. Each `policy` of\n"
        "`headgate recommend` is a NetworkPolicy of `networking.k8s.io/v1`.\n"
    )
