"""Runs a suite against the cluster of `make cluster`: `python -m tests.upstream e2e|conformance`.

Both begin alike: the nodes get the images that the suite's pods have, as there is no registry.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.upstream.image import write_tools_image
from tests.upstream.registry import registry_files
from topology.cluster.cluster import Cluster
from topology.cluster.files import AGNHOST_IMAGE, cache_folder
from topology.cluster.image import Start
from topology.errors import LabError, MissingError
from topology.host import netns

KUBERNETES, NETWORK_POLICY_API = "v1.37.2", "v0.3.0"
_HERE = Path(__file__).resolve().parent
_CACHE = cache_folder().parent / "upstream"
_E2E, _CONFORMANCE = _CACHE / f"e2e-{KUBERNETES}", _CACHE / f"conformance-{NETWORK_POLICY_API}"
_REGISTRY = AGNHOST_IMAGE.rpartition("/")[0]
_AGNHOST = Start(["/agnhost"], ["pause"])
_WEB_SERVER = Start(["/agnhost"], ["netexec", "--http-port=80", "--udp-port=-1"])
# By the names that the suites of these versions use.
_IMAGES = {
    AGNHOST_IMAGE: _AGNHOST,
    f"{_REGISTRY}/agnhost:2.45": _AGNHOST,
    f"{_REGISTRY}/busybox:1.37.0-2": Start([], ["/bin/sh"]),
    f"{_REGISTRY}/glibc-dns-testing:2.1.1": Start([], ["/bin/bash"]),
    f"{_REGISTRY}/nginx:1.27.0-2": _WEB_SERVER,
}
# More programs of the end-to-end specs' pods: agnhost's DNS server, and a server that sends packets out of the window.
_PROGRAMS = {"coredns": _E2E / "coredns", "regression-issue-74839": _E2E / "regression-issue-74839"}
_PROGRAM_IMAGES = {f"{_REGISTRY}/regression-issue-74839:1.5": Start(["/regression-issue-74839"], [])}
# What is left out, and why.
_NOT_HERE = {
    r"\[Feature:(LoadBalancer|IngressScale|NEG|GCEIngress)\]|Firewall": "a cloud and its load balancers",
    r"\[Feature:(Networking-IPv4|Networking-IPv6|Networking-DNS|Example)\]": "the Internet",
    r"\[Feature:SCTPConnectivity\]": "SCTP, which the kernel or the userspace datapath lacks",
    r"KubeProxy|kube-proxy": "kube-proxy: its port, its metrics, its timeouts of conntrack",
    r"\[Disruptive\]": "ssh to the nodes",
    r"\[Feature:(Networking-Performance|PerformanceDNS)\]|iperf": "a network whose speed says something",
    r"DNS configMap": "kubeadm's DNS server, whose settings are changed",
}
_IMPLEMENTATION = {
    "organization": "headgate",
    "project": "headgate",
    "url": "https://headgate.example",
    "contact": "see SECURITY.md",
}


def main() -> int:
    """Run a suite; 0 if all of it passed."""
    try:
        arguments = _parser().parse_args()
        return int(arguments.run(arguments))
    except (LabError, MissingError) as error:
        _say(f"headgate: {error}")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.upstream", description=__doc__)
    suites = parser.add_subparsers(required=True)
    e2e = suites.add_parser("e2e", help="Kubernetes' end-to-end specs")
    e2e.add_argument("--focus", default=r"\[sig-network\] (NetworkPolicy|Netpol|Services)", help="which specs: a regex")
    e2e.add_argument("--skip", default="|".join(_NOT_HERE), help="which of them not: a regex")
    e2e.add_argument("--procs", type=int, default=1, help="in how many processes")
    e2e.add_argument("--report", type=Path, default=Path("build/e2e"), help="the folder for reports")
    e2e.set_defaults(run=_run_e2e)
    conformance = suites.add_parser("conformance", help="the suite of network-policy-api")
    conformance.add_argument("--report", type=Path, default=Path("build/conformance.yaml"), help="the report's file")
    conformance.set_defaults(run=_run_conformance)
    return parser


def _run_e2e(arguments: argparse.Namespace) -> int:
    cluster = Cluster.load()
    _bring_images(cluster, _tools_image("e2e-tools", {**_IMAGES, **_PROGRAM_IMAGES}, _PROGRAMS))
    for specs, lacking in _NOT_HERE.items():
        _say(f"headgate: left out unless --skip says otherwise: {specs} (wants {lacking})")
    cluster.kubectl.run("apply", "-f", str(_HERE / "dns.yaml"))
    cluster.kubectl.run("-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=120s", seconds=130)
    arguments.report.mkdir(parents=True, exist_ok=True)
    ginkgo: list[str | Path] = [_E2E / "ginkgo", f"--procs={arguments.procs}", f"--focus={arguments.focus}",
                                f"--skip={arguments.skip}", "--no-color", "--timeout=24h"]  # fmt: skip
    suite = ["--provider=local", f"--kubeconfig={cluster.control.kubeconfig('admin')}",
             f"--kubectl-path={cluster.control.files.program('kubectl')}", f"--num-nodes={cluster.current.nodes}",
             f"--report-dir={arguments.report.resolve()}", "--disable-log-dump"]  # fmt: skip
    return _run(cluster, [*ginkgo, _E2E / "e2e.test", "--", *suite])


def _run_conformance(arguments: argparse.Namespace) -> int:
    cluster = Cluster.load()
    _bring_images(cluster, _tools_image("tools", _IMAGES, {}))
    cluster.kubectl.run("apply", "--server-side", "-f", str(_CONFORMANCE / "crd.yaml"))
    sctp = _has_sctp() and cluster.current.datapath == "kernel"
    if not sctp:
        _say("headgate: this machine's kernel or the userspace datapath has no SCTP: its probes are left out, and the "
             "tests that have no others are skipped, as the report says")  # fmt: skip
    report = arguments.report.resolve()
    report.parent.mkdir(parents=True, exist_ok=True)
    report.unlink(missing_ok=True)
    facts = {**_IMPLEMENTATION, "version": _version(), "additional-info": "make conformance"}
    program = _CONFORMANCE / ("conformance.test" if sctp else "conformance-without-sctp.test")
    status = _run(cluster, [
        program, "-test.v", "-test.run=^TestConformanceProfiles$", "-test.timeout=2h", "--all-features",
        "--conformance-profiles=ClusterNetworkPolicy", *(f"--{key}={value}" for key, value in facts.items()),
        f"--report-output={report}",
    ])  # fmt: skip
    if report.exists():
        _say(f"\n{report}:\n{report.read_text(encoding='utf-8')}")
    return status


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _run(cluster: Cluster, command: Sequence[str | Path]) -> int:
    """Run a suite beside the API server, as on a machine outside of the cluster that reaches the nodes."""
    environment = {**os.environ, "KUBECONFIG": str(cluster.control.kubeconfig("admin"))}
    with netns.inside(cluster.control.netns):
        return subprocess.run(command, env=environment, check=False).returncode


def _bring_images(cluster: Cluster, archive: Path) -> None:
    for node in cluster.nodes:
        node.import_images(archive)


def _tools_image(stem: str, names: Mapping[str, Start], programs: Mapping[str, Path]) -> Path:
    """The archive of images with the tools and these programs; made if the cache has none of just these."""
    agnhost = cache_folder() / "img" / "agnhost.tar"
    # Checkouts of several versions share the cache, so what it was made of counts, and no file's time.
    made_of = hashlib.sha256()
    for path in (agnhost, *programs.values(), *sorted(_HERE.glob("*.py"))):
        made_of.update(path.read_bytes())
    out = _CACHE / f"{stem}-{made_of.hexdigest()[:16]}.tar"
    if not out.exists():
        for old in _CACHE.glob(f"{stem}-*.tar"):
            old.unlink()
        partial = out.with_suffix(f".{os.getpid()}")
        pause = registry_files(cache_folder() / "img" / "pause.tar", "pause", "testing")  # that the suite pulls
        write_tools_image(partial, agnhost, names, programs, pause)
        partial.replace(out)
    return out


def _has_sctp() -> bool:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP).close()
    except OSError:
        return False
    return True


def _version() -> str:
    """The version that is certified: a commit, where this is a checkout."""
    if shutil.which("git"):
        command = ["git", "-C", str(_HERE), "describe", "--always", "--dirty"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout.strip()
    return "unknown"


if __name__ == "__main__":
    sys.exit(main())
