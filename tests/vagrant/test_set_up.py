"""`vagrant up` in a fresh checkout: what the host must have is made first, a machine that failed ends the wait at once,
and what messages say to run is what helps. Needs neither vagrant nor machines."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.paths import ROOT

SCRIPTS = ROOT / "topology" / "vagrant"
PROGRAMS = ("etcd", "kube-apiserver", "kubectl")


def script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}")
    path.chmod(0o755)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose long work is made up: it notes that it was done."""
    shutil.copytree(SCRIPTS, tmp_path / "topology" / "vagrant")
    shutil.copytree(ROOT / "tests" / "envtest", tmp_path / "tests" / "envtest")
    script(tmp_path / "scripts" / "packages", "echo packages >>done\nsleep 0.3\n")
    script(tmp_path / "tests" / "envtest" / "build", "echo build >>done\n")
    for name in PROGRAMS:
        script(tmp_path / "assets" / name, f"echo {name}\n")
    return tmp_path


def prepare(checkout: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    env = {
        **os.environ,
        "HOME": str(checkout),
        "XDG_CACHE_HOME": str(checkout),
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    }
    env.pop("KUBEBUILDER_ASSETS", None)
    return subprocess.Popen(
        [str(checkout / "topology" / "vagrant" / "prepare"), *arguments],
        env={**env, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


def test_machines_of_one_call_have_all_of_it_made_once(checkout: Path) -> None:
    assets = {"KUBEBUILDER_ASSETS": str(checkout / "assets")}
    calls = [prepare(checkout, "7-1", **assets) for _ in range(3)]
    assert [call.communicate() and call.returncode for call in calls] == [0, 0, 0]
    assert (checkout / "done").read_text() == "packages\nbuild\n"
    there = checkout / "build" / "vagrant" / "kubernetes"
    assert {path.name: path.resolve().parent.name for path in there.iterdir()} == dict.fromkeys(PROGRAMS, "assets")
    again = prepare(checkout, "8-1", **assets)
    again.communicate()
    assert (checkout / "done").read_text() == "packages\nbuild\n" * 2
    assert again.returncode == 0


def test_without_an_api_server_no_machine_comes_up(checkout: Path) -> None:
    calls = [prepare(checkout, "7-1", ENVTEST="skip") for _ in range(3)]
    said = [call.communicate()[1] for call in calls]
    assert [call.returncode for call in calls] == [1, 1, 1]
    assert (checkout / "done").read_text() == "packages\nbuild\n"
    assert sum("run `make envtest`, or name their folder with KUBEBUILDER_ASSETS" in text for text in said) == 1
    assert subprocess.run(["make", "-n", "envtest"], cwd=ROOT, check=False, capture_output=True).returncode == 0
    wrong = prepare(checkout, "8-1", KUBEBUILDER_ASSETS="/nonexistent")
    assert "does not hold etcd, kube-apiserver and kubectl" in wrong.communicate()[1]
    assert wrong.returncode == 1


SSH = """
while [ "$1" != -n ] && [ "$1" != -F ]; do shift; done
for word; do case $word in controller|node[0-9]) machine=$word ;; esac; done
cat "{states}/$machine" 2>/dev/null
"""


def matrix(checkout: Path, states: dict[str, str], made: tuple[str, ...] = ("controller", "node1", "node2")) -> str:
    """What the script says at the end of `vagrant up`; it must end at once."""
    topology = {"nodes": [{"name": "node1"}, {"name": "node2"}]}
    (checkout / "build" / "vagrant").mkdir(parents=True, exist_ok=True)
    (checkout / "build" / "vagrant" / "topology.json").write_text(
        json.dumps(topology, indent=2).replace('"name": "node1"', '"name": "node1",').replace('"node2"', '"node2",')
    )
    for name in made:
        (checkout / ".vagrant" / "machines" / name / "libvirt").mkdir(parents=True)
        (checkout / ".vagrant" / "machines" / name / "libvirt" / "id").write_text("x")
    for name, state in states.items():
        (checkout / name).write_text(state)
    script(checkout / "bin" / "ssh", SSH.format(states=checkout))
    began = time.monotonic()
    done = subprocess.run(
        [str(checkout / "topology" / "vagrant" / "matrix")],
        env={**os.environ, "PATH": f"{checkout / 'bin'}:{os.environ['PATH']}", "HEADGATE_VAGRANT_PATIENCE": "30"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert time.monotonic() - began < 20
    assert done.returncode == 1
    return done.stderr


def test_a_machine_that_failed_ends_the_wait_at_once(checkout: Path) -> None:
    said = matrix(checkout, {"node1": "ready\n", "node2": "failed\n"})  # and the controller says nothing yet
    assert said.startswith("matrix: node2 could not be set up")
    assert "run: vagrant reload node2 && topology/vagrant/matrix" in said


def test_a_machine_that_was_never_made_ends_the_wait_at_once(checkout: Path) -> None:
    said = matrix(checkout, {"node1": "ready\n", "node2": "ready\n"}, ("node1", "node2"))
    assert said == "matrix: there is no machine controller; run: vagrant up controller && topology/vagrant/matrix\n"


@pytest.mark.parametrize(("command", "failed"), [("true", False), ("false", True), ("exit 3", True)])
def test_provisioning_leaves_word_when_it_fails(tmp_path: Path, command: str, failed: bool) -> None:
    common = (SCRIPTS / "common.sh").read_text().replace("/run/", f"{tmp_path}/").replace("/var/lib/", f"{tmp_path}/")
    (tmp_path / "common.sh").write_text(common)
    (tmp_path / "headgate-vagrant-failed").touch()
    (tmp_path / "headgate-vagrant-ready").touch()
    subprocess.run(["sh", "-c", f"set -eu; . {tmp_path}/common.sh; begin flat; {command}; :"], check=False)
    assert (tmp_path / "headgate-vagrant-failed").exists() == failed
    assert not (tmp_path / "headgate-vagrant-ready").exists()


def test_all_provisioners_begin_so() -> None:
    for name in ("controller.sh", "node.sh", "cluster-controller.sh", "cluster-node.sh"):
        lines = (SCRIPTS / name).read_text().splitlines()
        first = lines[lines.index(". /vagrant/topology/vagrant/common.sh") + 1]
        assert first == ("begin overlay" if name.startswith("cluster") else "begin flat")
        assert lines[-1] == 'touch "$READY"'


def test_what_messages_say_to_run_does_what_is_needed() -> None:
    """Each recipe brings the files and provisions again: `reload` and `up` do, with what comes before them."""
    vagrantfile = (ROOT / "Vagrantfile").read_text()
    before = re.search(r"trigger\.before (.*) do", vagrantfile)
    assert before
    recipes = {
        found for path in SCRIPTS.iterdir() for found in re.findall(r"run: (vagrant [a-z]+ \S+)", path.read_text())
    }
    assert {recipe.split()[1] for recipe in recipes} == {"up", "reload"}
    assert all(f":{recipe.split()[1]}" in before[1].split(", ") for recipe in recipes)
    assert 'synced_folder ASSETS, "/opt/kubernetes/bin"' in vagrantfile
    assert vagrantfile.count('run: "always"') == 3


STAND_IN = """
require "json"
$told = { before: [], after: [], folders: [], provision: [] }
class Anything
  def method_missing(name, *arguments, **options)
    $told[:folders] << arguments.take(2) + [options[:rsync__exclude]] if name == :synced_folder
    $told[:provision] << options if name == :provision
    inner = Anything.new
    $told[name] << { on: arguments, trigger: inner } if name == :before || name == :after
    (@set ||= {})[name] = arguments.first if name.end_with?("=")
    yield inner if block_given?
    inner
  end
  def respond_to_missing?(*) = true
  def to_json(*all) = (@set || {}).to_json(*all)
end
module Vagrant
  def self.configure(_, &block) = $configure = block
end
load ARGV[0]
$configure.call(Anything.new)
puts $told.to_json
"""


def told_by_the_vagrantfile(checkout: Path, **environment: str) -> dict[str, Any]:
    ruby = shutil.which("ruby")
    if ruby is None:
        pytest.skip("there is no ruby to read the Vagrantfile with")
    shutil.copy(ROOT / "Vagrantfile", checkout)
    (checkout / "stand_in.rb").write_text(STAND_IN)
    command, env = [ruby, "stand_in.rb", str(checkout / "Vagrantfile")], {**os.environ, **environment}
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True, env=env)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_the_vagrantfile_prepares_before_every_machine(checkout: Path) -> None:
    told = told_by_the_vagrantfile(checkout)
    (before,) = told["before"]
    assert before["on"] == ["up", "reload"]
    run = before["trigger"]["run="]
    assert os.access(run["path"], os.X_OK)
    assert re.fullmatch(r"\d+-\d+", run["args"][0])
    assert run["args"][1] == "flat"
    shared = [Path(host) for host, guest, _ in told["folders"] if guest == "/opt/kubernetes/bin"]
    assert len(shared) == 1
    assert shared[0].is_dir()
