"""A TLS handshake that fails leaves no descriptor behind, on both hubs, without the garbage collector's help."""

from __future__ import annotations

import subprocess
import sys

import pytest

from controller.base.hub import HUBS
from tests.helpers.paths import ROOT

ATTEMPTS = 5
TRY = f"""
import sys
from controller.base.hub import install
install(sys.argv[1])
import gc, os, socket
import urllib3
gc.disable()
with socket.create_server(("127.0.0.1", 0)) as silent:  # its backlog takes connections, and nobody answers
    pool = urllib3.PoolManager(cert_reqs="CERT_NONE")
    url = "https://127.0.0.1:%d/" % silent.getsockname()[1]
    counts = []
    for _ in range({ATTEMPTS}):
        try:
            pool.request("GET", url, retries=False, timeout=0.1)
        except urllib3.exceptions.HTTPError:
            pass
        pool.clear()
        counts.append(len(os.listdir("/proc/self/fd")))
print(counts[-1] - counts[0])
"""


@pytest.mark.process
@pytest.mark.parametrize("hub", HUBS)
def test_a_failed_handshake_keeps_no_descriptor(hub: str) -> None:
    done = subprocess.run([sys.executable, "-c", TRY, hub], capture_output=True, text=True, check=True, cwd=ROOT)
    assert int(done.stdout) == 0
