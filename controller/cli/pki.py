"""`headgate pki`: makes a CA for labs, certificates for controller and switches, and prints the commands for the nodes.

See `controller.tls.pki` for how certificates are made.
"""

from __future__ import annotations

import shlex
import socket
from pathlib import Path

import click

from controller.cli.errors import CommandFailure

DEFAULT_DIR = "pki"
DAYS = 825
ON_NODE = "/etc/openvswitch"
CA_ON_NODE = f"{ON_NODE}/controller-cacert.pem"

PKI_INTRO = """Make certificates for TLS between Headgate and Open vSwitch, if you have no CA yet.

Run `headgate pki init` once on the controller's machine, then `headgate pki switch NAME` for each node. Both print the
next steps.

The folder has the layout of ovs-pki; `headgate run --pki-dir` also takes a folder made by ovs-pki. It contains all
private keys, those of the CAs included: keep it on one trusted machine. There are no passphrases and no revocation. In
production, use your own CA and give its files to `headgate run`.

\b
Examples:
  headgate pki init --dir /etc/headgate/pki --name controller.example --name 192.0.2.1
  headgate pki switch node-1 --dir /etc/headgate/pki
  headgate run --pki-dir /etc/headgate/pki --openflow-listen ssl:0.0.0.0:6653 \\
      --ovsdb-listen ssl:0.0.0.0:6640 --manifests /etc/headgate/manifests
"""


def _folder(command: click.decorators.FC) -> click.decorators.FC:
    return click.option(
        "--dir", "folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False), default=DEFAULT_DIR,
        show_default=True, help="The folder of the certificates.",
    )(command)  # fmt: skip


def _days(command: click.decorators.FC) -> click.decorators.FC:
    return click.option(
        "--days", metavar="DAYS", type=click.IntRange(1, 3650), default=DAYS, show_default=True,
        help="How long the certificate is valid.",
    )(command)  # fmt: skip


@click.group(help=PKI_INTRO)
def pki() -> None:
    """Certificates (the help text is INTRO)."""


@pki.command("init")
@_folder
@click.option(
    "--name", "names", metavar="NAME", multiple=True,
    help="Host name or address by which nodes reach the controller; repeatable.  [default: this machine's name]",
)  # fmt: skip
@_days
@click.option("--renew", is_flag=True, help="Replace the controller's certificate; keep the CAs.")
def init(folder: Path, names: tuple[str, ...], days: int, renew: bool) -> None:
    """Make the CAs, unless they exist, and the controller's certificate.

    After --renew a running controller uses the new certificate for new connections; existing ones continue.
    """
    from controller.tls.pki import PkiError
    from controller.tls.pki import init_pki as make

    try:
        pair = make(folder, names or (socket.gethostname(),), days, renew)
    except PkiError as error:
        raise CommandFailure(str(error)) from None
    where = shlex.quote(str(folder))
    click.echo(f"created {pair.private_key} and {pair.certificate}, for {', '.join(pair.names)}, {days} days")
    if renew:
        return
    click.echo(
        f"\nNext, a certificate for each node:\n"
        f"  headgate pki switch NODE --dir {where}\n"
        f"and on this machine:\n"
        f"  headgate run --pki-dir {where} --openflow-listen ssl:0.0.0.0:6653 --ovsdb-listen ssl:0.0.0.0:6640 \\\n"
        f"      --manifests DIR"
    )


@pki.command("switch")
@click.argument("name", metavar="NAME")
@_folder
@click.option(
    "--controller", metavar="HOST", default=None,
    help="The controller's host in the printed commands.  [default: the first name in its certificate]",
)  # fmt: skip
@click.option("--alias", "names", metavar="NAME", multiple=True, help="Another name in the certificate; repeatable.")
@_days
@click.option("--renew", is_flag=True, help="Replace the switch's certificate.")
def switch(name: str, folder: Path, controller: str | None, names: tuple[str, ...], days: int, renew: bool) -> None:
    """Make the key and the certificate of the switch NAME, and print the commands that install them.

    The certificate contains NAME; `headgate run --allowed-switch NAME` accepts it. Use the node's name.
    """
    from controller.tls.pki import CONTROLLER_CA, PkiError
    from controller.tls.pki import issue_switch_certificate as make

    try:
        pair = make(folder, name, names, days, renew)
    except PkiError as error:
        raise CommandFailure(str(error)) from None
    click.echo(f"created {pair.private_key} and {pair.certificate}, for {', '.join(pair.names)}, {days} days")
    host = controller or _controller_name(folder) or "CONTROLLER"
    host = f"[{host}]" if ":" in host else host
    key, certificate = f"{ON_NODE}/{name}-privkey.pem", f"{ON_NODE}/{name}-cert.pem"
    click.echo(
        f"\nCopy these files to the node {name}; only Open vSwitch's user may read the key:\n"
        f"  {pair.private_key} -> {key}\n"
        f"  {pair.certificate} -> {certificate}\n"
        f"  {folder / CONTROLLER_CA / 'cacert.pem'} -> {CA_ON_NODE}\n"
        f"Then run on the node:\n"
        f"  ovs-vsctl set-ssl {key} {certificate} {CA_ON_NODE}\n"
        f"  ovs-vsctl set-manager ssl:{host}:6640\n"
        "Headgate then sets the bridge's controller through OVSDB.\n"
    )


def _controller_name(folder: Path) -> str:
    """The first name in the controller's certificate, "" if there is none."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    from controller.tls.files import CERTIFICATE

    try:
        certificate = x509.load_pem_x509_certificate((folder / CERTIFICATE).read_bytes())
    except (OSError, ValueError):
        return ""
    found = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else ""
