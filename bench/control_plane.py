"""A real kube-apiserver with an etcd of its own, which can be killed and started again.

All its files are in one folder, and its ports are free ones of loopback. What is in it, and who may read it, must not
live here.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
import signal
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from bench.ports import free_ports

ADMIN = "administrator"
PATIENCE_SECONDS = 120.0
_PUTS_AT_ONCE = 100  # of one transaction; etcd takes 128
_REQUEST_SECONDS = 60.0


def find_binary(name: str) -> str:
    """The path of etcd or kube-apiserver: from KUBEBUILDER_ASSETS, PATH, or where `make envtest` puts them.

    Raises LookupError.
    """
    built = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "headgate" / "envtest"
    places = [os.environ.get("KUBEBUILDER_ASSETS", ""), *os.get_exec_path(), str(built)]
    found = shutil.which(name, path=os.pathsep.join(filter(None, places)))
    if found is None:
        raise LookupError(f"there is no {name}: set KUBEBUILDER_ASSETS to the folder of etcd and kube-apiserver")
    return found


class ControlPlane:
    """Starts with `with`. `kubeconfig` is the administrator's; `binary` finds a program by its name."""

    def __init__(self, folder: Path, binary: Callable[[str], str] = find_binary) -> None:
        self.folder = folder
        self.kubeconfig = folder / "admin.kubeconfig"
        self.etcd_port, self._peers, self.port = free_ports(3)
        self._binary = binary
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> ControlPlane:
        try:
            self.start_etcd()
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End what was started, last first."""
        for name in reversed(list(self._processes)):
            self._end(name, signal.SIGTERM)

    # -- the processes -----------------------------------------------------------------------------------------------

    def kill(self) -> None:
        """The API server is gone at once."""
        self._end("kube-apiserver", signal.SIGKILL)

    def start(self) -> None:
        """Start the API server, and return when it is ready."""
        private, public, tokens = (self.folder / name for name in ("sa.key", "sa.pub", "tokens.csv"))
        if not private.exists():
            self._make_keys()
        self._run("kube-apiserver", f"--etcd-servers={self._etcd}", f"--cert-dir={self.folder / 'certs'}",
                  "--bind-address=127.0.0.1", f"--secure-port={self.port}", "--service-cluster-ip-range=10.96.0.0/16",
                  "--service-account-issuer=https://kubernetes.default.svc", f"--service-account-key-file={public}",
                  f"--service-account-signing-key-file={private}", f"--token-auth-file={tokens}",
                  "--authorization-mode=RBAC", "--disable-admission-plugins=ServiceAccount")  # fmt: skip
        self.wait()

    def start_etcd(self) -> None:
        """Start etcd; the API server waits for it."""
        around = f"http://127.0.0.1:{self._peers}"
        self._run("etcd", f"--data-dir={self.folder / 'etcd'}", f"--listen-client-urls={self._etcd}",
                  f"--advertise-client-urls={self._etcd}", f"--listen-peer-urls={around}", "--unsafe-no-fsync",
                  f"--initial-advertise-peer-urls={around}", f"--initial-cluster=default={around}")  # fmt: skip

    def stop_etcd(self) -> None:
        """etcd is gone at once; its data stays."""
        self._end("etcd", signal.SIGKILL)

    def pid(self, name: str) -> int:
        """The process of "etcd" or "kube-apiserver"."""
        return self._processes[name].pid

    def pids(self) -> list[int]:
        """All processes."""
        return [process.pid for process in self._processes.values()]

    def wait(self) -> None:
        """Until the API server says that it is ready. Raises RuntimeError."""
        end = time.monotonic() + PATIENCE_SECONDS
        said = "it does not answer"
        while time.monotonic() < end:
            for name, process in self._processes.items():
                if process.poll() is not None:
                    raise RuntimeError(f"{name} ended; the logs are in {self.folder}")
            try:
                client = ApiClient(self)
                said = client.request("GET", "/readyz").decode()
            except (OSError, http.client.HTTPException) as error:
                said = str(error)
            if said == "ok":
                return
            time.sleep(0.2)
        raise RuntimeError(f"kube-apiserver is not ready: {said}; the logs are in {self.folder}")

    # -- etcd --------------------------------------------------------------------------------------------------------

    def put(self, values: Iterable[tuple[str, bytes]]) -> None:
        """Write keys straight into etcd: a world that is there before the API server starts."""
        self._until_etcd_answers()
        puts = [
            {"requestPut": {"key": base64.b64encode(key.encode()).decode(), "value": base64.b64encode(value).decode()}}
            for key, value in values
        ]
        for first in range(0, len(puts), _PUTS_AT_ONCE):
            self.gateway("kv/txn", {"success": puts[first : first + _PUTS_AT_ONCE]})

    def gateway(self, path: str, body: dict[str, Any]) -> Any:
        """A request to etcd."""
        request = urllib.request.Request(f"{self._etcd}/v3/{path}", json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def _until_etcd_answers(self) -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                self.gateway("kv/range", {"key": "AA=="})
                return
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)

    # -- how ---------------------------------------------------------------------------------------------------------

    @property
    def _etcd(self) -> str:
        return f"http://127.0.0.1:{self.etcd_port}"

    def _make_keys(self) -> None:
        private, public = self.folder / "sa.key", self.folder / "sa.pub"
        subprocess.run(["openssl", "genrsa", "-out", private, "2048"], check=True, capture_output=True)
        subprocess.run(["openssl", "rsa", "-in", private, "-pubout", "-out", public], check=True, capture_output=True)
        (self.folder / "tokens.csv").write_text(f'{ADMIN},admin,1,"system:masters"\n')
        write_kubeconfig(self.kubeconfig, self.port, self.authority, {"token": ADMIN})

    @property
    def authority(self) -> Path:
        """The certificate that the API server made for itself."""
        return self.folder / "certs" / "apiserver.crt"

    def _run(self, name: str, *arguments: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            command = [self._binary(name), *arguments]
            self._processes[name] = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)

    def _end(self, name: str, number: signal.Signals) -> None:
        process = self._processes.pop(name)
        process.send_signal(number)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class ApiClient:
    """One connection to the API server, as the administrator; for one thread."""

    def __init__(self, server: ControlPlane) -> None:
        context = ssl.create_default_context(cafile=str(server.authority))
        self._connection = http.client.HTTPSConnection(
            "127.0.0.1", server.port, timeout=_REQUEST_SECONDS, context=context
        )

    def request(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> bytes:
        """A request and its answer. Raises OSError and HTTPException, the latter with what an API error says."""
        headers = {"Authorization": f"Bearer {ADMIN}", "Content-Type": kind}
        data = None if body is None else json.dumps(body).encode()
        try:
            self._connection.request(method, path, data, headers)
            answer = self._connection.getresponse()
            text = answer.read()
        except BaseException:
            self._connection.close()  # the next request opens another one
            raise
        if answer.status >= http.client.BAD_REQUEST:
            raise http.client.HTTPException(f"{method} {path}: {answer.status} {text[:500].decode(errors='replace')}")
        return text


def write_kubeconfig(path: Path, port: int, authority: Path, user: dict[str, str]) -> Path:
    """A kubeconfig for an API server on this machine. Returns its path."""
    cluster = {"server": f"https://127.0.0.1:{port}", "certificate-authority": str(authority)}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "user", "user": user}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "user"}}],
        "current-context": "test",
    }
    path.write_text(json.dumps(config))
    return path
