"""kubectl as a user runs it, and the kubeconfig files of a cluster."""

from __future__ import annotations

import base64
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from topology.errors import LabError

_SECONDS = 60


@dataclass(frozen=True)
class Kubectl:
    """The program and the kubeconfig that it uses."""

    program: Path
    kubeconfig: Path

    def run(self, *arguments: str, text: str | None = None, seconds: float = _SECONDS) -> str:
        """Run it; its output. Raises LabError with what it says."""
        done = self.call(*arguments, text=text, seconds=seconds)
        if done.returncode != 0:
            raise LabError(f"kubectl {' '.join(arguments[:4])} failed: {(done.stderr or done.stdout).strip()}")
        return done.stdout

    def call(
        self, *arguments: str, text: str | None = None, seconds: float = _SECONDS
    ) -> subprocess.CompletedProcess[str]:
        """Run it; the caller looks at how it ended. Raises LabError where it takes longer than `seconds`."""
        try:
            return subprocess.run(
                self.command(*arguments), input=text, capture_output=True, text=True, check=False, timeout=seconds
            )
        except subprocess.TimeoutExpired as error:
            raise LabError(f"kubectl {' '.join(arguments[:4])} takes longer than {seconds:g} s") from error

    def command(self, *arguments: str) -> list[str]:
        """The command that runs it."""
        return [str(self.program), "--kubeconfig", str(self.kubeconfig), *arguments]

    def get(self, *arguments: str) -> Any:
        """`kubectl get` with these arguments, as values."""
        return json.loads(self.run("get", *arguments, "-o", "json"))

    def apply(self, manifest: str) -> None:
        """Apply objects (YAML or JSON)."""
        self.run("apply", "-f", "-", text=manifest)

    def exec(
        self, namespace: str, pod: str, *command: str, seconds: float = _SECONDS
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in a pod."""
        return self.call("-n", namespace, "exec", pod, "--", *command, seconds=seconds)


def write_kubeconfig(path: Path, server: str, authority: Path, token: str) -> None:
    """Write a kubeconfig for root only. It is enough by itself: the authority's certificate is inside."""
    inside = base64.b64encode(authority.read_bytes()).decode()
    config: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "headgate", "cluster": {"server": server, "certificate-authority-data": inside}}],
        "users": [{"name": "user", "user": {"token": token}}],
        "contexts": [{"name": "headgate", "context": {"cluster": "headgate", "user": "user"}}],
        "current-context": "headgate",
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(config, indent=1), encoding="utf-8")
