"""The image that an upstream spec pulls from agnhost's registry: the real server gives it whole, by tag and digests."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tarfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.waiting import free_port, until
from tests.upstream.registry import registry_files
from topology.cluster.files import find_files
from topology.errors import MissingError

pytestmark = [pytest.mark.process, pytest.mark.slow]


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """agnhost, whose root is a folder with its files alone."""
    try:
        images = find_files().folder / "img"
    except MissingError as error:
        pytest.skip(str(error))
    if os.getuid():
        pytest.skip("chroot needs root")
    with tarfile.open(images / "agnhost.tar") as archive:
        for name in archive.getnames():
            if name.endswith("layer.tar"):
                with tarfile.open(fileobj=archive.extractfile(name)) as layer:
                    program = layer.extractfile("agnhost")
                    assert program is not None
                    (tmp_path / "agnhost").write_bytes(program.read())
    (tmp_path / "agnhost").chmod(0o755)
    for place, data in registry_files(images / "pause.tar", "pause", "testing").items():
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    port = free_port()
    command = ["chroot", str(tmp_path), "/agnhost", "fake-registry-server", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            yield f"http://127.0.0.1:{port}/v2"
        finally:
            server.kill()


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:
        data: bytes = answer.read()
        return data


def answers(url: str) -> bool:
    try:
        return get(f"{url}/") is not None
    except OSError:
        return False


def test_the_server_gives_the_image(url: str) -> None:
    until(lambda: answers(url), "the registry")
    manifest = json.loads(get(f"{url}/pause/manifests/testing"))
    assert manifest["layers"]
    for part in (manifest["config"], *manifest["layers"]):
        data = get(f"{url}/pause/blobs/{part['digest']}")
        assert (part["digest"], part["size"]) == (f"sha256:{hashlib.sha256(data).hexdigest()}", len(data))
