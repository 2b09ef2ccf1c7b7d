"""Packs the node's program into one executable file: a zip archive that Python runs.

A file of sources runs on every Python from 3.9. On a node, `install` adds code compiled for the Python there, because
an archive of sources alone is compiled at every start. Python ignores code that another version has compiled and takes
the sources.
"""

from __future__ import annotations

import importlib.util
import io
import os
import pkgutil
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

from node import files

START = b"import sys\n\nfrom node.__main__ import main\n\nsys.exit(main())\n"
# Of deploy/: they set up a node.
UNITS = ("headgate-node.service", "headgate-health.socket", "headgate-health.service")
SCRIPTS = ("node.sh", "node-cni.sh", "node-undo.sh", *UNITS)
ANY_PYTHON = "/usr/bin/env python3"
_WHEN = (1980, 1, 1, 0, 0, 0)  # the same sources give the same bytes
_PYC_HEADER = b"\1\0\0\0" + bytes(8)  # "unchecked hash": the sources are in the same archive, which is never changed


class BundleError(Exception):
    """The bundle cannot be made or written; says why."""


def read_sources() -> dict[str, bytes]:
    """Every file of the bundle by its name there: the modules of this package, and the scripts.

    Reads from wherever this package was loaded, also from a bundle. Raises BundleError when a part is absent.
    """
    modules = sorted(module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]))
    names = ["__init__.py", *(f"{name}.py" for name in modules), *(f"scripts/{name}" for name in SCRIPTS)]
    found = {"__main__.py": START}
    for name in names:
        try:
            data = pkgutil.get_data("node", name)
        except OSError as error:
            raise BundleError(f"{name} of the node's program cannot be read: {error}") from error
        if data is None:
            raise BundleError(f"{name} of the node's program cannot be read")
        found[f"node/{name}"] = data
    return found


def pack(sources: Mapping[str, bytes], python: str = ANY_PYTHON, compiled: bool = False) -> bytes:
    """The executable archive. `python` is the interpreter of its first line, with options; `compiled` adds code for
    the Python that runs this."""
    out = io.BytesIO()
    out.write(f"#!{python}\n".encode())
    with zipfile.ZipFile(out, "a", zipfile.ZIP_STORED) as archive:
        for name, data in sorted(sources.items()):
            _add(archive, name, data)
            if compiled and name.endswith(".py"):
                _add(archive, f"{name}c", _compiled(name, data))
    return out.getvalue()


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(name, _WHEN)
    entry.external_attr = 0o644 << 16
    archive.writestr(entry, data)


def _compiled(name: str, data: bytes) -> bytes:
    """A module as a .pyc file holds it (PEP 552)."""
    import marshal

    code = compile(data, name, "exec", dont_inherit=True)
    return importlib.util.MAGIC_NUMBER + _PYC_HEADER + marshal.dumps(code)


def write_file(path: Path, data: bytes) -> None:
    """Replace an executable file at once, so that nobody ever runs half of it. Raises BundleError."""
    try:
        files.replace_file(path, data, 0o755)
    except OSError as error:
        raise BundleError(f"{path} cannot be written: {error.strerror or error}") from error


def install(paths: list[Path]) -> None:
    """Write the program, compiled for the Python that runs this, to each path. Raises BundleError.

    A file that is so already is left alone. The interpreter is named by its full path, and started without the user's
    settings and without packages beside the standard library (-I, -S).
    """
    data = pack(read_sources(), f"{sys.executable} -IS", compiled=True)
    for path in paths:
        if not (path.is_file() and os.access(path, os.X_OK) and path.read_bytes() == data):
            write_file(path, data)
