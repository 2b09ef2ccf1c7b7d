"""Certificates as `headgate pki` makes them, switches that use them, and `headgate run` between them as a process."""

from __future__ import annotations

import json
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from controller.cli import main
from tests.helpers.ovs.node import Node
from tests.helpers.paths import ROOT
from tests.helpers.waiting import free_port, until

HOST = "127.0.0.1"


class Pki:
    """A folder of `headgate pki init`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.headgate("init", "--name", HOST)

    def headgate(self, command: str, *arguments: str) -> None:
        assert main(["pki", command, "--dir", str(self.folder), *arguments]) == 0

    def switch(self, name: str) -> Identity:
        """A certificate of the CA for a switch."""
        if not (self.folder / f"{name}-cert.pem").exists():
            self.headgate("switch", name)
        return Identity(self.folder / f"{name}-privkey.pem", self.folder / f"{name}-cert.pem", self.controller_ca)

    def expired(self, name: str) -> Identity:
        """One that was valid until yesterday."""
        ca = self.folder / "switchca"
        ca_key = serialization.load_pem_private_key((ca / "private/cakey.pem").read_bytes(), None)
        ca_certificate = x509.load_pem_x509_certificate((ca / "cacert.pem").read_bytes())
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        built = x509.CertificateBuilder().subject_name(subject).issuer_name(ca_certificate.subject)
        built = built.public_key(key.public_key()).serial_number(x509.random_serial_number())
        built = built.not_valid_before(now - timedelta(days=2)).not_valid_after(now - timedelta(days=1))
        certificate = built.sign(ca_key, hashes.SHA256())  # type: ignore[arg-type]
        found = Identity(self.folder / f"{name}-k.pem", self.folder / f"{name}-c.pem", self.controller_ca)
        form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        found.key.write_bytes(key.private_bytes(*form))
        found.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return found

    @property
    def controller_ca(self) -> Path:
        return self.folder / "controllerca/cacert.pem"

    @property
    def serial(self) -> int:
        """Which certificate the controller has in its file."""
        return x509.load_pem_x509_certificate((self.folder / "ctl-cert.pem").read_bytes()).serial_number


class Identity:
    """What `ovs-vsctl set-ssl` takes."""

    def __init__(self, key: Path, certificate: Path, ca: Path) -> None:
        self.key, self.certificate, self.ca = key, certificate, ca

    def client(self, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
        """For a client that shows this certificate."""
        context = anonymous(self.ca)
        context.maximum_version = newest
        context.load_cert_chain(self.certificate, self.key)
        return context


def anonymous(ca: Path) -> ssl.SSLContext:
    """For a client that has no certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(ca)
    return context


class SecureNode(Node):
    """A node whose daemons take their certificate from the database, and whose OVSDB can be reached in TLS as well."""

    def __init__(self, identity: Identity, **how: bool) -> None:
        self.ssl_port = free_port()
        self.ssl = f"ssl:{HOST}:{self.ssl_port}"
        super().__init__(**how)
        self.be(identity)

    def be(self, identity: Identity) -> None:
        """Show this certificate from now on."""
        self.vsctl("set-ssl", str(identity.key), str(identity.certificate), str(identity.ca))

    def start_database(self) -> None:
        self._database = self._start(
            "ovsdb-server", f"--remote=p{self.remote}", f"--remote=pssl:{self.ssl_port}:{HOST}",
            "--remote=db:Open_vSwitch,Open_vSwitch,manager_options", f"--unixctl={self.folder}/db.ctl",
            "--private-key=db:Open_vSwitch,SSL,private_key", "--certificate=db:Open_vSwitch,SSL,certificate",
            "--ca-cert=db:Open_vSwitch,SSL,ca_cert", f"{self.folder}/conf.db",
        )  # fmt: skip
        until(lambda: self._answers("ovsdb-client", "list-dbs", self.remote), "ovsdb-server")

    def flows(self) -> list[str]:
        dump = self.ofctl("-O", "OpenFlow14", "dump-flows", self.management(), "--no-names")
        return [line for line in dump.splitlines() if "cookie=" in line]


@contextmanager
def secure_node(identity: Identity, name: str) -> Iterator[SecureNode]:
    """A node with br-int that ends with the block."""
    node = SecureNode(identity)
    try:
        node.vsctl("set", "Open_vSwitch", ".", f"external_ids:hostname={name}", f"external_ids:system-id={name}")
        node.add_bridge()
        yield node
    finally:
        node.stop()


class Headgate:
    """`headgate run` as a process. `openflow` and `ovsdb` are the ports where it listens, by `method` ssl or tcp;
    `folder` has its manifests."""

    def __init__(
        self,
        hub: str,
        folder: Path,
        *arguments: str,
        listen: bool = True,
        method: str = "ssl",
        program: str = "controller",
    ) -> None:
        self.method = method
        self.folder = folder
        self.manifests = folder / "manifests"
        self.openflow, self.ovsdb = free_port(), free_port()
        (folder / "manifests").mkdir(parents=True, exist_ok=True)
        self.log_file = folder / "log"
        command = [sys.executable, "-m", program, "run", "--hub", hub, "--manifests", str(folder / "manifests")]
        command += ["--http", f"{HOST}:0", "--openflow-listen", f"{method}:{HOST}:{self.openflow}"]
        command += ["--ovsdb-listen", f"{method}:{HOST}:{self.ovsdb}"] if listen else []
        self._command = [*command, *arguments]
        self.process = self._run()
        self.url = ""

    def _run(self) -> subprocess.Popen[bytes]:
        with self.log_file.open("wb") as log:
            return subprocess.Popen(self._command, cwd=ROOT, stderr=log, stdout=log)

    def restart(self) -> None:
        """Kill it, and start it again as it was; its log begins anew."""
        self.stop()
        self.process = self._run()
        self.start()

    def start(self) -> None:
        found = until(lambda: re.search(r"headgate runs.*http=(\S+)", self._running_log()), "headgate run")
        self.url = f"http://{found[1]}" if found else ""

    def _running_log(self) -> str:
        assert self.process.poll() is None, self.log
        return self.log

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def get(self, page: str) -> str:
        with urllib.request.urlopen(f"{self.url}{page}", timeout=30) as answer:
            text: str = answer.read().decode()
            return text

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.get("/status"))
        return found

    def in_sync(self, node: str) -> bool:
        return any(one["node"] == node and one["in_sync"] for one in self.status()["switches"])

    def refused(self, channel: str, reason: str) -> float:
        """What /metrics counts of such refusals."""
        line = f'headgate_tls_refused_total{{channel="{channel}",reason="{reason}"}} '
        return sum(float(one.removeprefix(line)) for one in self.get("/metrics").splitlines() if one.startswith(line))

    def metric(self, name: str) -> float:
        return next(float(one.split()[1]) for one in self.get("/metrics").splitlines() if one.startswith(f"{name} "))

    def serial(self, client: ssl.SSLContext) -> int:
        """The certificate that the OpenFlow listener shows to a client that comes now."""
        with (
            socket.create_connection((HOST, self.openflow), 30) as plain,
            client.wrap_socket(plain) as secure,
        ):
            return x509.load_der_x509_certificate(secure.getpeercert(True) or b"").serial_number

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def headgate(
    hub: str, pki: Pki, *arguments: str, listen: bool = True, program: str = "controller"
) -> Iterator[Headgate]:
    """A running controller that ends with the block."""
    folder = Path(tempfile.mkdtemp(prefix="hgt-"))
    run = Headgate(hub, folder, "--pki-dir", str(pki.folder), *arguments, listen=listen, program=program)
    try:
        run.start()
        yield run
    finally:
        run.stop()
        shutil.rmtree(folder, ignore_errors=True)
