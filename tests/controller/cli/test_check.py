"""`headgate check`: each finding on a small manifest, with its line; silencing, formats and exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from controller.cli import main
from controller.cli.check.collect import check
from controller.sources.offline import ManifestText
from flows.lint.codes import CODES

Captured = pytest.CaptureFixture[str]
WORLD = """\
{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {team: shop}}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: kube-system}}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {containers: [{name: c, ports: [{name: http, containerPort: 80}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db}}
---
apiVersion: v1
kind: Pod
metadata: {name: dns, namespace: kube-system, labels: {k8s-app: kube-dns}}
"""
HEAD = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: shop}\n"


def _findings(text: str) -> list[tuple[str, int, str]]:
    world, policy = ManifestText("world.yaml", WORLD.encode()), ManifestText("policy.yaml", text.encode())
    found = check([policy], [world]).findings
    return [(one.finding.code.number, one.line, one.finding.message) for one in found]


CASES = {
    "HG001": ("a: [1\n", 2, "is not YAML"),
    "HG002": (HEAD + "spec:\n  podSelector: {}\n  ingress: [{ports: [{port: 70000}]}]\n", 6, "between 1 and 65535"),
    "HG003": (HEAD + "spec:\n  podSelector: {}\n  ingress:\n    - form: []\n", 7, "did you mean from?"),
    "HG006": (
        HEAD.replace("shop}", "shop, annotations: {headgate.io/mode: adit}}") + "spec: {podSelector: {}}\n",
        3,
        "adit",
    ),
    "HG101": (
        HEAD + "spec:\n  podSelector:\n    matchLabels: {app: wep}\n",
        5,
        "none has app=wep; did you mean app=web?",
    ),
    "HG102": (
        HEAD + "spec:\n  podSelector: {}\n  ingress:\n    - from:\n        - podSelector: {matchLabels: {app: wbe}}\n",
        8,
        "did you mean app=web?",
    ),
    "HG103": (
        HEAD
        + "spec:\n  podSelector: {}\n  ingress:\n    - from:\n      - namespaceSelector: {matchLabels: {team: shp}}\n",
        8,
        "no namespace has the label team=shp; did you mean team=shop?",
    ),
    "HG104": (
        HEAD + "spec:\n  podSelector: {}\n  ingress:\n    - ports: [{port: 1}]\n    - ports: [{port: 1}]\n",
        8,
        "same as",
    ),
    "HG105": (
        HEAD + "spec:\n  podSelector: {}\n  ingress:\n    - ports: [{port: 1}]\n    - ports: [{}]\n",
        7,
        "adds nothing to",
    ),
    "HG106": (HEAD + "spec:\n  podSelector: {}\n  ingress:\n    - ports: [{port: htp}]\n", 7, "they have http"),
    "HG107": (
        HEAD
        + "spec:\n  podSelector: {}\n  ingress:\n    - from:\n        - ipBlock:\n            cidr: 10.0.0.0/8\n"
        + "            except: [11.0.0.0/16]\n",
        10,
        "strict subset",
    ),
    "HG108": (
        HEAD
        + "spec:\n  podSelector: {matchLabels: {app: web}}\n  policyTypes: [Egress]\n"
        + "  egress:\n    - ports: [{port: 5432}]\n",
        7,
        "no egress rule of shop/web allows UDP port 53",
    ),
    "HG109": (
        HEAD + "spec:\n  podSelector: {}\n  ingress:\n    - ports: [{port: 8, protocol: ICMP}]\n",
        7,
        "must be TCP, UDP or SCTP",
    ),
    "HG110": (
        HEAD
        + "spec:\n  podSelector: {matchLabels: {app: web}}\n  policyTypes: [Egress]\n  egress:\n"
        + "    - to: [{podSelector: {matchLabels: {app: db}}}]\n    - ports: [{port: 53, protocol: UDP}]\n---\n"
        + HEAD.replace("name: p", "name: q")
        + "spec: {podSelector: {matchLabels: {app: db}}}\n",
        8,
        "but ingress policies of shop/db deny all of it",
    ),
    "HG111": (
        HEAD + "spec:\n  podSelector: {}\n  policyTypes: [Ingress]\n  egress:\n    - {}\n",
        7,
        "policyTypes has no Egress",
    ),
}


@pytest.mark.parametrize("code", CASES)
def test_each_finding_has_its_code_line_and_words(code: str) -> None:
    text, line, words = CASES[code]
    found = _findings(text)
    assert [(one[0], one[1]) for one in found] == [(code, line)]
    assert words in found[0][2]


def test_a_field_one_level_too_low_is_told_where_it_belongs() -> None:
    text = HEAD + "spec:\n  podSelector: {}\n  ingress:\n    - from: [{podSelector: {}, ports: []}]\n"
    assert "ports belongs into the rule, beside from or to" in _findings(text)[0][2]


def test_two_of_one_name_are_told_unless_they_are_equal() -> None:
    one, other = HEAD + "spec: {podSelector: {}}\n", HEAD + "spec: {podSelector: {matchLabels: {app: web}}}\n"
    assert [found[0] for found in _findings(f"{one}---\n{other}")] == ["HG004"]
    assert not _findings(f"{one}---\n{one}")


def test_nothing_is_said_of_labels_where_no_pod_is_known() -> None:
    text = CASES["HG101"][0] + "---\n" + CASES["HG103"][0].replace("name: p", "name: q")
    assert not check([ManifestText("policy.yaml", text.encode())]).findings


def test_a_workload_counts_as_a_pod() -> None:
    workload = """\
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: wep, namespace: shop}
spec: {template: {metadata: {labels: {app: wep}}}}
"""
    assert not _findings(CASES["HG101"][0] + workload)


@pytest.mark.parametrize(
    ("before", "after", "silent"),
    [
        ("  # headgate: ignore HG106\n", "", True),
        ("", "  # headgate: ignore HG104, HG106", True),
        ("# headgate: ignore-file HG106\n\n\n", "", True),
        ("", "  # headgate: ignore HG104", False),
        ("# headgate: ignore HG106\n\n", "", False),
    ],
)
def test_a_comment_silences(before: str, after: str, silent: bool) -> None:
    text = HEAD + f"spec:\n  podSelector: {{}}\n  ingress:\n{before}    - ports: [{{port: htp}}]{after}\n"
    assert bool(_findings(text)) != silent


def test_a_comment_with_an_unknown_code_is_told() -> None:
    assert [one[0] for one in _findings("# headgate: ignore HG999\n")] == ["HG005"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "world.yaml").write_text(WORLD)
    (tmp_path / "policy.yaml").write_text(CASES["HG106"][0])
    return tmp_path


def test_text_and_exit_codes(folder: Path, capsys: Captured) -> None:
    assert main(["check", str(folder)]) == 1
    text = capsys.readouterr().out
    assert f"{folder}/policy.yaml:7: warning HG106: NetworkPolicy shop/p: none of its pods" in text
    assert text.endswith("1 warning in 2 files with 1 policy\n")
    assert main(["check", str(folder), "--fail-on", "error"]) == 0
    assert main(["check", str(folder / "world.yaml")]) == 0
    assert main(["check", str(folder / "policy.yaml"), "--beside", str(folder / "world.yaml")]) == 1
    assert main(["check", str(folder / "none")]) == 2
    assert main(["check"]) == 2


def test_json_fits_its_schema(folder: Path, capsys: Captured) -> None:
    from tests.helpers.paths import ROOT

    main(["check", str(folder), "-o", "json"])
    answer = json.loads(capsys.readouterr().out)
    schema = json.loads((ROOT / "docs/schemas/check.json").read_text())
    assert answer.keys() == schema["properties"].keys()
    assert answer["findings"][0].keys() == schema["$defs"]["FindingView"]["properties"].keys()
    assert answer["findings"][0]["code"] == "HG106" and answer["version"] == 1


def test_sarif_names_rule_file_and_line(folder: Path, capsys: Captured) -> None:
    main(["check", str(folder), "-o", "sarif"])
    run = json.loads(capsys.readouterr().out)["runs"][0]
    (result,) = run["results"]
    assert result["ruleId"] == "HG106" == run["tool"]["driver"]["rules"][0]["id"]
    assert result["locations"][0]["physicalLocation"]["region"] == {"startLine": 7}


def test_junit_fails_a_case_for_each_finding(folder: Path, capsys: Captured) -> None:
    main(["check", str(folder), "-o", "junit"])
    suite = ElementTree.fromstring(capsys.readouterr().out)
    assert suite.get("failures") == "1" and suite.find("testcase/failure") is not None
    main(["check", str(folder / "world.yaml"), "-o", "junit"])
    suite = ElementTree.fromstring(capsys.readouterr().out)
    assert suite.get("failures") == "0" and suite.get("tests") == "1"


def test_all_codes_are_listed(capsys: Captured) -> None:
    assert main(["check", "--codes"]) == 0
    text = capsys.readouterr().out
    assert all(code in text for code in CODES)


def test_without_pods_it_says_what_it_cannot_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "policy.yaml"
    meta = {"name": "p", "namespace": "shop"}
    spec = {"podSelector": {"matchLabels": {"app": "nobody"}}}
    policy = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec}
    file.write_text(json.dumps(policy))
    assert main(["check", str(file)]) == 0
    assert "There are no pods here" in capsys.readouterr().out
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "shop"}}
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": [policy, pod]}))
    main(["check", str(file)])
    assert "There are no pods here" not in capsys.readouterr().out
