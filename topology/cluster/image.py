"""Makes archives of images; of one program: `python -m topology.cluster.image OUT NAME PROGRAM [ARGUMENT]...`.

The archive is as `docker save` writes it. The arguments are those that a container gets which has none of its own.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

_WRITABLE = ("tmp", "uploads")  # folders that agnhost writes into
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/"
_DATE = "2026-01-01T00:00:00Z"  # the same image from the same program


class Start(NamedTuple):
    """What a container starts that names no command, and the arguments of one that names none."""

    command: Sequence[str]
    arguments: Sequence[str]


def write_image(out: Path, name: str, program: Path, arguments: Sequence[str] = ()) -> None:
    """Write an image named `name`, such as `registry/pause:1`, for this kind of processor."""
    write_archive(out, _layer(program), {name: Start([f"/{program.name}"], arguments)}, _architecture(program))


def write_archive(out: Path, layer: bytes, images: Mapping[str, Start], architecture: str) -> None:
    """Write images that have one layer (a tar archive), by name."""
    digest = hashlib.sha256(layer).hexdigest()
    tags: dict[bytes, list[str]] = {}
    for name, start in images.items():
        tags.setdefault(_described(digest, start, architecture), []).append(name)
    manifest = []
    with tarfile.open(out, "w") as archive:
        add_file(archive, f"{digest}/layer.tar", layer)
        for described, names in tags.items():
            config = hashlib.sha256(described).hexdigest() + ".json"
            add_file(archive, config, described)
            manifest.append({"Config": config, "RepoTags": names, "Layers": [f"{digest}/layer.tar"]})
        add_file(archive, "manifest.json", json.dumps(manifest).encode())


def _described(digest: str, start: Start, architecture: str) -> bytes:
    config = {
        "architecture": architecture,
        "os": "linux",
        "created": _DATE,
        "config": {
            "Entrypoint": list(start.command),
            "Cmd": list(start.arguments),
            "WorkingDir": "/",
            "Env": [f"PATH={_PATH}"],
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        "history": [{"created": _DATE, "created_by": "headgate"}],
    }
    return json.dumps(config).encode()


def _architecture(program: Path) -> str:
    """The architecture of a program, from its ELF header (elf(5), e_machine)."""
    with program.open("rb") as file:
        machine = int.from_bytes(file.read(20)[18:20], "little")
    return {0x3E: "amd64", 0xB7: "arm64"}.get(machine, "amd64")


def _layer(program: Path) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as layer:
        add_file(layer, program.name, program.read_bytes(), 0o755)
        for name in _WRITABLE:
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o1777
            layer.addfile(folder)
    return data.getvalue()


def add_file(archive: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    """Add a file to an archive."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    archive.addfile(entry, io.BytesIO(data))


if __name__ == "__main__":
    write_image(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), sys.argv[4:])
