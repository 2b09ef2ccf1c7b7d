"""The folder from which agnhost's `fake-registry-server` serves images: one tag, and blobs by their digests.

Kubernetes' own agnhost has it with the images that its suites pull. Here it is made of an image's archive.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path

FOLDER = "var/registry"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"


def registry_files(archive: Path, name: str, tag: str) -> dict[str, bytes]:
    """The files by their place in the server's image, for the first image of an archive as `docker save` writes it."""
    with tarfile.open(archive) as image:
        listed = json.loads(_read(image, "manifest.json"))[0]
        config = _read(image, listed["Config"])
        layers = [_read(image, one) for one in listed["Layers"]]
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": _descriptor(_CONFIG, config),
            "layers": [_descriptor(_LAYER, one) for one in layers],
        }
    ).encode()
    own = f"{FOLDER}/{name}"
    blobs = {_place(f"{own}/blobs", one): one for one in (config, *layers)}
    return {
        f"{own}/manifests/{tag}": _digest(manifest).encode(),
        _place(f"{own}/manifests", manifest): manifest,
        **blobs,
    }


def _read(image: tarfile.TarFile, name: str) -> bytes:
    file = image.extractfile(name)
    assert file is not None
    return file.read()


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _descriptor(kind: str, data: bytes) -> dict[str, str | int]:
    return {"mediaType": kind, "digest": _digest(data), "size": len(data)}


def _place(folder: str, data: bytes) -> str:
    digest = hashlib.sha256(data).hexdigest()
    return f"{folder}/sha256/{digest[:2]}/{digest}/data"
