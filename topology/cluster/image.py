"""Makes the archive of an image with one program: `python -m topology.cluster.image OUT NAME PROGRAM [ARGUMENT]...`.

The archive is as `docker save` writes it. The arguments are those that a container gets which has none of its own.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

_WRITABLE = ("tmp", "uploads")  # folders that agnhost writes into
_DATE = "2026-01-01T00:00:00Z"  # the same image from the same program


def write_image(out: Path, name: str, program: Path, arguments: Sequence[str] = ()) -> None:
    """Write an image named `name`, such as `registry/pause:1`, for this kind of processor."""
    layer = _layer(program)
    digest = hashlib.sha256(layer).hexdigest()
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/"
    config = {
        "architecture": _architecture(program),
        "os": "linux",
        "created": _DATE,
        "config": {
            "Entrypoint": [f"/{program.name}"],
            "Cmd": list(arguments),
            "WorkingDir": "/",
            "Env": [f"PATH={path}"],
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        "history": [{"created": _DATE, "created_by": "headgate"}],
    }
    described = json.dumps(config).encode()
    config_name = hashlib.sha256(described).hexdigest() + ".json"
    manifest = [{"Config": config_name, "RepoTags": [name], "Layers": [f"{digest}/layer.tar"]}]
    with tarfile.open(out, "w") as archive:
        _add(archive, config_name, described)
        _add(archive, f"{digest}/layer.tar", layer)
        _add(archive, "manifest.json", json.dumps(manifest).encode())


def _architecture(program: Path) -> str:
    """The architecture of a program, from its ELF header (elf(5), e_machine)."""
    with program.open("rb") as file:
        machine = int.from_bytes(file.read(20)[18:20], "little")
    return {0x3E: "amd64", 0xB7: "arm64"}.get(machine, "amd64")


def _layer(program: Path) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as layer:
        _add(layer, program.name, program.read_bytes(), 0o755)
        for name in _WRITABLE:
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o1777
            layer.addfile(folder)
    return data.getvalue()


def _add(archive: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    archive.addfile(entry, io.BytesIO(data))


if __name__ == "__main__":
    write_image(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), sys.argv[4:])
