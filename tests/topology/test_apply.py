"""`headgate lab apply` and `delete`: all or nothing, faults by file and line, kubectl's words, pods that really come
and go."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.cli.errors import CommandFailure
from controller.cli.lab.manifests import MAX_PROBLEMS_SHOWN, line_of, read_files
from tests.topology.conftest import SMALL, MakeLab, open_switches
from topology.host.process import python_path
from topology.lab.lab import Lab
from topology.probe.matrix import LabProbe

Run = Callable[..., subprocess.CompletedProcess[str]]
POLICY = """apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: p, namespace: x}
spec:
  podSelector: {}
  ingress:
    - ports:
        - port: 80
"""


@pytest.fixture
def up(make_lab: MakeLab) -> Lab:
    lab = make_lab({**SMALL, "namespaces": [{"name": "x"}, {"name": "y", "labels": {"a": "b"}}]})
    lab.up(controller=False)
    return lab


@pytest.fixture
def headgate(base: Path, up: Lab) -> Iterator[Run]:
    def run(*arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "controller", "lab", *arguments],
            env={**os.environ, **python_path(), "HEADGATE_LAB_DIR": str(base)},
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )

    yield run


def snapshot(lab: Lab) -> dict[str, bytes]:
    """All that a manifest could have changed."""
    files = [*lab.manifests.path.iterdir(), lab.folder / "topology.json", *lab.netns_folder.iterdir()]
    return {str(path): b"" if path.parent == lab.netns_folder else path.read_bytes() for path in files}


POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "x"}}


def pod(**changes: Any) -> str:
    return yaml.safe_dump({**POD, **changes})


NEW = {"name": "n", "namespace": "x"}
FAULTY = [
    # what is given, the line that is named, what is said
    (POLICY.replace("80", "99999"), 8, "spec.ingress[0].ports[0].port: must be between 1 and 65535"),
    (POLICY.replace("  podSelector: {}", "  podSelector: {}\n  podSelector: {}"), 6, "is in one object twice"),
    (POLICY.replace("namespace: x", "namespace: xx"), 3, "namespace xx not found; did you mean x?"),
    ("a: [\n", 2, "is not YAML"),
    ("---\nkind: Pod\napiVersion: v1\n", 2, "metadata: is required"),
    (POLICY.replace("networking.k8s.io/v1", "networking.k8s.io/v2"), 1, "must be networking.k8s.io/v1"),
    (pod(spec={"nodeName": "two"}), 7, "spec.nodeName: cannot be changed from one to two"),
    (pod(status={"podIPs": [{"ip": "10.10.7.7"}]}), 7, "status.podIPs: cannot be changed from 10.10.1.1"),
    (pod(spec={"containers": [{"ports": [{"containerPort": 9}]}]}), 7, "the ports of a running pod cannot be changed"),
    (pod(spec={"hostNetwork": True}), 7, "spec.hostNetwork: cannot be changed"),
    (pod(metadata=NEW, spec={"nodeName": "twoo"}), 7, "node twoo not found; did you mean"),
    (pod(metadata=NEW, spec={"hostNetwork": True}), 7, "does not support pods on their node's network"),
    (pod(metadata={"name": "n.n", "namespace": "x"}), 1, "'n.n' is not a name"),
    (pod(metadata=NEW, status={"podIPs": [{"ip": "10.10.1.1"}]}), 1, "both have the address"),
    ("{apiVersion: v1, kind: Node, metadata: {name: three}}", 1, "a lab that is up takes no new ones"),
    ("apiVersion: v1\nkind: Node\nmetadata: {name: one}\nstatus: {addresses: [{type: InternalIP, address: 1.2.3.4}]}",
     4, "status.addresses: cannot be changed"),
]  # fmt: skip


@pytest.mark.lab
def test_a_faulty_manifest_changes_nothing_and_is_told_once(headgate: Run, up: Lab, tmp_path: Path) -> None:
    good = tmp_path / "good.yaml"
    good.write_text(POLICY, encoding="utf-8")
    before = snapshot(up)
    for number, (text, line, reason) in enumerate(FAULTY):
        file = tmp_path / f"faulty-{number}.yaml"
        file.write_text(text, encoding="utf-8")
        done = headgate("apply", "-f", str(good), "-f", str(file))
        assert (done.returncode, done.stdout) == (1, ""), done.stderr
        assert done.stderr.startswith(f"headgate: {file}:{line}: "), (text, done.stderr)
        assert reason in done.stderr
        assert done.stderr.endswith("; nothing was changed\n")
        assert done.stderr.count(str(file)) == 1
        assert snapshot(up) == before


@pytest.mark.lab
def test_what_is_done_is_said_in_kubectls_words(headgate: Run, up: Lab) -> None:
    before = snapshot(up)
    assert headgate("apply", "--dry-run", "-f", "-", text=POLICY).stdout == "networkpolicy x/p created (dry run)\n"
    assert snapshot(up) == before
    assert headgate("apply", "-f", "-", text=POLICY).stdout == "networkpolicy x/p created\n"
    assert headgate("apply", "-f", "-", text=POLICY).stdout == "networkpolicy x/p unchanged\n"
    assert headgate("apply", "-f", "-", text=POLICY.replace("80", "81")).stdout == "networkpolicy x/p configured\n"
    assert headgate("delete", "--dry-run", "-f", "-", text=POLICY).stdout == "networkpolicy x/p deleted (dry run)\n"
    assert headgate("delete", "-f", "-", text=POLICY).stdout == "networkpolicy x/p deleted\n"
    gone = headgate("delete", "-f", "-", text=POLICY)
    assert (gone.returncode, gone.stderr) == (1, "headgate: networkpolicy x/p not found\n")
    assert headgate("delete", "--ignore-not-found", "-f", "-", text=POLICY).returncode == 0
    assert snapshot(up) == before
    faulty = POLICY.replace("80", "99999")  # what is to go needs no more than its name
    assert "not found" in headgate("delete", "-f", "-", text=faulty).stderr
    own = yaml.safe_dump_all(up.manifests.objects())
    assert {line.split()[-1] for line in headgate("apply", "-f", "-", text=own).stdout.splitlines()} == {"unchanged"}


@pytest.mark.lab
def test_kinds_that_headgate_does_not_read_are_said(headgate: Run, up: Lab) -> None:
    service = "apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: x}\n"
    both = headgate("apply", "-f", "-", text=f"{POLICY}---\n{service}")
    assert both.stdout == "networkpolicy x/p created\n"
    assert both.stderr == "headgate: standard input:10: service x/s ignored: a lab does not take this kind\n"
    assert headgate("apply", "-f", "-", text=service).returncode == 1
    assert not [item for item in up.manifests.objects() if item["kind"] == "Service"]


@pytest.mark.lab
def test_a_label_changes_and_status_shows_it(headgate: Run, up: Lab) -> None:
    relabelled = pod(metadata={"name": "a", "namespace": "x", "labels": {"new": "label"}})
    assert headgate("apply", "-f", "-", text=relabelled).stdout == "pod x/a configured\n"
    namespace = "{apiVersion: v1, kind: Namespace, metadata: {name: y, labels: {c: d}}}"
    assert headgate("apply", "-f", "-", text=namespace).stdout == "namespace y configured\n"
    node = "{apiVersion: v1, kind: Node, metadata: {name: one, labels: {zone: z}}}"
    assert headgate("apply", "-f", "-", text=node).stdout == "node one configured\n"
    found = json.loads(headgate("status", "-o", "json").stdout)
    assert found["pods"][0]["labels"] == {"new": "label"}
    assert found["namespaces"][1]["labels"] == {"c": "d", "kubernetes.io/metadata.name": "y"}
    assert "new=label" in headgate("status").stdout
    assert next(item for item in up.manifests.objects() if item["kind"] == "Node")["status"]["addresses"]


@pytest.mark.lab
def test_a_new_pod_is_really_made_and_a_deleted_one_really_goes(headgate: Run, up: Lab, base: Path) -> None:
    open_switches(up)
    new = """
apiVersion: v1
kind: Pod
metadata: {name: c, namespace: new, labels: {l: v}, annotations: {kept: "yes"}}
spec: {nodeName: two, containers: [{name: m, image: i, ports: [{containerPort: 90, protocol: UDP, name: q}]}]}
---
{apiVersion: v1, kind: Namespace, metadata: {name: new, labels: {n: v}}}
"""
    assert headgate("apply", "-f", "-", text=new).stdout == "pod new/c created\nnamespace new created\n"
    lab = Lab.load("t", base)
    assert all(one.reachable for one in lab.run_probes([LabProbe("x/a", "new/c", "UDP", 90, 4)]).results.values())
    made = next(item for item in lab.manifests.objects() if item["metadata"]["name"] == "c")
    assert made["metadata"]["annotations"] == {"kept": "yes"}
    assert made["status"]["podIPs"][0]["ip"] == lab.endpoints["new/c"].addresses[4]
    assert headgate("apply", "-f", "-", text=new).stdout == "pod new/c unchanged\nnamespace new unchanged\n"
    gone = headgate("delete", "-f", "-", text="{apiVersion: v1, kind: Namespace, metadata: {name: new}}")
    assert gone.stdout == "pod new/c deleted\nnamespace new deleted\n"
    assert "new/c" not in Lab.load("t", base).endpoints
    assert not lab.netns("new/c").exists()
    # The address of one that went is free for the next, and that of one that stayed is not.
    text = pod(metadata={"name": "a", "namespace": "x"})
    assert headgate("delete", "-f", "-", text=text).stdout == "pod x/a deleted\n"
    assert headgate("apply", "-f", "-", text=text).stdout == "pod x/a created\n"
    assert headgate("apply", "-f", "-", text=text.replace("name: a", "name: d")).stdout == "pod x/d created\n"
    assert Lab.load("t", base).probe(["x/a", "x/b", "x/d"], families=[4]).count()["denied"] == 0
    refused = headgate("delete", "-f", "-", text="{apiVersion: v1, kind: Node, metadata: {name: one}}")
    assert "a node of a running lab cannot be deleted" in refused.stderr


def test_lines_are_those_of_the_field() -> None:
    text = "# first\na: 1\n---\n# second\nspec:\n  list:\n    - one: 1\n    - two:\n        three: 3\n"
    places = {"spec.list[0].one": 7, "spec.list[1].two.three": 9, "spec.list[1].four": 8, "spec.list[7]": 6, "": 5}
    assert {path: line_of(text, 4, path) for path in places} == places
    assert line_of("a: [", 1, "a[0]") == 1
    assert line_of("", 1, "a") == 1


def test_only_the_first_of_many_faults_are_told(tmp_path: Path) -> None:
    file = tmp_path / "many.yaml"
    file.write_text("---\nkind: Pod\n" * 60, encoding="utf-8")
    with pytest.raises(CommandFailure) as caught:
        read_files([str(file)], whole=True)
    lines = caught.value.message.splitlines()
    assert len(lines) == MAX_PROBLEMS_SHOWN + 2
    assert lines[0] == "60 problems; nothing was changed:"
    assert lines[-1] == f"  and {60 - MAX_PROBLEMS_SHOWN} more"


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"a: 1\n\xff\xfe")
    for whole in (True, False):
        with pytest.raises(CommandFailure, match=r"binary\.yaml: is not UTF-8"):
            read_files([str(binary)], whole)
    with pytest.raises(CommandFailure, match="No such file"):
        read_files([str(tmp_path / "none.yaml")], whole=True)
    with pytest.raises(CommandFailure, match="Is a directory"):
        read_files([str(tmp_path)], whole=True)
