"""A real kube-apiserver with an etcd of its own, in a folder of its own, and kubectl as its administrator.

Nothing of Headgate is started here. Where the binaries are, `tests.envtest` finds out.
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import yaml

from tests.envtest.assets import binary, skipped

TOKEN = "administrator"
PATIENCE = 90.0


def missing() -> str:
    """Why no API server is to be started here, "" when one is."""
    return skipped()


class ApiServer:
    """Starts with the first `with`, and leaves nothing behind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kubeconfig = folder / "kubeconfig"
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> ApiServer:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End what was started, last first."""
        for process in reversed(self._processes):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()
        shutil.rmtree(self.folder / "etcd", ignore_errors=True)

    def kubectl(self, *arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run kubectl, with `text` as its standard input. The caller looks at the return code."""
        command = [binary("kubectl"), f"--kubeconfig={self.kubeconfig}", *arguments]
        return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)

    def get(self, *arguments: str) -> Any:
        """What `kubectl get ... -o json` says, as plain data."""
        found = self.kubectl("get", *arguments, "-o", "json")
        assert found.returncode == 0, found.stderr
        return yaml.safe_load(found.stdout)

    def _start(self) -> None:
        clients, peers, secure = _free_ports(3)
        etcd = f"http://127.0.0.1:{clients}"
        around = f"http://127.0.0.1:{peers}"
        self._run("etcd", f"--data-dir={self.folder / 'etcd'}", f"--listen-client-urls={etcd}",
                  f"--advertise-client-urls={etcd}", f"--listen-peer-urls={around}", "--unsafe-no-fsync",
                  f"--initial-advertise-peer-urls={around}", f"--initial-cluster=default={around}")  # fmt: skip
        private, public, tokens = (self.folder / name for name in ("sa.key", "sa.pub", "tokens.csv"))
        subprocess.run(["openssl", "genrsa", "-out", private, "2048"], check=True, capture_output=True)
        subprocess.run(["openssl", "rsa", "-in", private, "-pubout", "-out", public], check=True, capture_output=True)
        tokens.write_text(f'{TOKEN},admin,1,"system:masters"\n')
        self._run("kube-apiserver", f"--etcd-servers={etcd}", f"--cert-dir={self.folder / 'certs'}",
                  "--bind-address=127.0.0.1", f"--secure-port={secure}", "--service-cluster-ip-range=10.96.0.0/16",
                  "--service-account-issuer=https://kubernetes.default.svc", f"--service-account-key-file={public}",
                  f"--service-account-signing-key-file={private}", f"--token-auth-file={tokens}",
                  "--authorization-mode=RBAC", "--disable-admission-plugins=ServiceAccount")  # fmt: skip
        self._write_kubeconfig(secure)
        self._wait()

    def _run(self, name: str, *arguments: str) -> None:
        log = (self.folder / f"{name}.log").open("wb")
        with log:
            command = [binary(name), *arguments]
            self._processes.append(subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder))

    def _write_kubeconfig(self, port: int) -> None:
        cluster = {"server": f"https://127.0.0.1:{port}", "certificate-authority": "certs/apiserver.crt"}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "admin", "user": {"token": TOKEN}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
            "current-context": "test",
        }
        self.kubeconfig.write_text(yaml.safe_dump(config))

    def _wait(self) -> None:
        end = time.monotonic() + PATIENCE
        said = ""
        while time.monotonic() < end:
            for process in self._processes:
                assert process.poll() is None, f"pid {process.pid} ended; the logs are in {self.folder}"
            if (self.folder / "certs" / "apiserver.crt").exists():
                answer = self.kubectl("get", "--raw", "/readyz")
                said = answer.stderr
                if answer.stdout == "ok":
                    return
            time.sleep(0.3)
        raise AssertionError(f"kube-apiserver is not ready: {said}")


def _free_ports(count: int) -> list[int]:
    """Ports that are free now; all are asked for before any is given back, so that they differ."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
