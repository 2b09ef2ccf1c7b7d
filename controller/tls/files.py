"""Where the files of TLS are, as plain values: given one by one, or found in a folder in ovs-pki's layout.

Nothing is opened here; reading them is `credentials`'s business.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

# ovs-pki(8): `switchca` signs switches, which is whom a controller trusts. The names of the controller's own files are
# those of the examples in Open vSwitch's documentation (`ovs-pki req+sign ctl controller`).
PRIVATE_KEY = "ctl-privkey.pem"
CERTIFICATE = "ctl-cert.pem"
CA_CERTIFICATE = "switchca/cacert.pem"


class TlsFiles(NamedTuple):
    """Three PEM files: our private key, our certificate (with its chain), and the CAs that sign switches."""

    private_key: Path
    certificate: Path
    ca_certificate: Path


FileStamps = tuple[tuple[int, int, int, int] | None, ...]


def file_stamps(files: TlsFiles) -> FileStamps:
    """What changes when one of the files does: device, inode, size and time of change of each; None for one not there.

    Links are followed, so that a folder that is swapped as a whole, as Kubernetes does with secrets, counts too.
    """
    return tuple(_file_stamp(path) for path in files)


def _file_stamp(path: Path) -> tuple[int, int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
