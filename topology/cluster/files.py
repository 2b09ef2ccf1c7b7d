"""The programs and images of a cluster: where they are, unpacked into the user's cache.

Looked for in HEADGATE_CLUSTER_FILES, then in `shared/cluster` beside the checkout, then in what scripts/cluster-files
made. A folder of packed files has `bin/hyper.xz` (all of Kubernetes as one program, which acts by its name) and
`img/*.tar.xz`; etcd is `bin/etcd.xz` there, or `envtest/bin/etcd.xz` beside that folder.
"""

from __future__ import annotations

import lzma
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from topology.errors import MissingError

FILES_VARIABLE = "HEADGATE_CLUSTER_FILES"
KUBERNETES = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kubelet")
PAUSE_IMAGE = "registry.k8s.io/pause:3.10.2"
AGNHOST_IMAGE = "registry.k8s.io/e2e-test-images/agnhost:2.66.1"
_ROOT = Path(__file__).resolve().parents[2]
_IMAGES = ("pause", "agnhost")


@dataclass(frozen=True)
class ClusterFiles:
    """A folder with `bin/` (etcd and the programs of KUBERNETES) and `img/` (the images' archives)."""

    folder: Path

    def program(self, name: str) -> Path:
        """The full path of a program."""
        return self.folder / "bin" / name

    @property
    def images(self) -> list[Path]:
        """The images' archives."""
        return [self.folder / "img" / f"{name}.tar" for name in _IMAGES]

    def complete(self) -> bool:
        """Whether everything is there."""
        programs = [self.program(name) for name in ("etcd", "hyper", *KUBERNETES)]
        return all(path.exists() for path in [*programs, *self.images])


def cache_folder() -> Path:
    """Where unpacked and built files stay, for all clusters of this user."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "headgate" / "cluster"


def packed_folders() -> list[Path]:
    """The folders of packed files to look at."""
    given = os.environ.get(FILES_VARIABLE)
    return [Path(given)] if given else [_ROOT.parent / "shared" / "cluster"]


def find_files(sources: Sequence[Path] | None = None, cache: Path | None = None) -> ClusterFiles:
    """The files, unpacked if need be. Raises MissingError where there are none."""
    found = ClusterFiles(cache or cache_folder())
    for source in packed_folders() if sources is None else sources:
        if _newer(source, found.folder):
            _unpack(source, found.folder)
            break
    if not found.complete():
        how = f"run `make cluster-files`, which builds them once into {found.folder} (about ten minutes)"
        other = f"or let {FILES_VARIABLE} name a folder that has bin/hyper.xz and img/"
        raise MissingError([f"Kubernetes' programs and images: {how}, {other}"])
    return found


def _newer(source: Path, target: Path) -> bool:
    """Whether the packed files are there and not unpacked already."""
    if not (source / "bin" / "hyper.xz").exists():
        return False
    mark = target / "from"
    return not ClusterFiles(target).complete() or not mark.exists() or mark.read_text() != _fingerprint(source)


def _fingerprint(source: Path) -> str:
    packed = sorted([*(source / "bin").glob("*.xz"), *(source / "img").glob("*.xz")])
    return "".join(f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}\n" for path in packed)


def _unpack(source: Path, target: Path) -> None:
    """Unpack into a folder beside the target first, so that an interrupt leaves nothing half."""
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        (partial / "bin").mkdir(parents=True)
        (partial / "img").mkdir()
        etcds = [source / "bin" / "etcd.xz", source.parent / "envtest" / "bin" / "etcd.xz"]
        _unpack_file(source / "bin" / "hyper.xz", partial / "bin" / "hyper", 0o755)
        for etcd in [path for path in etcds if path.exists()][:1]:
            _unpack_file(etcd, partial / "bin" / "etcd", 0o755)
        for name in KUBERNETES:
            (partial / "bin" / name).symlink_to("hyper")
        for name in _IMAGES:
            _unpack_file(source / "img" / f"{name}.tar.xz", partial / "img" / f"{name}.tar", 0o644)
        (partial / "from").write_text(_fingerprint(source))
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _unpack_file(packed: Path, target: Path, mode: int) -> None:
    try:
        with lzma.open(packed) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
    except (OSError, lzma.LZMAError, EOFError) as error:
        raise MissingError([f"{packed}, which cannot be unpacked: {error}"]) from error
    target.chmod(mode)
