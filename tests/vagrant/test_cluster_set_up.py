"""`HEADGATE_NETWORK=overlay vagrant up`, as far as it goes without machines: what the host prepares and each machine
gets of it, the units and settings that `headgate lab machine` writes, and the provisioning scripts, whose programs note
how they were called. That a cluster comes of it only machines can show; its parts are those of `make cluster`."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from controller.config.load import load_config
from tests.helpers.paths import ROOT
from tests.vagrant.test_set_up import SCRIPTS, checkout, prepare, script, told_by_the_vagrantfile
from topology.cluster import machines
from topology.cluster.control_plane import PROGRAMS, ControlPlane
from topology.cluster.files import KUBERNETES, ClusterFiles
from topology.cluster.names import MAX_NODES, POD_CIDRS, NodeName

__all__ = ["checkout"]
NOTING = 'echo "${0##*/} $*" >>"$NOTES"\n'


def test_each_machine_gets_its_own_keys_alone(checkout: Path) -> None:
    told = told_by_the_vagrantfile(checkout, HEADGATE_NETWORK="overlay", HEADGATE_VAGRANT_NODES="2")
    assert [one["path"].rpartition("/")[2] for one in told["provision"]] == [
        "cluster-controller.sh",
        *["cluster-node.sh"] * 2,
    ]
    assert [one["args"] for one in told["provision"]] == [[], ["1"], ["2"]]
    assert told["before"][0]["trigger"]["run="]["args"][1] == "overlay"
    left_out = [set(excluded) for _, guest, excluded in told["folders"] if guest == "/vagrant"]
    everything = {f"/build/vagrant/cluster/machines/{name}" for name in ("control", *(f"n{n}" for n in range(1, 10)))}
    assert [everything - one for one in left_out] == [
        {f"/build/vagrant/cluster/machines/{name}"} for name in ("control", "n1", "n2")
    ]
    flat = told_by_the_vagrantfile(checkout)
    assert all("/build/vagrant/cluster" in excluded for _, guest, excluded in flat["folders"] if guest == "/vagrant")


def test_another_network_is_refused(checkout: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        told_by_the_vagrantfile(checkout, HEADGATE_NETWORK="routed")
    assert "HEADGATE_NETWORK must be flat or overlay" in refused.value.stderr


def test_the_host_makes_certificates_and_finds_programs(checkout: Path) -> None:
    there = ClusterFiles(checkout / "headgate" / "cluster")
    for path in (*map(there.program, ("etcd", "hyper", *KUBERNETES)), *there.images):
        script(path, "exit 0\n")
    shutil.copytree(ROOT / "scripts" / "cluster-files", checkout / "scripts" / "cluster-files")
    for name, rest in (("python", ""), ("headgate", "-m controller")):
        script(checkout / ".venv" / "bin" / name, f'PYTHONPATH={ROOT} exec {sys.executable} {rest} "$@"\n')
    nowhere = {"HEADGATE_CLUSTER_FILES": str(checkout / "nowhere")}
    for number in range(2):
        call = prepare(checkout, f"{number}-1", "overlay", **nowhere)
        assert (call.communicate()[1], call.returncode) == ("", 0)
    made = checkout / "build" / "vagrant" / "cluster"
    assert {path.name for path in (made / "files" / "bin").iterdir()} == {"hyper", "etcd"}
    assert {path.name for path in (made / "files" / "img").iterdir()} == {"pause.tar", "agnhost.tar"}
    assert (made / "machines" / "n8" / "pki" / "n8.key").exists()
    assert (checkout / "done").read_text() == "packages\n" * 2  # no envtest


def test_what_proves_a_machine_is_enough_and_no_more(tmp_path: Path) -> None:
    assert machines.certify(tmp_path / "made")
    assert not machines.certify(tmp_path / "made")
    control = tmp_path / "made" / "control" / "pki"
    for number in range(1, MAX_NODES + 1):
        name = NodeName(number).name
        own = tmp_path / "made" / name / "pki"
        assert sorted(path.name for path in own.iterdir()) == sorted(
            ["ca.crt", f"{name}.crt", f"{name}.key", f"{name}.kubeconfig"]
        )
        assert [path.name for path in own.iterdir() if path.stat().st_mode & 0o077 and path.suffix != ".crt"] == []
        ssl.create_default_context().load_cert_chain(own / f"{name}.crt", own / f"{name}.key")
        config = json.loads((own / f"{name}.kubeconfig").read_text())
        assert config["clusters"][0]["cluster"]["server"] == "https://172.31.0.1:6443"
        assert str(tmp_path) not in json.dumps(config)  # it is enough by itself, wherever it goes
        assert config["users"][0]["user"]["token"] in (control / "tokens.csv").read_text()


def test_units_start_what_make_cluster_starts(tmp_path: Path) -> None:
    (tmp_path / "lab").mkdir()
    control = ControlPlane(tmp_path / "lab", ClusterFiles(Path("/opt/kubernetes")))
    assert machines.write_control_plane(tmp_path / "lab", tmp_path) == [f"lab-{name}.service" for name in PROGRAMS]
    for name in PROGRAMS:
        text = (tmp_path / f"lab-{name}.service").read_text()
        (line,) = [line for line in text.splitlines() if line.startswith("ExecStart=")]
        words = shlex.split(line.removeprefix("ExecStart=").replace("%%", "%").replace("$$", "$"))
        assert words == [f"/opt/kubernetes/bin/{name}", *control.arguments(name)]
    assert machines.write_node(tmp_path / "lab", 2, tmp_path, tmp_path / "etc") == ["lab-kubelet.service"]
    kubelet = (tmp_path / "lab-kubelet.service").read_text()
    assert "--hostname-override=n2 --node-ip=172.31.0.12,fd00:172:31::12" in kubelet
    settings = json.loads((tmp_path / "etc" / "kubelet.json").read_text())
    assert settings["tlsCertFile"] == f"{tmp_path}/lab/pki/n2.crt"
    assert "/opt/cni/bin" in (tmp_path / "etc" / "containerd.toml").read_text()


class Guest:
    """A machine's files in a folder: the scripts run there, and programs that act note their calls."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notes = folder / "notes"
        shutil.copytree(SCRIPTS, folder / "vagrant" / "topology" / "vagrant")
        shutil.copytree(ROOT / "deploy", folder / "vagrant" / "deploy")
        for place in (
            "run",
            "var/lib",
            "etc/systemd/system",
            "usr/lib/cni",
            "opt/kubernetes/bin",
            "opt/kubernetes/img",
        ):
            (folder / place).mkdir(parents=True)
        for plugin in ("host-local", "portmap"):
            script(folder / "usr" / "lib" / "cni" / plugin, "exit 0\n")
        (folder / "opt" / "kubernetes" / "img" / "pause.tar").write_text("an image")
        (folder / "sys" / "class" / "net" / "eth2" / "device").mkdir(parents=True)
        machines.certify(folder / "vagrant" / "build" / "vagrant" / "cluster" / "machines")
        noting = ("apt-get", "systemctl", "ctr", "systemd-sysusers", "install", "ip")
        for name in noting:
            script(folder / "bin" / name, NOTING)
        for name in ("controller.sh", "node.sh"):
            script(folder / "vagrant" / "deploy" / name, NOTING)
        script(folder / "opt" / "kubernetes" / "bin" / "kubectl", f"{NOTING}echo ok\n")
        script(
            folder / "bin" / "headgate",
            f'{NOTING}cd {ROOT}; {sys.executable} -m controller "$@" --units {folder}/etc/systemd/system $MORE\n',
        )
        for path in (folder / "vagrant" / "topology" / "vagrant").iterdir():
            text = path.read_text()
            for place in ("/vagrant/", "/run/", "/var/lib/", "/etc/", "/opt/", "/usr/lib/cni", "/sys/class/"):
                text = text.replace(f" {place}", f" {folder}{place}").replace(f'"{place}', f'"{folder}{place}')
                text = text.replace(f"\n{place}", f"\n{folder}{place}")
                text = text.replace(f"={place}", f"={folder}{place}").replace(f">{place}", f">{folder}{place}")
            path.write_text(text.replace("python3 -c", f"{sys.executable} -c").replace("ln -sfn", "true"))

    def provision(self, name: str, *arguments: str, more: str = "", code: int = 0) -> list[str]:
        """Run a provisioning script; the calls that it made."""
        self.notes.write_text("")
        path = self.folder / "vagrant" / "topology" / "vagrant" / name
        env = {"PATH": f"{self.folder / 'bin'}:/usr/bin:/bin", "NOTES": str(self.notes), "MORE": more, "HOME": "/"}
        done = subprocess.run(["sh", str(path), *arguments], env=env, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        return [done.stderr] if code else self.notes.read_text().replace(str(self.folder), "").splitlines()


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    return Guest(tmp_path)


def test_a_node_is_provisioned_as_the_page_says_and_again_at_every_boot(guest: Guest) -> None:
    for _ in range(2):
        calls = guest.provision("cluster-node.sh", "2", more=f"--etc {guest.folder}/etc/kubernetes")
        assert "ip addr replace 172.31.0.12/24 dev eth2" in calls
        assert "ip addr replace fd00:172:31::12/64 dev eth2 nodad" in calls
        order = [
            "ip link set dev eth2 up",
            "headgate lab machine kubelet /var/lib/headgate-lab 2",
            "ctr --namespace k8s.io images import /opt/kubernetes/img/pause.tar",
            "node.sh --controller 172.31.0.1 --name n2 --cni",
            "systemctl --quiet enable lab-kubelet.service",
            "systemctl restart lab-kubelet.service",
        ]
        assert [call for call in calls if call in order] == order
        assert (guest.folder / "run" / "headgate-vagrant-ready").exists()
    assert (guest.folder / "etc" / "containerd" / "config.toml").read_text().startswith("version = 2")
    assert os.access(guest.folder / "opt" / "cni" / "bin" / "host-local", os.X_OK)
    assert (guest.folder / "var" / "lib" / "headgate-lab" / "pki" / "n2.key").stat().st_mode & 0o077 == 0
    refused = guest.provision("node.sh", "node2", "192.0.2.1", code=1)
    assert "made with HEADGATE_NETWORK=overlay" in refused[0]


def test_the_control_plane_is_provisioned_and_headgate_comes_last(guest: Guest) -> None:
    calls = guest.provision("cluster-controller.sh")
    order = [
        "headgate lab machine control-plane /var/lib/headgate-lab",
        f"systemctl --quiet enable --now {' '.join(f'lab-{name}.service' for name in PROGRAMS)}",
        "kubectl --kubeconfig=/var/lib/headgate-lab/pki/admin.kubeconfig get --raw /readyz",
        "install -m 640 -g headgate /var/lib/headgate-lab/pki/headgate.kubeconfig /etc/headgate/kubeconfig",
        "controller.sh --config /var/lib/headgate-lab/headgate.yaml",
    ]
    assert [call for call in calls if call in order] == order
    config = load_config({}, {}, guest.folder / "var" / "lib" / "headgate-lab" / "headgate.yaml")
    assert (config.network, [str(cidr) for cidr in config.pod_cidr]) == ("overlay", list(POD_CIDRS))
