"""The images that the suites' pods have: agnhost with a shell, curl, netcat and dig.

Kubernetes' own agnhost has Alpine's tools, and its image of glibc's DNS client has Debian's. There is no registry on
these machines, so both have the machine's tools, with the libraries that they load.
"""

from __future__ import annotations

import io
import json
import platform
import re
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

from topology.cluster.image import Start, add_file, write_archive
from topology.errors import MissingError

_COREUTILS = (
    "basename", "cat", "chmod", "cut", "date", "dd", "dirname", "echo", "env", "expr",
    "false", "head", "id", "ls", "mkdir", "mv", "printf", "readlink", "rm",
    "seq", "sleep", "sort", "stat", "tail", "tee", "test", "timeout", "touch", "tr",
    "true", "uname", "uniq", "wc", "whoami",
)  # fmt: skip
# What the suites' commands in pods use, and the package that has it.
_TOOLS = {
    **dict.fromkeys(_COREUTILS, "coreutils"),
    "bash": "bash",
    "curl": "curl",
    "dig": "bind9-dnsutils",
    "getent": "libc-bin",
    "grep": "grep",
    "hostname": "hostname",
    "ip": "iproute2",
    "nc": "netcat-openbsd",
    "nslookup": "bind9-dnsutils",
    "sed": "sed",
    "ss": "iproute2",
    "wget": "wget",
}
_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
}
_LINKS = {"bin": "usr/bin", "sbin": "usr/bin", "lib": "usr/lib", "lib64": "usr/lib64", "usr/bin/sh": "bash"}


def write_tools_image(
    out: Path,
    layers_of: Path,
    names: Mapping[str, Start],
    programs: Mapping[str, Path],
    more: Mapping[str, bytes],
) -> None:
    """Write an archive as `docker save` does: files of the image archive `layers_of` with the tools, `programs` and
    `more` files by their place, under each of `names`. Raises MissingError for tools that are not there."""
    files = {**_tools(), **programs}
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as layer:
        for folder in sorted({str(parent) for name in (*files, *more) for parent in Path(name).parents} - {"."}):
            _add_folder(layer, folder)
        for name in ("etc", "usr/lib64"):
            _add_folder(layer, name)
        for link, target in _LINKS.items():
            entry = tarfile.TarInfo(link)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            layer.addfile(entry)
        for name, text in _FILES.items():
            add_file(layer, name, text.encode())
        for name, path in sorted(files.items()):
            add_file(layer, name, path.read_bytes(), 0o755)
        for name, data_of_file in sorted(more.items()):
            add_file(layer, name, data_of_file)
        _copy_layers(layers_of, layer)
    write_archive(out, data.getvalue(), names, _architecture())


def _tools() -> dict[str, Path]:
    """The tools and their libraries, by their place in the image."""
    absent = sorted({package for tool, package in _TOOLS.items() if shutil.which(tool) is None})
    if absent:
        raise MissingError([f"tools for the suites' pods: install the packages {' '.join(absent)} (Debian's names)"])
    files: dict[str, Path] = {}
    for tool in _TOOLS:
        path = Path(shutil.which(tool) or "").resolve()
        files[f"usr/bin/{tool}"] = path
        for library in _libraries(path):
            place = library.lstrip("/")
            files[place if place.startswith("usr/") else f"usr/{place}"] = Path(library).resolve()
    return files


def _libraries(program: Path) -> list[str]:
    """What the dynamic loader loads for a program, the loader included."""
    said = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    return re.findall(r"(/\S+\.so\S*)", said)


def _copy_layers(archive: Path, layer: tarfile.TarFile) -> None:
    with tarfile.open(archive) as image:
        manifest = image.extractfile("manifest.json")
        assert manifest is not None
        for name in json.load(manifest)[0]["Layers"]:
            file = image.extractfile(name)
            assert file is not None
            with tarfile.open(fileobj=file) as inner:
                for entry in inner:
                    layer.addfile(entry, inner.extractfile(entry) if entry.isfile() else None)


def _architecture() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def _add_folder(archive: tarfile.TarFile, name: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
    archive.addfile(entry)
