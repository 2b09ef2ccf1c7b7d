"""What a shell is given to complete: commands without loading any, names from the controller, and never an error."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from controller.cli import COMMANDS
from controller.cli.completion import SHELLS, VARIABLE
from controller.config.addresses import HostPort
from controller.http.pages import Application
from controller.http.server import HttpServer
from controller.metrics.registry import Metrics
from tests.helpers.controller.fake_views import FakeViews
from topology.host.process import python_path

pytestmark = pytest.mark.process

Complete = Callable[..., list[str]]


@pytest.fixture
def url() -> Iterator[str]:
    application = Application(FakeViews(), Metrics("1", "native").registry, loopback=True)
    server = HttpServer(HostPort("127.0.0.1", 0), application)
    server.start()
    yield f"http://{server.address}"
    server.stop()


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """One in which `headgate` is found and no lab is up."""
    command = tmp_path / "headgate"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m controller "$@"\n')
    command.chmod(0o755)
    paths = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HEADGATE_LAB_DIR": str(tmp_path / "labs")}
    return {**os.environ, **python_path(), **paths}


def complete(environment: dict[str, str], words: str, shell: str = "bash") -> list[str]:
    """What the shell is told for a line; the last word is the one that is being typed."""
    typed = words.split(" ")
    instruction = {VARIABLE: f"{shell}_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(typed) - 1)}
    if shell == "fish":
        instruction["COMP_CWORD"] = typed[-1]
    done = subprocess.run(
        ["headgate"], env={**environment, **instruction}, capture_output=True, text=True, check=False, cwd="/"
    )
    assert done.stderr == ""
    return [line for line in done.stdout.splitlines() if line]


def values(lines: list[str]) -> list[str]:
    """The values of bash's lines."""
    return [line.partition(",")[2] for line in lines]


def test_commands_options_and_choices(environment: dict[str, str]) -> None:
    assert values(complete(environment, "headgate ")) == list(COMMANDS)
    assert values(complete(environment, "headgate st")) == ["status"]
    assert values(complete(environment, "headgate status --wa")) == ["--watch", "--wait"]
    assert "--openflow-listen" in values(complete(environment, "headgate run --openflow-"))
    assert values(complete(environment, "headgate lab ex")) == ["exec"]
    assert values(complete(environment, "headgate completion ")) == list(SHELLS)
    assert values(complete(environment, "headgate help ingress_r")) == ["ingress_refused"]
    assert values(complete(environment, "headgate help iso")) == ["isolated"]


def test_names_come_from_the_controller(environment: dict[str, str], url: str) -> None:
    asked = f"headgate --server {url} flows"
    assert values(complete(environment, f"{asked} --node ")) == ["node-1", "node-2"]
    assert values(complete(environment, f"{asked} --pod tenant-a/b")) == ["tenant-a/backend-1"]
    assert values(complete(environment, f"{asked} --policy ")) == ["tenant-a/odd", "tenant-a/pol1"]
    assert values(complete(environment, f"headgate flows --server {url} --node node-2")) == ["node-2"]
    assert values(complete({**environment, "HEADGATE_SERVER": url}, "headgate flows --node ")) == ["node-1", "node-2"]
    assert values(complete(environment, f"headgate --server {url} status --node ")) == ["node-1", "node-2"]
    assert values(complete(environment, f"headgate pod --server {url} ")) == ["tenant-a/backend-1", "tenant-a/lost"]
    assert values(complete(environment, f"headgate --server {url} policy tenant-a/p")) == ["tenant-a/pol1"]
    assert values(complete(environment, f"headgate --server {url} matrix --namespace ten")) == ["tenant-a"]
    assert complete(environment, f"{asked} --node ", "zsh")[:2] == ["plain", "node-1"]
    assert complete(environment, f"{asked} --node ", "fish") == ["plain,node-1", "plain,node-2"]


def test_where_nobody_answers_there_are_no_names_soon(environment: dict[str, str]) -> None:
    assert complete(environment, "headgate --server http://127.0.0.1:1 flows --pod ") == []
    assert complete(environment, "headgate --server nonsense flows --pod ") == []
    assert complete(environment, "headgate --lab none flows --pod ") == []
    assert complete(environment, "headgate lab exec ") == []
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        assert complete(environment, f"headgate --server http://127.0.0.1:{silent.getsockname()[1]} flows --pod ") == []
        assert time.monotonic() - began < 10  # the second that it waits, and the start of Python on a busy machine


def test_bash_completes(environment: dict[str, str], url: str) -> None:
    script = (
        'source <(headgate completion bash) || exit 1; COMP_WORDS=(headgate --server "$1" flows --pod tenant-a/); '
        'COMP_CWORD=5; _headgate_completion headgate; printf "%s\\n" "${COMPREPLY[@]}"; complete -p headgate'
    )
    done = subprocess.run(
        ["bash", "-c", script, "bash", url], env=environment, capture_output=True, text=True, check=True, cwd="/"
    )
    assert done.stderr == ""
    assert done.stdout.splitlines()[:2] == ["tenant-a/backend-1", "tenant-a/lost"]
    assert "_headgate_completion headgate" in done.stdout


@pytest.mark.parametrize("shell", SHELLS)
def test_scripts_are_printed_and_ask_headgate(shell: str, environment: dict[str, str]) -> None:
    command = ["headgate", "completion", shell]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd="/")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{VARIABLE}={shell}_complete" in done.stdout
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=done.stdout, text=True, check=True)


def test_names_of_a_lab_are_its_endpoints(environment: dict[str, str], tmp_path: Path) -> None:
    from topology.lab.state import LabState, save_lab
    from topology.spec.load import load_topology

    folder = tmp_path / "labs" / "demo"
    folder.mkdir(parents=True)
    save_lab(folder, load_topology(), LabState("userspace", False, 1, 2, True))
    assert values(complete(environment, "headgate lab exec tenant-b/")) == ["tenant-b/frontend"]
    assert values(complete(environment, "headgate lab probe --from node:")) == ["node:node-1", "node:node-2"]
    assert values(complete(environment, "headgate lab --name ")) == ["demo"]
