"""One node of a cluster: its namespaces, control groups and daemons. It stops and starts like a machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from topology.cluster import cgroups
from topology.cluster.control_plane import UNDERLAY_BRIDGE, ControlPlane
from topology.cluster.files import PAUSE_IMAGE
from topology.cluster.names import CONTROL, PREFIXES, NodeName
from topology.errors import LabError
from topology.host import netns, process
from topology.host.links import quiet_namespace, remove_link, sysctl
from topology.host.machine import Datapath, ovs_schema, program

DAEMONS = ("ovsdb-server", "ovs-vswitchd", "containerd", "kubelet")
_PROJECT = Path(__file__).resolve().parents[2]
_INIT = Path(__file__).with_name("node-init.sh")
_ENTER = 'for file in $FILES; do echo $$ >"$file" || exit 1; done; exec "$@"'
_SECONDS = 30.0
_CTR = ("ctr", "--address", "/run/containerd/containerd.sock")
_UNDERLAY = "eth0"
_CONTAINERD = """version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
"""


class ClusterNode:
    """A node. Its files are in FOLDER/nodes/NAME, its namespace in FOLDER/netns/NAME."""

    def __init__(self, control: ControlPlane, name: NodeName, cluster: str, datapath: Datapath) -> None:
        self.control = control
        self.name = name.name
        self.addresses = name.addresses
        self.datapath = datapath
        self.folder = control.folder / "nodes" / self.name
        self.netns = control.folder / "netns" / self.name
        self.group = cgroups.group_name(cluster, self.name)

    def make(self) -> None:
        """Make its folders and settings, once."""
        for name in ("root", "upper", "work", "etc", "containerd", "kubelet"):
            (self.folder / name).mkdir(parents=True)
        for name, text in self.settings().items():
            (self.folder / "etc" / name).write_text(text, encoding="utf-8")

    def settings(self) -> dict[str, str]:
        """The files of /etc/kubernetes that containerd and the kubelet read, by name."""
        kubelet = json.dumps(self._kubelet_settings(), indent=1)
        return {"containerd.toml": _CONTAINERD.format(pause=PAUSE_IMAGE), "kubelet.json": kubelet}

    def boot(self) -> None:
        """Make its namespaces, and start process 1. Raises LabError."""
        self._make_network()
        self._start("init", ["unshare", "--mount", "--uts", "--ipc", "--pid", "--cgroup", "--fork", "--kill-child",
                             "--propagation", "private", str(_INIT), self.name, str(self.folder),
                             *self._other_places()],
                    cgroups.make(self.group))  # fmt: skip
        self._wait("its file system", lambda: self.run("test", "-e", "/run/node-is-made").returncode == 0)

    def shut_down(self) -> None:
        """End it like a machine whose power fails. Its disk stays."""
        roles = {found.role for found in process.find(self.control.folder)}
        for role in sorted(role for role in roles if role.startswith(f"{self.name}/")):
            process.end(self.control.folder, role, signal.SIGKILL)
        netns.remove(self.netns)
        with netns.inside(self.control.netns):
            remove_link(f"to-{self.name}")  # the namespace takes it along, but only some time later
        cgroups.remove(self.group)

    def _make_network(self) -> None:
        """A namespace, and a cable to the bridge of the control plane, and addresses as a machine is configured."""
        netns.create(self.netns)
        run = process.run_program
        with netns.inside(self.control.netns):
            run(
                [
                    "ip",
                    "link",
                    "add",
                    f"to-{self.name}",
                    "type",
                    "veth",
                    "peer",
                    "name",
                    _UNDERLAY,
                    "netns",
                    str(self.netns),
                ]
            )
            run(["ip", "link", "set", f"to-{self.name}", "master", UNDERLAY_BRIDGE, "up"])
        with netns.inside(self.netns):
            quiet_namespace()
            for address, prefix in zip(self.addresses, PREFIXES, strict=True):
                run(
                    [
                        "ip",
                        "addr",
                        "add",
                        f"{address}/{prefix}",
                        "dev",
                        _UNDERLAY,
                        *(["nodad"] if ":" in address else []),
                    ]
                )
            run(["ip", "link", "set", _UNDERLAY, "up"])
            for gateway, option in zip(CONTROL, ("-4", "-6"), strict=True):
                run(["ip", option, "route", "add", "default", "via", gateway, "dev", _UNDERLAY])
            sysctl("ipv4.ip_forward", 1)
            sysctl("ipv6.conf.all.forwarding", 1)

    def _other_places(self) -> list[str]:
        """Folders that the node needs and that are not on the file system of /."""
        needed = [
            _PROJECT,
            self.control.files.folder,
            self.control.folder,
            Path(sys.prefix),
            Path(sys.base_prefix),
            Path("/usr"),
        ]
        top = Path("/").stat().st_dev
        return sorted({str(path) for path in needed if path.stat().st_dev != top})

    # Daemons

    def start_daemon(self, name: str) -> None:
        """Start one of DAEMONS, and wait until it answers. Raises LabError."""
        if name == "ovsdb-server":
            self._start_database()
        elif name == "ovs-vswitchd":
            self._start(
                name,
                [
                    program(name),
                    "--pidfile",
                    "-vconsole:off",
                    "-vsyslog:off",
                    "--log-file=/run/openvswitch/vswitchd.log",
                ],
            )
            self._wait(name, lambda: self.run("ovs-appctl", "-t", name, "version").returncode == 0)
        elif name == "containerd":
            self._start(name, ["containerd", "--config", "/etc/kubernetes/containerd.toml"])
            self._wait(name, lambda: self._ctr("version").returncode == 0)
        else:
            self._start(name, self.kubelet())

    def stop_daemon(self, name: str, how: signal.Signals = signal.SIGTERM) -> None:
        """End one of DAEMONS, and nothing that it has started: pods outlive their runtime. Raises LabError."""
        for found in process.find(self.control.folder, f"{self.name}/{name}"):
            if Path(f"/proc/{found.pid}/comm").read_text(encoding="utf-8").strip() == name:
                os.kill(found.pid, how)
                self._wait(f"the end of {name}", lambda pid=found.pid: not os.path.exists(f"/proc/{pid}/exe"))  # type: ignore[misc]

    def load_images(self) -> None:
        """Import the images, as there is no registry. Raises LabError."""
        for image in self.control.files.images:
            self.import_images(image)

    def import_images(self, archive: Path) -> None:
        """Import the images of an archive, instead of others with their names. Raises LabError."""
        with archive.open("rb") as file:  # it need not be in a folder that the node sees
            command = self.enter_command(*_CTR, "-n", "k8s.io", "images", "import", "-")
            done = subprocess.run(command, stdin=file, capture_output=True, text=True, check=False, env=_environment())
        if done.returncode != 0:
            raise LabError(f"{self.name}: containerd does not take {archive}: {done.stderr.strip()}")

    def join(self) -> None:
        """Run deploy/node.sh on it, as a user does. Raises LabError with what the script says."""
        tunnels = ["--datapath", "netdev", "--underlay", _UNDERLAY] if self.datapath == "userspace" else []
        script = [str(_PROJECT / "deploy" / "node.sh"), "--controller", CONTROL[0], "--name", self.name, "--cni"]
        done = self.run(*script, *tunnels)
        if done.returncode != 0:
            raise LabError(f"deploy/node.sh failed on {self.name}:\n{done.stderr.strip()}")

    def _start_database(self) -> None:
        name, database = "ovsdb-server", "/etc/openvswitch/conf.db"
        if self.run("test", "-e", database).returncode != 0:
            self.check("ovsdb-tool", "create", database, ovs_schema())
        remotes = ["--remote=punix:/run/openvswitch/db.sock", "--remote=db:Open_vSwitch,Open_vSwitch,manager_options"]
        tls = [f"--{option}=db:Open_vSwitch,SSL,{column}" for option, column in
               (("private-key", "private_key"), ("certificate", "certificate"), ("ca-cert", "ca_cert"))]  # fmt: skip
        quiet = ["--pidfile", "-vconsole:off", "-vsyslog:off", "--log-file=/run/openvswitch/ovsdb.log"]
        self._start(name, [program(name), database, *remotes, *tls, *quiet])
        self._wait(name, lambda: self.run("ovs-vsctl", "--timeout=2", "--no-wait", "init").returncode == 0)
        self.check("ovs-vsctl", "--no-wait", "set", "Open_vSwitch", ".", f"external_ids:system-id={self.name}")

    def kubelet(self) -> list[str]:
        """The command of the kubelet."""
        return [
            str(self.control.files.program("kubelet")), "--config=/etc/kubernetes/kubelet.json",
            f"--kubeconfig={self.control.kubeconfig(self.name)}", f"--hostname-override={self.name}",
            f"--node-ip={','.join(self.addresses)}", "--root-dir=/var/lib/kubelet",
        ]  # fmt: skip

    def _kubelet_settings(self) -> dict[str, object]:
        pki = self.control.pki
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "failCgroupV1": False,
            "failSwapOn": False,
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": "/",
            "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(pki / "ca.crt")},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(pki / f"{self.name}.crt"),
            "tlsPrivateKeyFile": str(pki / f"{self.name}.key"),
            "clusterDomain": "cluster.local",
            "clusterDNS": ["10.96.0.10"],
            "resolvConf": "/run/resolv.conf",
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "serializeImagePulls": False,
            "volumePluginDir": "/run/kubelet-plugins",
        }

    # What runs on it

    def enter_command(self, *command: str) -> list[str]:
        """The command that runs `command` on the node. Raises LabError while the node is down."""
        return ["nsenter", "--target", str(self._first_process()), "--all", *command]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a program on the node; the caller looks at how it ended."""
        return subprocess.run(
            self.enter_command(*command), capture_output=True, text=True, check=False, env=_environment()
        )

    def check(self, *command: str) -> str:
        """Run a program on the node and return its output. Raises LabError if it fails."""
        done = self.run(*command)
        if done.returncode != 0:
            raise LabError(f"{self.name}: {' '.join(command)} failed: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def _ctr(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run(*_CTR, *arguments)

    def _first_process(self) -> int:
        for found in process.find(self.control.folder, f"{self.name}/init"):
            status = Path(f"/proc/{found.pid}/status").read_text(encoding="utf-8")
            if any(
                line.split()[1:] == [str(found.pid), "1"] for line in status.splitlines() if line.startswith("NSpid")
            ):
                return found.pid
        raise LabError(f"the node {self.name} is down")

    def _start(self, role: str, command: Sequence[str], groups: Sequence[Path] = ()) -> None:
        """Start a marked process in the node's control groups, and in its namespaces unless it makes them."""
        inside = list(command) if groups else self.enter_command(*command)
        files = groups or cgroups.joined(self.group)
        process.start(
            self.control.folder, f"{self.name}/{role}", ["sh", "-c", _ENTER, "sh", *inside],
            netns=self.netns, log=self.control.logs / f"{self.name}.{role}.log",
            env={**_environment(), "FILES": " ".join(map(str, files))},
        )  # fmt: skip

    def _wait(self, what: str, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _SECONDS
        while True:
            try:
                if ready():
                    return
            except LabError:
                pass
            if time.monotonic() > deadline:
                raise LabError(f"{self.name}: {what} did not come up; logs are in {self.control.logs}")
            time.sleep(0.05)


def _environment() -> Mapping[str, str]:
    """Of programs on a node: not of the lab's caller where that would lead them elsewhere."""
    keep = {
        key: value for key, value in os.environ.items() if not key.startswith(("OVS_", "CNI_", "HEADGATE_", "KUBE"))
    }
    return {**keep, "OVS_RUNDIR": "/run/openvswitch"}
