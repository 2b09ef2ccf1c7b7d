"""Findings as text, JSON, SARIF 2.1.0 and JUnit XML."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any
from xml.etree import ElementTree

from controller.base.printable import printable
from controller.base.version import version
from controller.cli.check.collect import Checked, Located
from flows.lint.codes import CODES, Severity

CHECK_VERSION = 1
SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
NO_PODS = "There are no pods here, so nothing was said of what selects none: --beside PATH has those of a cluster."
_LEVELS = {Severity.NOTE: "note", Severity.WARNING: "warning", Severity.ERROR: "error"}


@dataclass(frozen=True, slots=True)
class FindingView:
    """A finding as JSON. `severity` is note, warning or error; `object` is `Kind namespace/name`, "" where unknown."""

    code: str
    severity: str
    file: str
    line: int
    object: str
    field: str
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class CheckView:
    """The answer of `headgate check -o json`; `version` is that of the form."""

    version: int
    files: int
    policies: int
    silenced: int
    findings: tuple[FindingView, ...]


def check_view(found: Checked) -> CheckView:
    """The findings as values for programs."""
    views = tuple(_view(one) for one in found.findings)
    return CheckView(CHECK_VERSION, found.files, found.policies, found.silenced, views)


def _view(one: Located) -> FindingView:
    finding = one.finding
    name = f"{finding.kind} {finding.key}".strip()
    level = _LEVELS[finding.code.severity]
    return FindingView(
        finding.code.number, level, one.file, one.line, name, finding.field, finding.message, finding.code.hint
    )


def as_text(found: Checked) -> str:
    """One line a finding as compilers print them, the hint once for each code, and the number of each severity."""
    lines = []
    hinted = set()
    for one in map(_view, found.findings):
        about = f"{one.object}: " if one.object else ""
        lines.append(f"{one.file}:{one.line}: {one.severity} {one.code}: {about}{one.message}")
        if one.code not in hinted:
            hinted.add(one.code)
            lines.append(f"    {one.hint}")
    lines.append(_summary(found))
    return "\n".join(map(printable, lines))


def _summary(found: Checked) -> str:
    counts = []
    for severity in sorted(Severity, reverse=True):
        number = sum(one.finding.code.severity is severity for one in found.findings)
        if number:
            counts.append(_count(number, _LEVELS[severity]))
    silenced = f"; {found.silenced} silenced" if found.silenced else ""
    read = f"{_count(found.files, 'file')} with {_count(found.policies, 'policy', 'policies')}"
    blind = "" if found.cluster.cluster.pods or not found.policies else f"\n{NO_PODS}"
    return f"{', '.join(counts) or 'nothing found'} in {read}{silenced}{blind}"


def _count(number: int, one: str, more: str = "") -> str:
    return f"{number:,} {one if number == 1 else more or one + 's'}"


def as_json(found: Checked) -> str:
    """The findings as JSON; docs/schemas/check.json is its schema."""
    return json.dumps(asdict(check_view(found)), indent=2)


def as_sarif(found: Checked) -> str:
    """SARIF 2.1.0, which code hosts show beside the lines."""
    used = sorted({one.finding.code.number for one in found.findings})
    rules = [
        {
            "id": number,
            "name": CODES[number].name,
            "shortDescription": {"text": CODES[number].name},
            "help": {"text": CODES[number].hint},
            "defaultConfiguration": {"level": _LEVELS[CODES[number].severity]},
        }
        for number in used
    ]
    driver = {"name": "headgate check", "version": version(), "rules": rules}
    run = {"tool": {"driver": driver}, "results": [_sarif_result(one) for one in map(_view, found.findings)]}
    return json.dumps({"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)


def _sarif_result(one: FindingView) -> dict[str, Any]:
    place = {"artifactLocation": {"uri": one.file}, "region": {"startLine": max(1, one.line)}}
    text = f"{one.object}: {one.message}" if one.object else one.message
    return {
        "ruleId": one.code,
        "level": one.severity,
        "message": {"text": text},
        "locations": [{"physicalLocation": place}],
    }


def as_junit(found: Checked) -> str:
    """JUnit XML: a test case for each finding, and one that passes where there is none."""
    suite = ElementTree.Element("testsuite", name="headgate check", tests=str(max(1, len(found.findings))))
    suite.set("failures", str(len(found.findings)))
    for one in map(_view, found.findings):
        name = f"{one.code} {one.object or one.file}"
        case = ElementTree.SubElement(suite, "testcase", classname=_xml(one.file), name=_xml(name))
        case.set("line", str(one.line))
        failure = ElementTree.SubElement(case, "failure", type=one.code, message=_xml(one.message))
        failure.text = _xml(f"{one.file}:{one.line}: {one.message}\n{one.hint}")
    if not found.findings:
        ElementTree.SubElement(suite, "testcase", classname="headgate", name="check")
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)


def _xml(text: str) -> str:
    """Text without the characters that XML cannot have."""
    return "".join(one for one in printable(text) if one >= " " or one in "\t\n")


FORMATS: Mapping[str, Callable[[Checked], str]] = {
    "text": as_text,
    "json": as_json,
    "sarif": as_sarif,
    "junit": as_junit,
}
