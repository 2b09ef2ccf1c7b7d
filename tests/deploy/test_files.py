"""Files that are installed unchanged: settings, units, shell scripts, the Dockerfile."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.config.schema import RunConfig
from node.host_names import FAMILIES, HEALTH, HEALTH_PORT
from tests.deploy.documents import DEPLOY, deployment

ROOT = DEPLOY.parent
UNIT = DEPLOY / "systemd" / "headgate.service"
NODE_UNIT = DEPLOY / "systemd" / "headgate-node.service"
SCRIPTS = [
    path
    for folder in (DEPLOY, ROOT / "scripts", ROOT / "topology" / "vagrant")
    for path in sorted(folder.iterdir())
    if path.is_file() and path.read_bytes()[:11] in (b"#!/bin/sh\n#", b"#!/bin/sh\ns", b"#!/usr/bin/")
]


def test_the_settings_that_are_installed_are_understood() -> None:
    given: dict[str, Any] = yaml.safe_load((DEPLOY / "headgate.yaml").read_text())
    assert RunConfig.model_validate(given).kubeconfig == "/etc/headgate/kubeconfig"


def test_the_settings_of_the_walk_to_a_cluster_are_understood() -> None:
    page = (ROOT / "docs" / "cluster.md").read_text()
    (text,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    config = RunConfig.model_validate(yaml.safe_load(text))
    assert (config.network, config.pod_cidr, config.node_cidr) == ("overlay", ("10.244.0.0/16",), ("192.0.2.0/24",))


def test_the_container_is_given_flags_that_there_are() -> None:
    container = deployment()["spec"]["template"]["spec"]["containers"][0]
    words = dict(word.removeprefix("--").split("=", 1) for word in container["args"][1:])
    given = {name.replace("-", "_"): value.replace("$(HOST_IP)", "192.0.2.1") for name, value in words.items()}
    config = RunConfig.model_validate(given)
    ports = {port["containerPort"] for port in container["ports"]}
    assert ports == {config.openflow_address.port, 6640, config.http_address.port}


def test_the_container_runs_what_is_built_and_not_as_root() -> None:
    text = (DEPLOY / "Containerfile").read_text()
    joined = text.replace("\\\n", " ")
    steps = [line.split(maxsplit=1) for line in joined.splitlines() if line and not line.startswith("#")]
    assert {word for word, _ in steps} <= {
        "FROM",
        "RUN",
        "WORKDIR",
        "COPY",
        "ENV",
        "USER",
        "EXPOSE",
        "ENTRYPOINT",
        "CMD",
    }
    copied = [words.split()[:-1] for step, words in steps if step == "COPY" and not words.startswith("--from")]
    assert all((ROOT / name).exists() for names in copied for name in names)
    user = next(words for step, words in steps if step == "USER")
    security = deployment()["spec"]["template"]["spec"]["securityContext"]
    assert user == f"{security['runAsUser']}:{security['runAsGroup']}"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_the_nodes_unit_is_understood_and_does_not_hold_up_the_kubelet(tmp_path: Path) -> None:
    """A new node has no pod CIDR, and so no network, before its kubelet has registered it."""
    text = NODE_UNIT.read_text()
    assert "Before=" not in text
    checked = tmp_path / NODE_UNIT.name
    checked.write_text(text.replace("/usr/local/sbin/headgate-node", "/bin/true"))
    command = ["systemd-analyze", "verify", "--man=no", str(checked)]
    verify = subprocess.run(command, capture_output=True, text=True, check=False)
    assert [line for line in verify.stderr.splitlines() if "headgate" in line] == []


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_the_units_of_health_checks_are_understood_and_fit_the_program(tmp_path: Path) -> None:
    names = ["headgate-health.socket", "headgate-health.service"]
    for name in names:
        text = (NODE_UNIT.parent / name).read_text()
        (tmp_path / name).write_text(text.replace("/usr/local/sbin/headgate-node", "/bin/true"))
    command = ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / name) for name in names)]
    verify = subprocess.run(command, capture_output=True, text=True, check=False)
    assert [line for line in verify.stderr.splitlines() if "headgate" in line] == []
    listens = re.findall(r"ListenStream=(\S+)", (NODE_UNIT.parent / names[0]).read_text())
    assert listens == [f"{HEALTH[FAMILIES[0]]}:{HEALTH_PORT}", f"[{HEALTH[FAMILIES[1]]}]:{HEALTH_PORT}"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_the_unit_is_understood_and_locked_down(tmp_path: Path) -> None:
    # The program is not installed here, and that it is missing is all that may be said.
    checked = tmp_path / "headgate.service"
    checked.write_text(UNIT.read_text().replace("/opt/headgate/bin/headgate", "/bin/true"))
    verify = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(checked)], capture_output=True, text=True, check=False
    )
    said = [line for line in verify.stderr.splitlines() if "headgate" in line]
    assert said == []
    rate = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(checked)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    level = re.search(r"Overall exposure level for headgate.service: ([\d.]+)", rate.stdout)
    assert level is not None, rate.stderr
    assert float(level[1]) < 2.0, rate.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_has_nothing_to_say(script: Path) -> None:
    # `make test` installs it beside this Python, which need not be in PATH.
    shellcheck = shutil.which("shellcheck", path=os.pathsep.join((sysconfig.get_path("scripts"), os.environ["PATH"])))
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run(
        [shellcheck, "--external-sources", str(script)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout + done.stderr == ""
