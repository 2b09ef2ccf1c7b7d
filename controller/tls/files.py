"""The paths of the TLS files: given one by one, or in a folder with ovs-pki's layout.

No file is opened here: see `credentials`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

# ovs-pki(8): `switchca` signs the certificates of switches, so a controller trusts it. The names of the controller's
# files are those of Open vSwitch's documentation (`ovs-pki req+sign ctl controller`).
PRIVATE_KEY = "ctl-privkey.pem"
CERTIFICATE = "ctl-cert.pem"
CA_CERTIFICATE = "switchca/cacert.pem"


class TlsFiles(NamedTuple):
    """Three PEM files: Headgate's private key, its certificate with the chain, and the CAs of switches."""

    private_key: Path
    certificate: Path
    ca_certificate: Path


FileStamps = tuple[tuple[int, int, int, int] | None, ...]


def file_stamps(files: TlsFiles) -> FileStamps:
    """Device, inode, size and time of change of each file, None for a missing one: they differ when a file changes.

    Links are followed, so this notices a folder that is replaced as a whole, as Kubernetes does with secrets.
    """
    return tuple(_file_stamp(path) for path in files)


def _file_stamp(path: Path) -> tuple[int, int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
